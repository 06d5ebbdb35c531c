"""What lies behind a figure: its numbers as a file, and the Python that makes both again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

from analyses import Result

CSV_BYTES: Final = 200_000
"""A table that is larger is left to the Python beside it."""
_SAFE: Final = " ,-.:;()=/"
"""Characters of a table that a `data:` address takes as they are."""


class Table(NamedTuple):
    """One quantity of a result."""

    name: str
    uri: str
    """`data:` address of its CSV; empty where that is too large for a page."""


def tables(result: Result, quantities: Sequence[str]) -> tuple[Table, ...]:
    """The quantities as CSV, a row a cell, with the ends of their intervals beside them."""
    return tuple(Table(f"{name}.csv", _csv(result, name)) for name in quantities if name in result.to_dataset())


def _csv(result: Result, name: str) -> str:
    if result.to_dataset()[name].size > CSV_BYTES // 4:
        return ""
    frame = result.to_dataframe(name)
    # A dataset has its labels in any order; the same inputs shall give the same bytes.
    values = [column for column in (name, f"{name}_low", f"{name}_high") if column in frame]
    frame = frame[[*sorted(set(map(str, frame.columns)) - set(values)), *values]]
    text = frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    uri = f"data:text/csv;charset=utf-8,{quote(text, safe=_SAFE)}"
    return uri if len(uri) <= CSV_BYTES else ""


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
