"""The index's file: made from manifests or from an older one, attached read-only, of use or not."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb
import pyarrow as pa

from store import files, views
from store.layout import KINDS, Kind

log = logging.getLogger(__name__)

Known = dict[Kind, dict[str, files.Stamp]]
"""Which manifests an index holds, or should."""

Add = Callable[[duckdb.DuckDBPyConnection, Kind, Mapping[str, files.Stamp]], None]
"""Adds manifests to the tables of a connection."""


def attach(path: Path) -> duckdb.DuckDBPyConnection | None:
    """The index at `path` as the database `index` of a locked-down connection; None if there is none that works.

    An own in-memory database attaches the file: connecting to a path would share what this process
    has open under that name, though another file may be there by now.
    """
    if not path.is_file():
        return None
    config = {"python_enable_replacements": "false", "autoinstall_known_extensions": "false"}
    connection = duckdb.connect(":memory:", config={**config, "autoload_known_extensions": "false"})
    try:
        connection.execute(f"ATTACH {views.quoted(str(path))} AS index (READ_ONLY)")
        for setting in ("temp_directory = ''", "enable_external_access = false", "lock_configuration = true"):
            connection.execute(f"SET {setting}")
        size = "SELECT block_size * total_blocks FROM pragma_database_size() WHERE database_name = 'index'"
        if path.stat().st_size < connection.execute(size).fetchall()[0][0]:
            return None  # cut short: DuckDB would notice when it reads what is missing
        if connection.execute("SELECT version FROM index.private.about").fetchall() != [(views.VERSION,)]:
            return None
        for view in views.VIEWS:
            connection.execute(f"FROM index.{view} LIMIT 0")
    except (OSError, duckdb.Error) as error:
        log.info("the index %s is of no use and will be made again: %s", path, error)
        return None
    return connection


def known(connection: duckdb.DuckDBPyConnection, schema: str = "index.private") -> Known:
    """The manifests that an index holds."""
    found: Known = {kind: {} for kind in KINDS}
    for kind, id, nbytes, version in connection.execute(f"FROM {schema}.manifests").fetchall():
        found[kind][id] = files.Stamp(nbytes, version)
    return found


def update(path: Path, source: Path | None, wanted: Known, add: Add) -> None:
    """Make `path` an index that holds exactly `wanted`, from a copy of `source` where there is one."""
    if source is not None:
        shutil.copyfile(source, path)
    with contextlib.closing(duckdb.connect(str(path))) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS private")
        connection.execute(f"CREATE OR REPLACE TABLE private.about AS SELECT {views.VERSION} AS version")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS private.manifests (kind VARCHAR, id VARCHAR, nbytes BIGINT, version VARCHAR)"
        )
        held = known(connection, "private")
        for kind in KINDS:
            views.create(connection, kind)
            gone = [id for id, stamp in held[kind].items() if wanted[kind].get(id) != stamp]
            views.remove(connection, kind, gone)
            # In the order of ids, which the rows keep: a look for one run then skips all blocks but its own.
            added = {id: stamp for id, stamp in sorted(wanted[kind].items()) if held[kind].get(id) != stamp}
            if added:
                add(connection, kind, added)
        rows = [(kind, id, *stamp) for kind in KINDS for id, stamp in wanted[kind].items()]
        columns = [[row[place] for row in rows] for place in range(4)]
        kinds = [pa.string(), pa.string(), pa.int64(), pa.string()]
        arrays = [pa.array(*pair) for pair in zip(columns, kinds, strict=True)]
        table = pa.table(arrays, ["kind", "id", "nbytes", "version"])
        connection.execute("DELETE FROM private.manifests")
        connection.register("rows", table)
        connection.execute("INSERT INTO private.manifests FROM rows")
        connection.unregister("rows")
