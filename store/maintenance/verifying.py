"""Checking every byte of a store against its manifests.

A pass over a large store takes hours, so what was found sound is noted in a small file outside the store, and
a pass that was stopped goes on from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from tqdm import tqdm

from store import coordinates, files, seal
from store.acts import ActivationStore
from store.copies import cache_folder
from store.errors import DamagedArray, MissingFile, StoreError
from store.layout import KINDS, THREADS, Kind, Layout
from store.maintenance import contents
from store.maintenance.contents import Contents

_LOCAL_THREADS: Final = 4


class Damage(NamedTuple):
    """One file that is not what was written."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class Verified(NamedTuple):
    """What a pass found."""

    checked: int
    """Runs, samples and results that were read now."""
    earlier: int
    """Those that a pass which was stopped had found sound."""
    nbytes: int
    """Bytes read now."""
    damages: tuple[Damage, ...]


def verify(
    acts: ActivationStore, *, progress: bool = False, state: Path | None = None, fresh: bool = False
) -> Verified:
    """Read every file of a store and compare it with the checksum in its manifest.

    Args:
        acts: The store.
        progress: Show a bar with the time that is left.
        state: File that notes what was sound, removed at the end of the pass; by default in the user's cache folder.
        fresh: Forget what a stopped pass noted.

    Returns:
        Every damage, by file. What no manifest names is not looked at: see `collect`.

    Raises:
        AccessDenied, StoreUnreachable: the server does not let us read. What was noted is kept.
    """
    layout = acts.layout
    notes = _Notes(state or cache_folder(layout.root_url) / "verified.jsonl", fresh=fresh)
    checked = earlier = nbytes = 0
    damages: list[Damage] = []
    listings = {kind: layout.listing(kind) for kind in KINDS}
    bar = tqdm(total=_expected(acts), unit="B", unit_scale=True, desc="verify", disable=not progress)
    with closing(notes), bar, ThreadPoolExecutor(_LOCAL_THREADS if layout.is_local else THREADS) as pool:
        for kind in KINDS:
            for id, stamp in sorted(listings[kind].items()):
                if notes.knows(kind, id, stamp):
                    earlier += 1
                    continue
                found, read = _check(layout, kind, id, pool, bar)
                checked, nbytes = checked + 1, nbytes + read
                damages += found
                if not found:
                    notes.add(kind, id, stamp)
    notes.finish()
    return Verified(checked, earlier, nbytes, tuple(damages))


class _Notes:
    """What was found sound, a line each: a file that is cut short loses one line.

    Args:
        path: The file.
        fresh: Begin it anew.
    """

    def __init__(self, path: Path, *, fresh: bool) -> None:
        self._path = path
        self._known = set[tuple[str, ...]]() if fresh else set(_lines(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w" if fresh else "a")

    def knows(self, kind: Kind, id: str, stamp: files.Stamp) -> bool:
        """Whether this very manifest was sound, and its files."""
        return (kind, id, stamp.version) in self._known

    def add(self, kind: Kind, id: str, stamp: files.Stamp) -> None:
        """Note it, at once on disk."""
        self._file.write(json.dumps([kind, id, stamp.version]) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Keep the notes for the next pass."""
        self._file.close()

    def finish(self) -> None:
        """The pass is complete: the next one begins anew."""
        self._path.unlink(missing_ok=True)


def _lines(path: Path) -> Iterator[tuple[str, ...]]:
    if path.is_file():
        for line in path.read_text().splitlines():
            try:
                yield tuple(json.loads(line))
            except ValueError:
                return


def _expected(acts: ActivationStore) -> int | None:
    """Bytes of all runs' values, for the bar; None where a manifest is damaged, or without DuckDB."""
    try:
        return int(acts.sql("SELECT coalesce(sum(stored), 0) FROM runs").fetchall()[0][0])
    except (StoreError, ImportError):
        return None


def _check(layout: Layout, kind: Kind, id: str, pool: ThreadPoolExecutor, bar: Any) -> tuple[list[Damage], int]:
    """Damages of one run, sample or result, and how many bytes were read."""
    path = layout.manifest(kind, id)
    try:
        data = files.read(path)
        promised = contents.read(layout, kind, id)
    except MissingFile:  # removed since it was listed
        return [], 0
    except (StoreError, FileNotFoundError) as error:
        if isinstance(error, ConnectionError | PermissionError):
            raise
        return [Damage(str(path), str(error))], 0
    damages: list[Damage] = []
    if (promised.metadata is not None or seal.is_sealed(data)) and not seal.is_sound(data):
        damages.append(Damage(str(path), "its checksum is wrong; restore it from a copy"))
    there = {name: found.nbytes for name, found in files.tree(promised.folder).items()}

    def check(name: str) -> Damage | None:
        nbytes, crc = promised.listed[name]
        problem = _problem(promised.folder / name, there.get(name), nbytes, crc)
        if kind == "runs" and name in promised.values:  # what the bar's total counts
            bar.update(nbytes)
        return Damage(str(promised.folder / name), problem) if problem else None

    damages += [damage for damage in pool.map(check, promised.listed) if damage]
    if promised.metadata is None:
        damages += _check_unlisted(promised, there)
    return damages, len(data) + sum(nbytes for nbytes, _ in promised.listed.values())


def _problem(path: files.Location, found: int | None, nbytes: int, crc: str) -> str:
    """What is wrong with one file; empty if nothing is."""
    if found is None:
        return "it is missing; restore it from a copy, or make it again"
    if found != nbytes:
        return f"it has {found} bytes instead of {nbytes}; restore it from a copy, or make it again"
    try:
        return "" if files.checksum(path) == crc else "its checksum is wrong; restore it from a copy, or make it again"
    except DamagedArray as error:
        return str(error)


def _check_unlisted(promised: Contents, there: dict[str, int]) -> list[Damage]:
    """Damages among files without a checksum in the manifest, from their own: older manifests list only values."""
    damages: list[Damage] = []
    for name in sorted(there.keys() - promised.values.keys()):
        if name.rpartition("/")[2] != "zarr.json":
            continue
        folder = promised.folder.joinpath(*name.split("/")[:-1])
        try:
            if json.loads(files.read(folder / name.rpartition("/")[2]))["node_type"] == "group":
                coordinates.read(folder, ())
        except (ValueError, KeyError, TypeError) as error:
            damages.append(Damage(str(promised.folder / name), str(error) or "it makes no sense"))
    return damages
