"""`stepscope sql`: one SELECT over a store."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from stepscope_commands._options import Json, Store
from stepscope_commands._printing import print_json, print_table


def sql(
    query: Annotated[
        str, Parameter(help="One SELECT over runs, samples, steps, arrays, token_stats, scores, results.")
    ],
    *,
    store: Store,
    json_: Json = False,
) -> None:
    """Ask a store in SQL (DuckDB); read-only."""
    import duckdb

    import store as store_package

    relation = store_package.open(store).sql(query)
    columns = relation.columns
    try:
        rows = relation.fetchall()
    except duckdb.Error as error:  # relations are lazy: a cast fails when its row is made
        raise store_package.QueryError(str(error)) from error
    if json_:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)
