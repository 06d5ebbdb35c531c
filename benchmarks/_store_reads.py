"""Ways to read what `_store_writes.ours` wrote: ours, zarr-python and tensorstore, all of the same files.

Everybody hands out float32, which is what bfloat16 is read for. Stores and arrays stay open between readings, in the
probe's pattern too, which looks at many runs. The page cache is warm, except for the pooled mean, which is compared
with the disk.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import dask
import numpy as np
import tensorstore
import xarray as xr
import zarr
from _memory import forget
from _store_writes import Cells, ours
from numpy.typing import NDArray
from zarr.dtype import data_type_registry

import store
from _frame import Report, interleaved
from store import bfloat16
from store.zarr_bfloat16 import BFloat16

RUNS: Final = 8
"""Runs that the probe's pattern looks at."""

TOKENS: Final = 256
CHANNELS: Final = 16
_SHORT: Final = 0.06  # seconds; what takes less is timed oftener, since one hiccup of the machine is as long
_OFTENER: Final = 5
_DIRECT: Final = 16 << 20

Key = tuple[Any, ...]


class Readers(NamedTuple):
    """One array, open in three ways."""

    ours: Callable[..., xr.DataArray]
    zarr: zarr.Array[Any]
    tensorstore: tensorstore.TensorStore


def measure(report: Report, folder: Path, cells: Cells, *, layers: int, rounds: int) -> None:
    """Time every pattern in all ways, which take turns."""
    data_type_registry.register("bfloat16", BFloat16)
    acts = store.open(folder / "acts", mode="a")
    id = ours(acts, cells, layers=layers)
    few = [ours(acts, [cells[0][:2]], layers=1, seed=1 + number) for number in range(RUNS)]
    load = partial(acts.load, "resid_post", "full")
    path = _folder(acts, id)
    array = Readers(partial(load, runs=[id]), *_open(path))
    for name, cases in _patterns(array, cells, layers).items():
        _compare(report, name, cases, rounds)
    _compare(report, "probe", _probe(acts, few), rounds)
    _compare(report, "tokens", _tokens(acts, id, array, cells, layers), rounds)
    _bytes_of_a_frame(report, array)
    _pooled(report, array.ours().isel(run=0), path, rounds)


def _folder(acts: store.ActivationStore, id: str) -> Path:
    return Path(str(acts.run(id).path / "resid_post" / "full" / "full"))


def _open(path: Path) -> tuple[zarr.Array[Any], tensorstore.TensorStore]:
    opened = zarr.open_array(path, mode="r")
    return opened, tensorstore.open({"driver": "zarr3", "kvstore": f"file://{path}/"}).result()


def _compare(report: Report, name: str, cases: Mapping[str, Callable[[], NDArray[np.float32]]], rounds: int) -> None:
    """Add `store.read.<name>.ratio_best_peer`: how many times as fast as the faster of the others."""
    wanted = cases["ours"]()
    for case in cases.values():
        np.testing.assert_array_equal(case(), wanted)
    begun = time.perf_counter()
    cases["ours"]()
    short = time.perf_counter() - begun < _SHORT
    seconds = interleaved(cases, rounds=rounds * _OFTENER if short else rounds)
    peer = min((one for one in cases if one != "ours"), key=lambda one: float(np.median(seconds[one])))
    report.add_median(f"store.read.{name}.seconds", seconds["ours"])
    report.add_ratio(f"store.read.{name}.ratio_best_peer", seconds[peer], seconds["ours"])
    for other in cases.keys() - {"ours"}:
        report.add_median(f"store.read.{name}.{other}_seconds", seconds[other])


def _patterns(array: Readers, cells: Cells, layers: int) -> dict[str, dict[str, Callable[[], NDArray[np.float32]]]]:
    """Patterns that are one selection of `[step, layer, frame, y, x, channel]`."""
    steps, middle = len(cells) // layers, cells[0].shape[0] // 2
    every = slice(None)
    some = slice(1000, 1000 + CHANNELS)
    labels = slice(1000, 999 + CHANNELS)  # both ends are included
    keys: dict[str, tuple[Key, dict[str, Any]]] = {
        "frame": ((steps - 1, layers - 1, middle), {"step": steps - 1, "layer": layers - 1, "frame": middle}),
        "cell": ((0, layers - 1), {"step": 0, "layer": layers - 1}),
        "layer_over_steps": ((every, layers - 1), {"layer": layers - 1}),
        "step_over_layers": ((steps - 1,), {"step": steps - 1}),
        "channels": ((0, 0, every, every, every, some), {"step": 0, "layer": 0, "channel": labels}),
    }
    return {name: _each(array, *key) for name, key in keys.items()}


