"""Ways to write the same layer-steps of bfloat16 until they are durable: ours, and those of others."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorstore
import zarr
from _memory import Peak
from numpy.typing import NDArray

import store
from _frame import Report, interleaved
from store import threads

Cells = Sequence[NDArray[np.uint16]]
"""Layer-steps `[frame, y, x, channel]` of one size."""

AXES: Final = ("step", "layer", "frame", "y", "x", "channel")
_DIRECT: Final = 16 << 20


def run(seed: int = 0) -> store.Run:
    """Something to write under."""
    settings = store.SamplerSettings(steps=1, guidance=1.0, height=480, width=832, frames=81, scheduler="none")
    model = store.ModelRef(id="benchmark", weight_hash="0" * 64, pipeline="none", dtype="bfloat16")
    capture = store.CaptureSpec(items=(store.CaptureItem(site="resid_post", reduction="full"),))
    return store.Run(model=model, sample_id="0" * 16, seed=seed, settings=settings, capture=capture)


def steps(count: int) -> list[store.StepInfo]:
    """A trajectory of so many steps."""
    fields: dict[str, Any] = {
        "timestep": 0.0,
        "sigma": 0.5,
        "sigma_next": 0.0,
        "expert": "transformer",
        "guidance": 1.0,
    }
    return [store.StepInfo(step=step, **fields) for step in range(count)]


def ours(acts: store.ActivationStore, cells: Cells, *, layers: int, seed: int = 0, **options: Any) -> str:
    """One committed run of these cells, `layers` of them a step."""
    count = len(cells) // layers
    with acts.begin_run(run(seed), store.Provenance(started="2026-01-01T00:00:00+00:00")) as writer:
        writer.add_array(
            "resid_post",
            "full",
            dims=AXES,
            shape=(count, layers, *cells[0].shape),
            dtype="bfloat16",
            coords={"step": range(count), "layer": range(layers)},
            **options,
        )
        for number, cell in enumerate(cells):
            writer.write("resid_post", "full", {"step": number // layers, "layer": number % layers}, cell)
        writer.set_steps(steps(count))
        return writer.commit(1.0)


def raw(folder: Path, cells: Cells) -> None:
    """The same bytes as fast as the disk takes them: direct writes from memory that begins at a page, and `fsync`."""
    folder.mkdir()
    for number, cell in enumerate(cells):
        handle = os.open(folder / str(number), os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
        data = cell.reshape(-1).view(np.uint8).data
        for offset in range(0, len(data), _DIRECT):
            os.pwrite(handle, data[offset : offset + _DIRECT], offset)
        os.fsync(handle)
        os.close(handle)


def by_zarr(folder: Path, cells: Cells) -> None:
    """zarr-python: a shard for each cell, a chunk for each frame, uncompressed."""
    shape = cells[0].shape
    array = zarr.create_array(
        folder,
        shape=(len(cells), *shape),
        shards=(1, *shape),
        chunks=(1, 1, *shape[1:]),
        dtype="uint16",
        compressors=None,
    )
    for number, cell in enumerate(cells):
        array[number] = cell
    sync(folder)


def by_tensorstore(folder: Path, cells: Cells, *, sharded: bool) -> None:
    """tensorstore: a shard for each cell or a file for each frame, uncompressed."""
    shape = cells[0].shape
    frame: list[Any] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    shard = {
        "chunk_shape": [1, 1, *shape[1:]],
        "codecs": frame,
        "index_codecs": [*frame, {"name": "crc32c"}],
        "index_location": "end",
    }
    array = tensorstore.open(
        {"driver": "zarr3", "kvstore": f"file://{folder}/"},
        create=True,
        dtype=tensorstore.uint16,
        shape=[len(cells), *shape],
        chunk_layout=tensorstore.ChunkLayout(write_chunk_shape=[1, *shape] if sharded else [1, 1, *shape[1:]]),
        codec=tensorstore.CodecSpec(
            {"driver": "zarr3", "codecs": [{"name": "sharding_indexed", "configuration": shard}] if sharded else frame}
        ),
    ).result()
    pending: list[Any] = [array[number].write(cell) for number, cell in enumerate(cells)]
    for one in pending:
        one.result()
    sync(folder)


def sync(folder: Path) -> None:
    """`fsync` every file of a folder, which neither does by itself."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def measure(report: Report, folder: Path, cells: Cells, *, layers: int, rounds: int) -> None:
    """Time all ways in turns; what was written is removed after each, outside the time."""
    nbytes = sum(cell.nbytes for cell in cells)
    unaligned = [_shifted(cell) for cell in cells]
    acts = store.open(folder / "acts", mode="a")
    target = folder / "target"

    def stored(given: Cells = cells, **options: Any) -> Callable[[], None]:
        return lambda: _ignore(ours(acts, given, layers=layers, **options))

    def one_core() -> None:
        with _one_core():
            ours(acts, cells, layers=layers, profile="compact")

    cases: dict[str, Callable[[], None]] = {
        "raw": lambda: raw(target, cells),
        "fast": stored(),
        "fast_unaligned": stored(unaligned),
        "compact": stored(profile="compact"),
        "compact_one_core": one_core,
        "int8": stored(encoding="int8"),
        "float8": stored(encoding="float8"),
        "zarr": lambda: by_zarr(target, cells),
        "tensorstore_shards": lambda: by_tensorstore(target, cells, sharded=True),
        "tensorstore_files": lambda: by_tensorstore(target, cells, sharded=False),
    }
    sizes: dict[str, int] = {}

    def clean(name: str) -> None:
        sizes[name] = sum(path.stat().st_size for path in folder.rglob("c.*"))
        shutil.rmtree(target, ignore_errors=True)
        for kind in ("runs", "manifests/runs"):
            shutil.rmtree(folder / "acts" / kind)
            (folder / "acts" / kind).mkdir()

    seconds = interleaved(cases, rounds=rounds, after=clean)
    report.add_median("store.write.raw.gb_s", nbytes / 1e9 / seconds["raw"], "GB/s")
    for name in cases.keys() - {"raw", "compact_one_core"}:
        report.add_ratio(f"store.write.{name}.ratio_raw", seconds["raw"], seconds[name])
    for name in ("fast", "fast_unaligned", "compact"):
        report.add_ratio(f"store.write.{name}.ratio_zarr", seconds["zarr"], seconds[name])
    report.add_ratio("store.write.compact.ratio_one_core", seconds["compact_one_core"], seconds["compact"])
    for name in ("compact", "int8", "float8"):
        report.add(f"store.write.{name}.compression", nbytes / sizes[name], "ratio", 1)
    _resources(report, {name: cases[name] for name in ("fast", "fast_unaligned", "compact", "zarr")}, clean, nbytes)


def _resources(report: Report, cases: dict[str, Callable[[], None]], clean: Callable[[str], None], nbytes: int) -> None:
    """The processor's time and the memory of some cases."""
    for name, case in cases.items():
        spent, extra = [], []
        for _ in range(3):
            before = os.times()
            with Peak() as peak:
                case()
            after = os.times()
            clean(name)
            spent.append((after.user + after.system - before.user - before.system) / (nbytes / 1e9))
            extra.append(peak.extra / 1e6)
        report.add_median(f"store.write.{name}.cpu_s_gb", spent, "s/GB")
        report.add(f"store.write.{name}.extra_mb", max(extra), "MB", len(extra))


def _shifted(cell: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The same values where a NumPy array of this size usually begins: 16 bytes into a page."""
    room = np.empty(cell.size + 4096, np.uint16)
    start = -room.ctypes.data % 4096 // 2 + 8
    shifted = room[start : start + cell.size].reshape(cell.shape)
    shifted[...] = cell
    return shifted


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """Threads that are started within stay on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    threads._pool.cache_clear()
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        threads._pool.cache_clear()


def _ignore(_: object) -> None:
    """A case returns nothing."""
