"""Arrays of several runs as one lazy xarray.DataArray."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, cast

import dask.array
import numpy as np
import xarray as xr
from dask.base import tokenize
from numpy.typing import NDArray

from store import dims, stacked_labels, threads
from store.coordinates import Coordinate
from store.errors import RaggedRuns
from store.loading import MISSING, Part
from store.selection import describe

Ragged = Literal["refuse", "pad"]
"""What happens to runs of unequal labels: an error, or all labels of any run with NaN where a run has no value."""

CHUNK: Final = 32 << 20
"""Bytes of a dask chunk: as many frames of one file as fit, at least one."""

_CALLS: Final = 64  # a read of many small files is divided among the threads into so many calls


class LazyRuns:
    """Several parts of equal shape as one array-like `[run, …]` for dask: reads what is indexed, nothing more.

    Args:
        parts: One for each run.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.shape = (len(parts), *parts[0].shape)
        self.ndim = len(self.shape)
        self.dtype = np.result_type(*(part.meta.loaded for part in parts))
        if self.dtype.kind != "f" and any(MISSING in places for part in parts for places in part.positions):
            self.dtype = np.result_type(self.dtype, np.float32)

    def __getitem__(self, key: tuple[int | slice | list[int], ...]) -> NDArray[Any]:
        """The values at integers, slices and lists, one for each axis, each for itself (as in xarray)."""
        places = [np.arange(size, dtype=np.intp)[item] for item, size in zip(key, self.shape, strict=True)]
        runs, *selection = map(np.atleast_1d, places)
        each = [self.parts[run].narrowed(selection).read(self.dtype) for run in runs]
        values = each[0][None] if len(each) == 1 else np.stack(each)
        return values[tuple(0 if place.ndim == 0 else slice(None) for place in places)]


def stack(
    parts: Sequence[Part],
    *,
    site: str,
    reduction: str,
    scalars: Collection[str],
    ragged: Ragged = "refuse",
    lazily: bool = True,
    out: NDArray[Any] | None = None,
) -> xr.DataArray:
    """The parts as one DataArray; one dask chunk is one file, or some frames of it.

    Args:
        parts: At least one.
        site: Where in the model.
        reduction: What is kept of it.
        scalars: Axes of which one label was asked: they become scalar coordinates.
        ragged: See `Ragged`.
        lazily: Whether values are read when they are computed; else they are read now.
        out: Where they go if they are read now; see `read`.

    Raises:
        RaggedRuns: their axes differ, or their labels do and `ragged` is `refuse`.
    """
    if ragged not in ("refuse", "pad"):
        raise ValueError(f"ragged is 'refuse' or 'pad', not {ragged!r}")
    if lazily and out is not None:
        raise ValueError("values are read into `out` now: say lazy=False")
    if len(parts) > 1:  # one is alike whatever its labels are
        if ragged == "pad":
            parts = _padded(parts, f"{site}/{reduction}")
        else:
            _check_alike(parts, f"{site}/{reduction}")
    runs, first = LazyRuns(parts), parts[0]
    values = _lazy(runs, f"{site}-{reduction}") if lazily else read(runs, out)
    names = (dims.RUN, *first.meta.dims)
    names, values = stacked_labels.without(scalars, names, values)
    return xr.DataArray(
        values,
        dims=names,
        coords=stacked_labels.of(parts, scalars),
        name=reduction,
        attrs={**first.meta.attributes, "site": site, "reduction": reduction},
    )


def _lazy(runs: LazyRuns, name: str) -> dask.array.Array:
    token = tokenize([(str(part.folder), part.entry.stored, part.positions) for part in runs.parts])
    meta = np.empty((0,) * runs.ndim, runs.dtype)
    chunks = _chunks(runs.parts[0], runs)
    return dask.array.from_array(cast(Any, runs), chunks=cast(Any, chunks), name=f"{name}-{token}", meta=meta)