def _each(array: Readers, key: Key, labels: dict[str, Any]) -> dict[str, Callable[[], NDArray[np.float32]]]:
    def by_tensorstore() -> NDArray[np.float32]:
        return array.tensorstore[key].read().result().astype(np.float32)

    return {
        "ours": lambda: array.ours(**labels, lazy=False).values[0],
        "zarr": lambda: bfloat16.to_float32(np.asarray(array.zarr[key])),
        "tensorstore": by_tensorstore,
    }


def _probe(acts: store.ActivationStore, runs: list[str]) -> dict[str, Callable[[], NDArray[np.float32]]]:
    """One frame of each of several runs."""
    arrays = [_open(_folder(acts, id)) for id in runs]

    def by_tensorstore() -> NDArray[np.float32]:
        pending = [one[0, 0, 1].read() for _, one in arrays]
        return np.stack([one.result() for one in pending]).astype(np.float32)

    return {
        "ours": lambda: acts.load("resid_post", "full", runs=runs, step=0, layer=0, frame=1, lazy=False).values,
        "zarr": lambda: bfloat16.to_float32(np.stack([np.asarray(one[0, 0, 1]) for one, _ in arrays])),
        "tensorstore": by_tensorstore,
    }


def _tokens(
    acts: store.ActivationStore, id: str, array: Readers, cells: Cells, layers: int
) -> dict[str, Callable[[], NDArray[np.float32]]]:
    """Tokens scattered over all cells and frames."""
    rng = np.random.default_rng(0)
    sizes = (len(cells) // layers, layers, *cells[0].shape[:3])
    places = tuple(rng.integers(size, size=TOKENS) for size in sizes)
    at = dict(zip(("step", "layer", "frame", "y", "x"), places, strict=True))
    everywhere = slice(None)

    def by_tensorstore() -> NDArray[np.float32]:
        return array.tensorstore[(*places, everywhere)].read().result().astype(np.float32)

    def by_zarr() -> NDArray[np.float32]:
        channels = np.arange(cells[0].shape[-1])
        key = (*(place[:, None] for place in places), channels[None])
        return bfloat16.to_float32(np.asarray(array.zarr.vindex[key]))

    return {
        "ours": lambda: acts.gather("resid_post", "full", {"run_id": id, **at}).values,
        "zarr": by_zarr,
        "tensorstore": by_tensorstore,
    }


def _bytes_of_a_frame(report: Report, array: Readers) -> None:
    """What a single frame makes the process read, over the frame's own bytes."""
    before = _asked()
    frame = array.ours(step=0, layer=0, frame=0, lazy=False)
    report.add("store.read.frame.bytes_ratio", (_asked() - before) / (frame.size * 2), "ratio", 1)


def _asked() -> int:
    """Bytes that this process asked files for so far."""
    return int(Path("/proc/self/io").read_text().splitlines()[0].split()[1])


def _pooled(report: Report, array: xr.DataArray, folder: Path, rounds: int) -> None:
    """The mean over all tokens of one cell, from the disk; the disk itself reads the same file directly."""
    file = folder / "c.0.0.0.0.0.0"
    buffer = mmap.mmap(-1, _DIRECT)

    def raw() -> None:
        handle = os.open(file, os.O_RDONLY | os.O_DIRECT)
        offset = 0
        while count := os.preadv(handle, [buffer], offset):
            offset += count
        os.close(handle)

    forget([file])
    mean = array[0, 0].mean(("frame", "y", "x"), skipna=False)
    with dask.config.set(scheduler="threads"):
        seconds = interleaved({"raw": raw, "pooled": mean.compute}, rounds=rounds, after=lambda _: forget([file]))
    report.add_ratio("store.read.pooled.ratio_raw", seconds["raw"], seconds["pooled"])
