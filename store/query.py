"""SQL from outside: one SELECT on the views, or one clear error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from store.errors import QueryError
from store.views import VIEWS

Params = Sequence[Any] | Mapping[str, Any] | None
"""Values for `?` (a sequence) or `$name` (a mapping) in a query."""


Frame = Any
"""A table that a query may name: a data frame of polars (also lazy) or pandas, or an Arrow table."""


def run(
    connection: duckdb.DuckDBPyConnection, query: str, params: Params = None, frames: Mapping[str, Frame] | None = None
) -> duckdb.DuckDBPyRelation:
    """The relation that `query` selects from the views and from `frames`.

    The connection is locked down as well (see `store.index`); this check gives the better error.

    Raises:
        QueryError: not exactly one statement, not one that selects, or one that DuckDB refuses.
    """
    if taken := [name for name in frames or {} if name in VIEWS]:
        raise QueryError(f"{taken[0]} is a view of the store; give your table another name")
    try:
        for name, frame in (frames or {}).items():
            connection.register(name, frame)
        statements = connection.extract_statements(query)
        kinds = [statement.type for statement in statements]
        if len(kinds) != 1:
            raise QueryError(f"give one SELECT, not {len(kinds)} statements")
        if kinds[0] != duckdb.StatementType.SELECT:
            raise QueryError(f"only SELECT is allowed here, not {kinds[0].name}; the views are {', '.join(VIEWS)}")
        values = None if params is None else dict(params) if isinstance(params, Mapping) else list(params)
        return connection.sql(query, params=values)
    except duckdb.Error as error:
        raise QueryError(_one_line(error)) from error


def rows(connection: duckdb.DuckDBPyConnection, query: str, params: Params = None) -> list[tuple[Any, ...]]:
    """All rows of what `query` selects; what fails only while it runs is a QueryError as well."""
    relation = run(connection, query, params)
    try:
        return relation.fetchall()
    except duckdb.Error as error:
        raise QueryError(_one_line(error)) from error


def _one_line(error: duckdb.Error) -> str:
    message = str(error).strip().split("\n\n")[0].replace("\n", " ")
    if isinstance(error, duckdb.CatalogException):
        message += f"; the views are {', '.join(VIEWS)}"
    return message
