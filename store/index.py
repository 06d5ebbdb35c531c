"""The index: a DuckDB file made from the manifests, and in memory the few that came since.

A reader never opens the index for writing. What was committed after the file was made goes into tables in the reader's
memory, so that one more run costs the same in a store of ten and of ten thousand. Once that is a notable part of the
whole, or when manifests went, the reader copies the file, brings the copy up to date, opens that copy, and moves it
over the old one: other readers keep what they have open, and two that do so at once merely do it twice. Where the
store's folder cannot be written, the copy stays in the temporary folder.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

import duckdb

from store import files, index_file, manifest, views
from store.copies import Copies
from store.errors import CorruptManifest, MissingFile, StoreFull
from store.index_file import Known
from store.layout import KINDS, Kind, Layout

log = logging.getLogger(__name__)

FRESH_RUNS: Final = 100
"""Manifests that a reader holds in memory before it brings the file up to date."""

FRESH_SHARE: Final = 1 / 32
"""And their bytes, as a part of the file's: it is copied once for so much that is new."""


class Index:
    """Connections to an index that knows every manifest.

    Args:
        layout: The store's paths.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._copies = Copies(layout)
        self._path = self._copies.folder / "index.duckdb"
        self._lock = threading.Lock()
        self._listed: dict[Kind, tuple[str, dict[str, files.Stamp]]] = {}
        self._snapshot: _Snapshot | None = None

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A connection with the views, which can read nothing else and write nothing.

        It keeps its snapshot; ask again to see what was committed since.

        Raises:
            CorruptManifest, NewerFormat: a manifest cannot be read.
        """
        with self._lock:
            while True:
                wanted: Known = {kind: self._listing(kind) for kind in KINDS}
                with contextlib.suppress(_Vanished):  # a manifest was removed meanwhile: list again
                    if self._snapshot is None:
                        self._snapshot = self._cached()
                    if self._snapshot is None or not self._refreshed(self._snapshot, wanted):
                        self._snapshot = None
                        self._snapshot = self._made_anew(wanted)
                    return self._snapshot.cursor()

    def forget(self) -> None:
        """Remove the cached file, so that the next connection makes it anew."""
        with self._lock:
            self._snapshot = None
            self._listed.clear()
            self._copies.forget()
            files.remove(self._path)

    def _listing(self, kind: Kind) -> dict[str, files.Stamp]:
        """All manifests of a kind; the last answer, if the folder says that nothing came or went."""
        version = files.version(self._layout.manifests(kind))
        if version is not None and kind in self._listed and self._listed[kind][0] == version:
            return self._listed[kind][1]
        found = self._layout.listing(kind)
        self._listed.pop(kind, None)
        if version is not None:
            self._listed[kind] = (version, found)
        return found

    def _cached(self) -> _Snapshot | None:
        connection = index_file.attach(self._path)
        return None if connection is None else _Snapshot(connection, self._path)

    def _refreshed(self, snapshot: _Snapshot, wanted: Known) -> bool:
        """Add what is new to a snapshot; False if its file should rather be made anew."""
        if snapshot.known == wanted:
            return True
        added: Known = {kind: {} for kind in KINDS}
        for kind in KINDS:
            held = snapshot.known[kind]
            added[kind] = {id: stamp for id, stamp in wanted[kind].items() if held.get(id) != stamp}
            if len(held) + len(added[kind]) != len(wanted[kind]):  # some went, or were replaced
                return False
        stamps = [stamp for kind in KINDS for stamp in added[kind].values()]
        count, nbytes = len(stamps) + snapshot.count, sum(stamp.nbytes for stamp in stamps) + snapshot.nbytes
        if count > FRESH_RUNS or nbytes > FRESH_SHARE * snapshot.file_nbytes:
            return False
        with contextlib.closing(duckdb.connect(":memory:")) as loader:
            for kind in KINDS:
                views.create(loader, kind)
                if added[kind]:
                    self._add(loader, kind, added[kind])
            snapshot.take(loader, wanted)
        snapshot.count, snapshot.nbytes = count, nbytes
        return True

    def _made_anew(self, wanted: Known) -> _Snapshot:
        """Bring a copy of the cached file up to date, which takes its place."""
        source = self._path if index_file.attach(self._path) is not None else None
        home, elsewhere = self._copies.folder, Path(tempfile.gettempdir())
        folders = [home, elsewhere] if files.writable(home) else [elsewhere]
        # From the cached index first; from nothing if it is of no use after all.
        for base, folder in itertools.product([source, None] if source else [None], folders):
            copy = folder / f".index.{files.token()}.duckdb"
            try:
                index_file.update(copy, base, wanted, self._add)
                connection = index_file.attach(copy)
                if connection is not None:
                    snapshot = _Snapshot(connection, copy)
                    if folder == home:
                        os.replace(copy, self._path)
                    return snapshot
            except (OSError, duckdb.Error) as error:
                log.info("no index from %s in %s: %s", base, folder, error)
            finally:
                copy.unlink(missing_ok=True)
                copy.with_name(copy.name + ".wal").unlink(missing_ok=True)
        raise StoreFull(f"no index can be made, neither in {home} nor in {elsewhere}: is there space left?")

    def _add(self, connection: duckdb.DuckDBPyConnection, kind: Kind, added: Mapping[str, files.Stamp]) -> None:
        try:
            paths = self._copies.paths(kind, added)
        except MissingFile as error:
            raise _Vanished from error
        try:
            views.insert(connection, kind, paths)
        except duckdb.Error as error:
            self._copies.forget(paths)
            _diagnose(kind, [self._layout.manifest(kind, id) for id in added], error)


class _Snapshot:
    """An attached index file, and tables in memory of what came since.

    Args:
        connection: As `index_file.attach` makes it.
        path: The file.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, path: Path) -> None:
        self._connection = connection
        self.file_nbytes = path.stat().st_size
        self.known = index_file.known(connection)
        self.count, self.nbytes = 0, 0
        self._round = 0

    def take(self, loader: duckdb.DuckDBPyConnection, known: Known) -> None:
        """Add the rows of a connection's tables; connections that were handed out do not see them."""
        if not self._round:
            self._connection.execute("CREATE SCHEMA fresh")
        for view in views.VIEWS:
            rows = loader.table(view).to_arrow_table()
            self._connection.register("rows", rows)
            if not self._round:
                self._connection.execute(f"CREATE TABLE fresh.{view} AS SELECT *, 0 AS round FROM index.{view} LIMIT 0")
            self._connection.execute(f"INSERT INTO fresh.{view} SELECT *, {self._round + 1} FROM rows")
            self._connection.unregister("rows")
        self.known = known
        self._round += 1

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection with the views of all that is known now."""
        cursor = self._connection.cursor()
        for view in views.VIEWS:
            parts = [f"FROM index.{view}"]
            if self._round:
                parts.append(f"SELECT * EXCLUDE (round) FROM fresh.{view} WHERE round <= {self._round}")
            cursor.execute(f"CREATE TEMP VIEW {view} AS {' UNION ALL '.join(parts)}")
        return cursor


def _diagnose(kind: Kind, paths: Sequence[files.Location], error: duckdb.Error) -> NoReturn:
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
