"""Arrays of several runs as one lazy xarray.DataArray.

Shape legend: a *file* holds one (step, branch, layer), or bundles the small ones of a step; within it
an inner chunk is a frame, a layer or everything.
Everything is checked against the manifests before a lazy array is handed out, and once more when a
file is read: a missing shard is an error here, never zeros.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import dask.array
import numpy as np
import xarray as xr
from dask.base import tokenize
from numpy.typing import NDArray

from store import bfloat16, coordinates, dims, files, shard
from store.coordinates import Coordinate
from store.errors import DamagedArray, RaggedRuns, UnknownLabel
from store.manifest import RunEntry
from store.selection import Selector, choose, describe
from store.zarr_meta import CELL, ArrayMeta


@dataclass(frozen=True)
class Part:
    """One run's share of what is loaded.

    Attributes:
        entry: The run.
        folder: The array's folder.
        meta: Its description.
        sizes: File name → bytes, from the manifest.
        positions: What is selected along each axis.
        coords: Coordinates of the selection.
    """

    entry: RunEntry
    folder: Path
    meta: ArrayMeta
    sizes: Mapping[str, int]
    positions: tuple[NDArray[np.intp], ...]
    coords: Mapping[str, Coordinate]

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the selected axes."""
        return tuple(map(len, self.positions))

    def check_files(self) -> None:
        """Raise DamagedArray unless every file of the selection is there in its full size."""
        along = [places.tolist() if self.meta.is_cell(axis) else [0] for axis, places in enumerate(self.positions)]
        for place in itertools.product(*along):
            file = self.meta.file(place)
            if file not in self.sizes:
                raise DamagedArray(f"the manifest of run {self.entry.run.id} does not list {self.folder / file}")
            files.check(self.folder / file, self.sizes[file])

    def read(self, selection: Sequence[NDArray[np.intp]]) -> NDArray[Any]:
        """Values at `selection`, positions along each axis among those selected; bfloat16 as float32."""
        wanted = [places[chosen] for places, chosen in zip(self.positions, selection, strict=True)]
        own = [self.meta.is_cell(axis) for axis in range(len(wanted))]
        targets = list(np.ndindex(*(len(at) if alone else 1 for alone, at in zip(own, wanted, strict=True))))
        out = np.empty(tuple(map(len, wanted)), self.meta.numpy)
        for target in targets:
            file = [int(wanted[axis][place]) if own[axis] else 0 for axis, place in enumerate(target)]
            values = self._read_file(self.meta.file(file), wanted)
            if len(targets) == 1:  # the usual case, one dask chunk is one file: nothing to put together
                out = values
                break
            where = tuple(slice(at, at + 1) if alone else slice(None) for alone, at in zip(own, target, strict=True))
            out[where] = values
        return bfloat16.to_float32(out) if self.meta.dtype == bfloat16.NAME else out

    def _read_file(self, file: str, wanted: Sequence[NDArray[np.intp]]) -> NDArray[Any]:
        """One file's values, with a length of 1 along the axes of the grid."""
        split = [self.meta.is_split(axis) for axis in range(len(wanted))]
        grid = [places if divided else np.zeros(1, np.intp) for divided, places in zip(split, wanted, strict=True)]
        counts = [size if divided else 1 for divided, size in zip(split, self.meta.shard, strict=True)]
        chunks = np.ravel_multi_index(np.ix_(*grid), counts).ravel().tolist()
        values = shard.read(self.folder / file, self.meta, chunks, self.sizes[file])
        shape = [len(places) * size for places, size in zip(grid, self.meta.inner, strict=True)]
        values = values.reshape(shape)
        for axis, places in enumerate(wanted):
            whole = np.array_equal(places, np.arange(shape[axis]))
            if not split[axis] and not self.meta.is_cell(axis) and not whole:
                values = values.take(places, axis)
        return values


