"""Columns of the views `runs` and `samples`: what orders the runs that are stacked, and labels them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from store import query as queries

DEFAULT: tuple[str, ...] = ("sample_id", "seed", "run_id")
"""What orders runs, behind what was asked for."""


def order(names: Sequence[str]) -> str:
    """The SQL that orders runs by some columns first."""
    return ", ".join(map(_quoted, (*names, *DEFAULT)))


def read(connection: duckdb.DuckDBPyConnection, names: Sequence[str], ids: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Some columns of some runs, in the order of `ids`.

    Args:
        connection: To the index.
        names: Columns of `runs` or `samples`.
        ids: Runs that are there.

    Returns:
        Numbers, text, truth values and times by column. NULL is NaN (whole numbers and truth values become floats),
        empty text or NaT.

    Raises:
        QueryError: a name is no column.
    """
    if not names:
        return {}
    columns = ", ".join(map(_quoted, names))
    query = f"SELECT run_id, {columns} FROM runs LEFT JOIN samples USING (sample_id) WHERE list_contains(?, run_id)"
    rows = {str(row[0]): row[1:] for row in queries.rows(connection, query, [list(ids)])}
    return {name: _plain([rows[id][place] for id in ids]) for place, name in enumerate(names)}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _plain(values: list[Any]) -> NDArray[Any]:
    """Values of one SQL type as an array that is not one of objects."""
    there = [value for value in values if value is not None]
    if all(isinstance(value, str) for value in there):
        return np.array([value or "" for value in values], str)
    if all(isinstance(value, bool | int | float) for value in there):
        return np.array(values if len(there) == len(values) else [np.nan if v is None else float(v) for v in values])
    return np.array(values, "datetime64[us]")