def read(runs: LazyRuns, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """All values at once, on many threads, without a graph.

    Args:
        runs: What is read.
        out: Where it goes, C-contiguous and of as many values; new memory if there is none.

    Raises:
        ValueError: `out` does not fit.
    """
    values = np.empty(runs.shape, runs.dtype) if out is None else _shaped(out, runs.shape)
    steps = [step for part, own in zip(runs.parts, values, strict=True) for step in part.work(own)]
    together = max(1, len(steps) // _CALLS)
    some = [steps[first : first + together] for first in range(0, len(steps), together)]
    if len(some) == 1:
        _call(some[0])
    else:
        for _ in threads.readers().map(_call, some):
            pass
    return values


def _shaped(out: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if out.size != int(np.prod(shape)) or not out.flags.c_contiguous or out.dtype.kind != "f":
        raise ValueError(
            f"`out` must be {int(np.prod(shape))} contiguous floats for values {shape}, not {out.dtype} {out.shape}"
        )
    return out.reshape(shape)


def _call(steps: Sequence[Callable[[], None]]) -> None:
    for step in steps:
        step()


def _chunks(part: Part, lazy: LazyRuns) -> tuple[int, ...]:
    sizes = [1 if part.meta.is_cell(axis) else size for axis, size in enumerate(part.shape)]
    for axis, size in enumerate(part.shape):
        if part.meta.is_split(axis):
            others = int(np.prod(sizes)) // max(1, sizes[axis]) * lazy.dtype.itemsize
            sizes[axis] = min(size, max(1, CHUNK // max(1, others)))
    return (1, *sizes)


def _padded(parts: Sequence[Part], name: str) -> list[Part]:
    """The parts with all labels that any of them has, in order: as they come, numbers sorted.

    Raises:
        RaggedRuns: their axes differ.
    """
    axes = {part.meta.dims for part in parts}
    if len(axes) > 1:
        told = " and ".join(f"[{', '.join(one)}]" for one in sorted(axes))
        raise RaggedRuns(f"the runs of {name} have other axes, {told}, which no padding mends; select alike ones")
    unions = [_union([_labels(part, axis) for part in parts]) for axis in range(len(parts[0].meta.dims))]
    return [_spread(part, unions) for part in parts]


def _union(each: Sequence[list[Any]]) -> list[Any]:
    if all(labels == each[0] for labels in each):
        return each[0]
    found = list(dict.fromkeys(label for labels in each for label in labels))
    return found if any(isinstance(label, str) for label in found) else sorted(found)


def _spread(part: Part, unions: Sequence[list[Any]]) -> Part:
    """The part with `MISSING` places where a label of the unions is not its own."""
    places: list[NDArray[np.intp]] = []
    for axis, union in enumerate(unions):
        own = {label: place for place, label in enumerate(_labels(part, axis))}
        places.append(np.array([own.get(label, MISSING) for label in union], np.intp))
    positions = tuple(
        np.where(at == MISSING, MISSING, selected[at]) for at, selected in zip(places, part.positions, strict=True)
    )
    named = dict(zip(part.meta.dims, zip(places, unions, strict=True), strict=True))
    coords: dict[str, Coordinate] = {}
    for name, (dim, values) in part.coords.items():
        at, union = named[dim]
        coords[name] = Coordinate(dim, np.array(union) if name == dim else _spread_labels(values, at))
    scale = part.scale
    if scale is not None:
        own = dict(zip(part.meta.dims, positions, strict=True))
        scale = replace(scale, positions=tuple(own[dim] for dim in scale.meta.dims))
    return replace(part, positions=positions, coords=coords, scale=scale)


def _spread_labels(values: NDArray[Any], at: NDArray[np.intp]) -> NDArray[Any]:
    """Values at some places: NaN, or no text, where there is none."""
    if MISSING not in at:
        return values[at]
    if values.dtype.kind == "U":
        return np.where(at == MISSING, "", values[at])
    return np.where(at == MISSING, np.nan, values[at].astype(np.float64))


def _labels(part: Part, axis: int) -> list[Any]:
    """What is selected along an axis: its labels, or positions where it has none."""
    dim = part.meta.dims[axis]
    return part.coords[dim].values.tolist() if dim in part.coords else part.positions[axis].tolist()


def _check_alike(parts: Sequence[Part], name: str) -> None:
    """Raise RaggedRuns unless all parts have the same axes with the same labels."""
    groups: dict[tuple[tuple[str, tuple[Any, ...]], ...], list[str]] = {}
    for part in parts:
        labels = [(dim, tuple(_labels(part, axis))) for axis, dim in enumerate(part.meta.dims)]
        groups.setdefault(tuple(labels), []).append(part.entry.id)
    if len(groups) > 1:
        common = set(next(iter(groups))).intersection(*groups)
        told = "; ".join(_tell([axis for axis in axes if axis not in common], ids) for axes, ids in groups.items())
        raise RaggedRuns(
            f"the runs of {name} differ: {told}; select alike ones with where=, runs= or step=, or ragged='pad'"
        )


def _tell(axes: Sequence[tuple[str, tuple[Any, ...]]], ids: Sequence[str]) -> str:
    labels = ", ".join(f"{dim} = {describe(np.array(labels))}" for dim, labels in axes) or "fewer axes"
    return f"{len(ids)} with {labels} ({', '.join(ids[:3])}{', …' if len(ids) > 3 else ''})"