class LazyRuns:
    """Several parts of equal shape as one array-like `[run, …]` for dask: reads what is indexed, nothing more.

    Args:
        parts: One for each run.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self.shape = (len(parts), *parts[0].shape)
        self.ndim = len(self.shape)
        self.dtype = np.result_type(*(_handed_out(part.meta) for part in parts))

    def __getitem__(self, key: tuple[int | slice | list[int], ...]) -> NDArray[Any]:
        """The values at integers, slices and lists, one for each axis, each for itself (as in xarray)."""
        places = [np.arange(size, dtype=np.intp)[item] for item, size in zip(key, self.shape, strict=True)]
        runs, *selection = map(np.atleast_1d, places)
        each = [self._parts[run].read(selection) for run in runs]
        values = (each[0][None] if len(each) == 1 else np.stack(each)).astype(self.dtype, copy=False)
        return values[tuple(0 if place.ndim == 0 else slice(None) for place in places)]


def select(entry: RunEntry, site: str, reduction: str, selectors: Mapping[str, Selector]) -> Part:
    """One run's part of `site/reduction`, which it has; files are checked, values are not read.

    Raises:
        UnknownLabel: a selector names labels or an axis that the array lacks.
        DamagedArray: a file is missing or has another size than the manifest says.
    """
    name = f"{site}/{reduction}"
    info = next(array for array in entry.arrays if (array.site, array.reduction) == (site, reduction))
    group = entry.path / site / reduction
    meta = ArrayMeta.read(group / reduction)
    if (meta.dims, meta.shape, meta.dtype) != (info.dims, info.shape, info.dtype):
        raise DamagedArray(f"{group / reduction / 'zarr.json'} is not the array that the manifest describes")
    coords = coordinates.read(group, [dim for dim in meta.dims if dim in (*CELL, dims.FRAME)])
    for axis, selector in selectors.items():
        if selector is not None and axis not in meta.dims:
            raise UnknownLabel(f"{name} has no axis {axis}; it has {', '.join(meta.dims)}")
    positions: dict[str, NDArray[np.intp]] = {}
    for dim, size in zip(meta.dims, meta.shape, strict=True):
        labels = coords[dim].values if dim in coords else np.arange(size)
        positions[dim] = choose(labels, selectors.get(dim), axis=dim, array=name)
    part = Part(
        entry=entry,
        folder=group / reduction,
        meta=meta,
        sizes={file: nbytes for file, (nbytes, _) in info.shards.items()},
        positions=tuple(positions.values()),
        coords={key: Coordinate(dim, values[positions[dim]]) for key, (dim, values) in coords.items()},
    )
    part.check_files()
    return part


def stack(parts: Sequence[Part], *, site: str, reduction: str, scalars: Collection[str]) -> xr.DataArray:
    """The parts as one lazy DataArray; one dask chunk is one file.

    Args:
        parts: At least one.
        site: Where in the model.
        reduction: What is kept of it.
        scalars: Axes of which one label was asked: they become scalar coordinates.

    Raises:
        RaggedRuns: their axes or labels differ.
    """
    _check_alike(parts, f"{site}/{reduction}")
    lazy, first = LazyRuns(parts), parts[0]
    chunks = (1, *(1 if first.meta.is_cell(axis) else size for axis, size in enumerate(first.shape)))
    name = f"{site}-{reduction}-" + tokenize([(str(part.folder), part.entry.stored, part.positions) for part in parts])
    meta = np.empty((0,) * lazy.ndim, lazy.dtype)
    values = dask.array.from_array(cast(Any, lazy), chunks=cast(Any, chunks), name=name, meta=meta)
    array = xr.DataArray(
        values,
        dims=(dims.RUN, *first.meta.dims),
        coords=_coords(parts),
        name=reduction,
        attrs={**first.meta.attributes, "site": site, "reduction": reduction},
    )
    return array.isel({axis: 0 for axis in scalars})


def _coords(parts: Sequence[Part]) -> dict[str, tuple[str | tuple[str, str], NDArray[Any]]]:
    runs = [part.entry.run for part in parts]
    coords: dict[str, tuple[str | tuple[str, str], NDArray[Any]]] = {
        dims.RUN: (dims.RUN, np.array([run.id for run in runs])),
        "sample_id": (dims.RUN, np.array([run.sample_id for run in runs])),
        "seed": (dims.RUN, np.array([run.seed for run in runs])),
    }
    for name, (dim, values) in parts[0].coords.items():
        if all(name in part.coords for part in parts):
            each = [part.coords[name].values for part in parts]
            alike = all(np.array_equal(values, other) for other in each)
            coords[name] = (dim, values) if alike else ((dims.RUN, dim), np.stack(each))
    return coords


def _check_alike(parts: Sequence[Part], name: str) -> None:
    """Raise RaggedRuns unless all parts have the same axes with the same labels."""
    groups: dict[tuple[tuple[str, tuple[Any, ...]], ...], list[str]] = {}
    for part in parts:
        labels = [
            (dim, tuple(part.coords[dim].values.tolist() if dim in part.coords else range(size)))
            for dim, size in zip(part.meta.dims, part.shape, strict=True)
        ]
        groups.setdefault(tuple(labels), []).append(part.entry.run.id)
    if len(groups) > 1:
        common = set(next(iter(groups))).intersection(*groups)
        told = "; ".join(_tell([axis for axis in axes if axis not in common], ids) for axes, ids in groups.items())
        raise RaggedRuns(f"the runs of {name} differ: {told}; select alike ones with where=, runs= or step=")


def _tell(axes: Sequence[tuple[str, tuple[Any, ...]]], ids: Sequence[str]) -> str:
    labels = ", ".join(f"{dim} = {describe(np.array(labels))}" for dim, labels in axes) or "fewer axes"
    return f"{len(ids)} with {labels} ({', '.join(ids[:3])}{', …' if len(ids) > 3 else ''})"


def _handed_out(meta: ArrayMeta) -> np.dtype[Any]:
    return np.dtype(np.float32) if meta.dtype == bfloat16.NAME else meta.numpy
