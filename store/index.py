"""The index: a DuckDB file made from the manifests, thrown away and made again at will.

A reader never opens the index for writing. When manifests came or went, it copies the file, brings the
copy up to date, opens that copy, and moves it over the old one: other readers keep what they have
open, and two that do so at once merely do it twice. Where the store's folder cannot be written, the
copy stays in the temporary folder.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

import duckdb

from store import files, manifest
from store.errors import CorruptManifest, StoreFull
from store.layout import KINDS, Kind, Layout
from store.records import FORMAT

log = logging.getLogger(__name__)

VERSION: Final = 1
"""Raised when the tables below change: an index of another version is made again."""

Known = dict[Kind, dict[str, files.Stamp]]
"""Which manifests an index holds, or should."""

_TABLES: Final[dict[str, tuple[Kind, str]]] = {
    "runs": (
        "runs",
        """run_id, sample_id, model, revision, weight_hash, pipeline, dtype, seed, steps, guidance, height, width,
        frames, scheduler, interventions, capture, parent_id, try_cast(started AS TIMESTAMP) AS started, seconds,
        git_commit, git_dirty, device, host, nbytes, stored, path, record FROM manifests""",
    ),
    "samples": (
        "samples",
        """sample_id, family, difficulty, split, prompt, negative_prompt, answers, labels, has_video FROM manifests""",
    ),
    "steps": (
        "runs",
        """run_id, s.step, s.timestep, s.sigma, s.sigma_next, s.expert, s.guidance
        FROM (SELECT run_id, unnest(trajectory) AS s FROM manifests)""",
    ),
    "arrays": (
        "runs",
        """run_id, a.site, a.reduction, a.dims, a.shape, a.dtype, a.nbytes, a.stored, len(a.shards) AS files
        FROM (SELECT run_id, unnest(arrays) AS a FROM manifests)""",
    ),
    "token_stats": (
        "runs",
        """run_id, t.site, t.branch, t.step, t.layer, t.frame, t.mean, t.std, t.max, t.p99
        FROM (SELECT run_id, unnest(token_stats) AS t FROM manifests)""",
    ),
    "scores": (
        "runs",
        """run_id, s.scorer, s.metric, s.value, s.step FROM (SELECT run_id, unnest(scores) AS s FROM manifests)""",
    ),
    "results": (
        "results",
        """result_id, analysis, version, verdict, finding, n, run_ids, params, summary,
        try_cast(started AS TIMESTAMP) AS started, path FROM manifests""",
    ),
}
"""The public views: of which kind of manifest each is made, and how."""

VIEWS: Final = tuple(_TABLES)


class Index:
    """Connections to an index that knows every manifest.

    Args:
        layout: The store's paths.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock = threading.Lock()
        self._known: Known | None = None
        self._connection: duckdb.DuckDBPyConnection | None = None

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A connection with the views, which can read nothing else and write nothing.

        It keeps its snapshot; ask again to see what was committed since.

        Raises:
            CorruptManifest, NewerFormat: a manifest cannot be read.
        """
        with self._lock:
            while True:
                wanted: Known = {kind: self._layout.listing(kind) for kind in KINDS}
                if self._connection is not None and self._known == wanted:
                    return self._connection.cursor()
                with contextlib.suppress(_Vanished):  # a manifest was removed meanwhile: list again
                    self._connection = self._open_current(wanted)
                    self._known = wanted
                    return self._connection.cursor()

    def forget(self) -> None:
        """Remove the cached file, so that the next connection makes it anew."""
        with self._lock:
            self._connection = self._known = None
            with files.translated(self._layout.index):
                self._layout.index.unlink(missing_ok=True)

    def _open_current(self, wanted: Known) -> duckdb.DuckDBPyConnection:
        """Open the cached index if it is up to date, else a copy that is, which takes the cached one's place."""
        cached = _open(self._layout.index)
        if cached is not None and _known(cached, "index.private") == wanted:
            return cached
        root, elsewhere = self._layout.root, Path(tempfile.gettempdir())
        folders = [root, elsewhere] if files.writable(root) else [elsewhere]
        # From the cached index first; from nothing if it is of no use after all.
        for source, folder in itertools.product([self._layout.index, None] if cached else [None], folders):
            copy = folder / f".index.{files.token()}.duckdb"
            try:
                _update(copy, source, self._layout, wanted)
                connection = _open(copy)
                if connection is not None:
                    if folder == root:
                        os.replace(copy, self._layout.index)
                    return connection
            except (OSError, duckdb.Error) as error:
                log.info("no index from %s in %s: %s", source, folder, error)
            finally:
                copy.unlink(missing_ok=True)
                copy.with_name(copy.name + ".wal").unlink(missing_ok=True)
        raise StoreFull(f"no index can be made, neither in {root} nor in {elsewhere}: is there space left?")


