"""Copying runs from one store to another, wherever the two are.

A run's files go first and are checked on arrival, its manifest comes last: what is visible is whole. A copy that was
stopped goes on in the folder it had begun, with the files that are not there yet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, NamedTuple

from tqdm import tqdm

from store import files, manifest, seal
from store.acts import ActivationStore
from store.errors import CorruptManifest, DamagedArray, ReadOnlyStore
from store.layout import Kind
from store.maintenance import contents
from store.query import Params

ORDER: Final[tuple[Kind, ...]] = ("samples", "runs", "results")
"""Samples before the runs that refer to them, results after."""

_THREADS: Final = 8
_BLOCK: Final = 8 << 20  # bytes of a file that are held at once


class Copied(NamedTuple):
    """What `copy` did."""

    runs: int
    samples: int
    results: int
    already: int
    """Runs, samples and results that were there."""
    nbytes: int
    """Bytes of files that were sent now."""


def copy(
    source: ActivationStore,
    target: ActivationStore,
    *,
    where: str | None = None,
    params: Params = None,
    progress: bool = False,
) -> Copied:
    """Copy runs with their samples, and the results that are about them alone.

    Args:
        source: From here.
        target: To here; opened with mode `a`.
        where: SQL condition on the columns of `runs` and `samples`; without it, everything is copied.
        params: Values for its `?` or `$name`.
        progress: Show a bar.

    Raises:
        DamagedArray: a file of `source` is not what its manifest says, or one did not arrive as it was sent. What was
            copied before stays.
        ReadOnlyStore, StoreFull, AccessDenied, StoreUnreachable: see `store.open`.
        QueryError: `where` is wrong.
    """
    if not target.writable:
        raise ReadOnlyStore(f"{target.path} was opened for reading; open it with mode='a' to copy into it")
    plan = _plan(source, where, params)
    todo: list[tuple[Kind, str]] = [
        (kind, id) for kind in ORDER for id in plan[kind] if not target.layout.has(kind, id)
    ]
    done: dict[Kind, int] = dict.fromkeys(ORDER, 0)
    nbytes = 0
    bar = tqdm(total=len(todo), unit="thing", desc="copy", disable=not progress)
    with bar, ThreadPoolExecutor(_THREADS) as pool:
        for kind, id in todo:
            sent = _copy_one(source, target, kind, id, pool)
            bar.set_postfix_str(f"{nbytes / 1e9:.2f} GB")
            bar.update()
            nbytes += sent or 0
            done[kind] += sent is not None
    already = sum(map(len, plan.values())) - sum(done.values())
    return Copied(done["runs"], done["samples"], done["results"], already, nbytes)


def _plan(source: ActivationStore, where: str | None, params: Params) -> dict[Kind, list[str]]:
    """Ids to copy."""
    if where is None:
        return {"samples": source.sample_ids(), "runs": source.run_ids(), "results": source.result_ids()}
    chosen = source.run_ids(where, params)
    ids = set(chosen)
    rows = source.sql("SELECT DISTINCT run_id, sample_id FROM runs").fetchall()
    results = source.sql("SELECT result_id, run_ids FROM results ORDER BY result_id").fetchall()
    return {
        "samples": sorted({sample for run, sample in rows if run in ids} & set(source.sample_ids())),
        "runs": chosen,
        "results": [str(result) for result, runs in results if ids.issuperset(runs)],
    }


def _copy_one(
    source: ActivationStore, target: ActivationStore, kind: Kind, id: str, pool: ThreadPoolExecutor
) -> int | None:
    """Bytes sent for one run, sample or result; None if another writer made it visible first."""
    promised = contents.read(source.layout, kind, id)
    there = {name: found.nbytes for name, found in files.tree(promised.folder).items()}
    wanted = {**{name: (nbytes, "") for name, nbytes in there.items()}, **promised.listed}
    if promised.metadata is not None:
        wanted = promised.listed
    # A name of its own for each source: another attempt finds what this one wrote, and no other writer uses it.
    mark = hashlib.sha256(source.layout.root_url.encode()).hexdigest()[:12]
    folder = target.layout.folder(kind) / f"{id}.copy-{mark}"
    data = files.read(source.layout.manifest(kind, id))
    if promised.metadata is not None and not seal.is_sound(data):
        raise CorruptManifest(f"the checksum of {source.layout.manifest(kind, id)} is wrong; leave it out with where")
    data = manifest.moved(data, f"{kind}/{folder.name}")
    arrived = files.tree(folder)
    _make_folders(folder, wanted)
    send = partial(_send, promised.folder, folder, wanted, arrived)
    sent = sum(pool.map(send, sorted(wanted)))
    _check_arrived(folder, wanted)
    files.sync_tree(folder)
    goal = target.layout.manifest(kind, id)
    files.make_folder(goal.parent)
    if files.publish(goal, data):
        return sent
    if contents.read(target.layout, kind, id).folder != folder:
        files.remove_tree(folder)
    return None


def _make_folders(folder: files.Location, wanted: Collection[str]) -> None:
    for parent in sorted({name.rpartition("/")[0] for name in wanted}):
        files.make_folder(folder.joinpath(*parent.split("/")) if parent else folder)


def _send(
    source: files.Location,
    target: files.Location,
    wanted: manifest.Files,
    arrived: dict[str, files.Found],
    name: str,
) -> int:
    """Copy one file unless it has arrived before; how many bytes were sent."""
    nbytes, crc = wanted[name]
    crc = crc or files.checksum(source / name)
    if name in arrived:
        if arrived[name].nbytes == nbytes and files.checksum(target / name) == crc:
            return 0
        files.remove(target / name)
    written = files.write_new(target / name, _blocks(source / name))
    if written != (nbytes, crc):
        files.remove(target / name)
        raise DamagedArray(
            f"{source / name} is not what its manifest says; run `stepscope store verify` there, and leave out the "
            "damaged runs with where"
        )
    if files.checksum(target / name) != crc:
        raise DamagedArray(f"{target / name} did not arrive as it was sent; copy again, and check the disk")
    return nbytes


def _blocks(path: files.Location) -> Iterator[bytes]:
    with files.Reader(path) as reader:
        for offset in range(0, reader.nbytes, _BLOCK):
            yield reader.read(offset, min(_BLOCK, reader.nbytes - offset))


def _check_arrived(folder: files.Location, wanted: manifest.Files) -> None:
    """Raise DamagedArray unless every file is there: another copy from the same source may be at work here."""
    there = files.tree(folder)
    for name, (nbytes, _) in wanted.items():
        if name not in there or there[name].nbytes != nbytes:
            raise DamagedArray(f"{folder / name} changed while it was copied; is another copy at work? Copy again")
