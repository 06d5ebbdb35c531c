"""Clearing up what no manifest names: folders of writers that crashed, and temporary files."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from store import files
from store.acts import ActivationStore
from store.errors import ReadOnlyStore, StoreError
from store.layout import KINDS, MARKER, Kind, Layout
from store.maintenance import contents

GRACE_S: Final = 24 * 3600.0
"""A writer that wrote nothing for this long is taken for dead."""

_OURS: Final = re.compile(rf"\.(index\.[0-9a-f]+\.duckdb(\.wal)?|{re.escape(MARKER)}\.[0-9a-f]+{files.TEMPORARY})")


class Leftover(NamedTuple):
    """A folder or file that belongs to nothing."""

    path: str
    nbytes: int
    files: int
    age_s: float
    """Seconds since anything in it was last written."""


class Collected(NamedTuple):
    """What `collect` found."""

    leftovers: tuple[Leftover, ...]
    """Older than the grace period: removed, or to be removed."""
    young: tuple[Leftover, ...]
    """Left alone: a writer may be at work there."""
    removed: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the leftovers."""
        return sum(one.nbytes for one in self.leftovers)


def collect(acts: ActivationStore, *, grace_s: float = GRACE_S, remove: bool = False) -> Collected:
    """Find what no manifest names, and with `remove` remove it.

    A run that somebody is writing has no manifest either; it is told from a dead one by when anything in its
    folder was last written. So choose a grace period longer than a writer may pause.

    Args:
        acts: The store; opened with mode `a` to remove.
        grace_s: Seconds; younger things are left alone.
        remove: Remove, not only tell.

    Raises:
        ReadOnlyStore: `remove` was asked of a store opened for reading.
        AccessDenied, StoreUnreachable: the server refuses.
        StoreError: something could not be removed.
    """
    if remove and not acts.writable:
        raise ReadOnlyStore(f"{acts.path} was opened for reading; open it with mode='a' to remove")
    layout, now = acts.layout, time.time()
    old: list[Leftover] = []
    young: list[Leftover] = []
    for kind in KINDS:
        for path in _unnamed(layout, kind):
            leftover = _measure(path, now)
            (old if leftover.age_s > grace_s else young).append(leftover)
            if remove and leftover.age_s > grace_s and not _is_named(layout, kind, path.name):
                files.remove_tree(path)
                if files.tree(path):
                    raise StoreError(f"{path} cannot be removed; check who may write there")
    for path, found in _temporary(layout):
        leftover = Leftover(str(path), found.nbytes, 1, now - found.modified)
        (old if leftover.age_s > grace_s else young).append(leftover)
        if remove and leftover.age_s > grace_s:
            files.remove(path)
    return Collected(tuple(old), tuple(young), remove)


def _unnamed(layout: Layout, kind: Kind) -> list[files.Location]:
    """Folders of one kind that no manifest names."""
    folder = layout.folder(kind)
    there = files.names(folder)  # first: what is committed meanwhile is then known as named
    named = _named(layout, kind)
    return [folder / name for name in there if name not in named and files.kind(folder / name) == "folder"]


def _named(layout: Layout, kind: Kind) -> _Names:
    """Names of the folders that manifests name."""
    return _Names(layout.each(lambda id: _name(layout, kind, id), layout.ids(kind)))


def _is_named(layout: Layout, kind: Kind, folder: str) -> bool:
    """Whether a folder became visible since it was listed."""
    return folder in _Names([_name(layout, kind, folder.partition(".")[0])])


class _Names:
    """Names of folders; all of an id whose manifest cannot be read, since one of them is the real one.

    Args:
        names: A folder's name, or `<id>*`.
    """

    def __init__(self, names: list[str]) -> None:
        self._whole = {name for name in names if not name.endswith("*")}
        self._ids = {name[:-1] for name in names if name.endswith("*")}

    def __contains__(self, name: str) -> bool:
        return name in self._whole or name.partition(".")[0] in self._ids


def _name(layout: Layout, kind: Kind, id: str) -> str:
    try:
        return contents.read(layout, kind, id).folder.name
    except FileNotFoundError:  # removed since it was listed: it names nothing
        return ""
    except StoreError as error:
        if isinstance(error, ConnectionError | PermissionError):
            raise
        return f"{id}*"


def _measure(path: files.Location, now: float) -> Leftover:
    found = files.tree(path)
    times = [one.modified for one in found.values()]
    if isinstance(path, Path):  # an empty folder has an age as well
        times.append(path.stat().st_mtime)
    return Leftover(str(path), sum(one.nbytes for one in found.values()), len(found), now - max(times, default=now))


def _temporary(layout: Layout) -> Iterator[tuple[files.Location, files.Found]]:
    """Files that were never published, and copies of the index that were never used."""
    for kind in KINDS:
        folder = layout.manifests(kind)
        for name, found in files.tree(folder).items():
            if name.startswith(".") and name.endswith(files.TEMPORARY):
                yield folder / name, found
    for name in files.names(layout.root):
        path = layout.root / name
        if isinstance(path, Path) and _OURS.fullmatch(name):
            status = path.stat()
            yield path, files.Found(status.st_size, status.st_mtime)
