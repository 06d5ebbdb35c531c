"""What lies behind a figure: its numbers as a file, and the Python that makes both again."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final, NamedTuple

import pandas as pd

from analyses import Result
from reports._beside import Place

MOST_CELLS: Final = 2_000_000
"""A table with more rows is left to the Python beside it."""
SHORT: Final = 50_000
"""Rows up to which a table is tried as text, which every program opens."""


class Table(NamedTuple):
    """One quantity of a result."""

    name: str
    uri: str
    """Where it is to be had; empty where it is too large for a page."""


def tables(result: Result, quantities: Sequence[str], place: Place) -> tuple[Table, ...]:
    """The quantities beside the ends of their intervals, a row a cell: CSV, or Parquet where they are many."""
    return tuple(_table(result, name, place) for name in quantities if name in result.to_dataset())


def _table(result: Result, name: str, place: Place) -> Table:
    cells = result.to_dataset()[name].size
    if cells <= MOST_CELLS:
        frame = _frame(result, name)
        if cells <= SHORT:
            text = frame.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()
            if len(text) <= place.table_bytes:
                return Table(f"{name}.csv", place.table(name, "csv", text))
        packed = _parquet(frame)
        if len(packed) <= place.table_bytes:
            return Table(f"{name}.parquet", place.table(name, "parquet", packed))
    return Table(name, "")


def _frame(result: Result, name: str) -> pd.DataFrame:
    """Labels, then values: a dataset has its labels in any order; the same inputs shall give the same bytes."""
    frame = result.to_dataframe(name)
    values = [column for column in (name, f"{name}_low", f"{name}_high") if column in frame]
    return frame.reindex(columns=[*sorted(set(map(str, frame.columns)) - set(values)), *values])


def _parquet(frame: pd.DataFrame) -> bytes:
    data = io.BytesIO()
    frame.to_parquet(data, engine="pyarrow", compression="zstd", index=False)
    return data.getvalue()


def python(result: Result, quantities: Sequence[str]) -> str:
    """Lines that read the result from its store, give these numbers as data frames, and draw its figures."""
    lines = [
        "import analyses, reports, store",
        'acts = store.open("ACTS")  # the folder or address of the store',
        f"result = analyses.load(acts, {result.id!r})",
        *(f"result.to_dataframe({name!r})" for name in quantities if name in result.to_dataset()),
        'reports.write(acts, "again.html", results=[result])',
    ]
    return "\n".join(lines)