def _open(path: Path) -> duckdb.DuckDBPyConnection | None:
    """The index at `path` behind a locked-down connection; None if there is none that works.

    An own in-memory database attaches the file: connecting to a path would share what this process
    has open under that name, though another file may be there by now.
    """
    if not path.is_file():
        return None
    config = {"python_enable_replacements": "false", "autoinstall_known_extensions": "false"}
    connection = duckdb.connect(":memory:", config={**config, "autoload_known_extensions": "false"})
    try:
        connection.execute(f"ATTACH {_quoted(str(path))} AS index (READ_ONLY)")
        for setting in ("temp_directory = ''", "enable_external_access = false", "lock_configuration = true"):
            connection.execute(f"SET {setting}")
        size = "SELECT block_size * total_blocks FROM pragma_database_size() WHERE database_name = 'index'"
        if path.stat().st_size < connection.execute(size).fetchall()[0][0]:
            return None  # cut short: DuckDB would notice when it reads what is missing
        if connection.execute("SELECT version FROM index.private.about").fetchall() != [(VERSION,)]:
            return None
        for view in VIEWS:
            connection.execute(f"CREATE VIEW {view} AS FROM index.{view}")
    except (OSError, duckdb.Error) as error:
        log.info("the index %s is of no use and will be made again: %s", path, error)
        return None
    return connection


def _known(connection: duckdb.DuckDBPyConnection, schema: str) -> Known:
    known: Known = {kind: {} for kind in KINDS}
    for kind, id, nbytes, mtime_ns in connection.execute(f"FROM {schema}.manifests").fetchall():
        known[kind][id] = files.Stamp(nbytes, mtime_ns)
    return known


def _update(path: Path, source: Path | None, layout: Layout, wanted: Known) -> None:
    """Make `path` an index that holds exactly `wanted`, from a copy of `source` where there is one."""
    if source is not None:
        shutil.copyfile(source, path)
    with contextlib.closing(duckdb.connect(str(path))) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS private")
        connection.execute(f"CREATE OR REPLACE TABLE private.about AS SELECT {VERSION} AS version")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS private.manifests (kind VARCHAR, id VARCHAR, nbytes BIGINT, mtime_ns BIGINT)"
        )
        known = _known(connection, "private")
        for kind in KINDS:
            gone = [id for id, stamp in known[kind].items() if wanted[kind].get(id) != stamp]
            added = {id: stamp for id, stamp in wanted[kind].items() if known[kind].get(id) != stamp}
            _remove(connection, kind, gone)
            _add(connection, layout, kind, added)


def _remove(connection: duckdb.DuckDBPyConnection, kind: Kind, ids: Sequence[str]) -> None:
    if ids:
        for table, _ in _tables(kind):
            connection.execute(f"DELETE FROM {table} WHERE {kind[:-1]}_id IN (SELECT unnest(?))", [ids])
        connection.execute("DELETE FROM private.manifests WHERE kind = ? AND id IN (SELECT unnest(?))", [kind, ids])


def _add(connection: duckdb.DuckDBPyConnection, layout: Layout, kind: Kind, added: Mapping[str, files.Stamp]) -> None:
    connection.register("manifests", manifest.SCHEMAS[kind].empty_table())
    for table, columns in _tables(kind):
        connection.execute(f"CREATE TABLE IF NOT EXISTS {table} AS SELECT {columns}")
    connection.unregister("manifests")
    if not added:
        return
    paths = [layout.manifest(kind, id) for id in added]
    try:
        _insert(connection, kind, paths)
    except duckdb.Error as error:
        _diagnose(kind, paths, error)
    rows = [(kind, id, *stamp) for id, stamp in added.items()]
    connection.executemany("INSERT INTO private.manifests VALUES (?, ?, ?, ?)", rows)


def _insert(connection: duckdb.DuckDBPyConnection, kind: Kind, paths: Sequence[Path]) -> None:
    listed = ", ".join(_quoted(str(path)) for path in paths)
    connection.execute(f"CREATE TEMP VIEW manifests AS FROM read_parquet([{listed}])")
    newest = connection.execute("SELECT max(format) FROM manifests").fetchall()[0][0]
    if newest > FORMAT:
        _diagnose(kind, paths, duckdb.Error(f"format {newest}"))
    for table, columns in _tables(kind):
        connection.execute(f"INSERT INTO {table} SELECT {columns}")
    connection.execute("DROP VIEW manifests")


def _diagnose(kind: Kind, paths: Sequence[Path], error: duckdb.Error) -> NoReturn:
    """Say which manifest is to blame: reading one by one is slow, so only once something failed."""
    for path in paths:
        try:
            manifest.check(path, kind)
        except FileNotFoundError:
            raise _Vanished from error
    if isinstance(error, duckdb.IOException):  # the disk of the index, not the manifests
        raise error
    raise CorruptManifest(f"the manifests of {kind} do not fit together: {str(error).splitlines()[0]}") from error


class _Vanished(Exception):
    """A manifest was removed between listing and reading."""


def _tables(kind: Kind) -> list[tuple[str, str]]:
    """Tables made of one kind's manifests, with what they select from `manifests`."""
    return [(table, columns) for table, (source, columns) in _TABLES.items() if source == kind]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
