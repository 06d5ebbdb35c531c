"""One run's share of what is loaded: which files, which chunks in them, which values in these.

Shape legend: a *file* holds one (step, branch, layer), or bundles the small ones of a step; within it
an inner chunk is a frame, a layer or everything.
Everything is checked against the manifest before anything is handed out, and once more when a file is read: a
missing shard is an error here, never zeros.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from store import coordinates, decoding, dims, encodings, files
from store.coordinates import Coordinate
from store.errors import DamagedArray, UnknownLabel
from store.manifest import KEPT, RunEntry, Source
from store.places import Location
from store.selection import Selector, choose
from store.shard import OpenShard
from store.zarr_meta import CELL, ArrayMeta

MISSING = -1
"""Place of a label that a run does not have."""

_TOGETHER: Final = 8 << 20  # bytes of small chunks that one call reads


@dataclass(frozen=True)
class Part:
    """What is selected of one array of one run.

    Attributes:
        entry: The run.
        folder: The array's folder.
        meta: Its description.
        sizes: File name → bytes, from the manifest.
        positions: What is selected along each axis; `MISSING` stands for what the run lacks.
        coords: Coordinates of the selection.
        scale: The scales of a lossy array, along its axes but `y` and `x`.
    """

    entry: RunEntry
    folder: Location
    meta: ArrayMeta
    sizes: Mapping[str, int]
    positions: tuple[NDArray[np.intp], ...]
    coords: Mapping[str, Coordinate]
    scale: Part | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the selected axes."""
        return tuple(map(len, self.positions))

    def check_files(self) -> None:
        """Raise DamagedArray unless every file of the selection is there in its full size."""
        along = [places.tolist() if self.meta.is_cell(axis) else [0] for axis, places in enumerate(self.positions)]
        wanted = [self.meta.file(place) for place in itertools.product(*along)]
        if unlisted := [file for file in wanted if file not in self.sizes]:
            raise DamagedArray(f"the manifest of run {self.entry.id} does not list {self.folder / unlisted[0]}")
        files.check_all(self.folder, {file: self.sizes[file] for file in wanted})
        if self.scale is not None:
            self.scale.check_files()

    def narrowed(self, selection: Sequence[NDArray[np.intp]]) -> Part:
        """The part at `selection`, positions along each axis among those selected; without coordinates."""
        positions = tuple(places[chosen] for places, chosen in zip(self.positions, selection, strict=True))
        scale = self.scale and self.scale.narrowed([selection[axis] for axis in self._scaled])
        return replace(self, positions=positions, coords={}, scale=scale)

    def read(self, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
        """The values, as `dtype` or else as `ArrayMeta.loaded` says; see `work`."""
        out = np.empty(self.shape, dtype or self.meta.loaded)
        for step in self.work(out):
            step()
        return out

    def work(self, out: NDArray[Any]) -> list[Callable[[], None]]:
        """What fills `out` with the values: calls for some chunks of a file each, in any order, by any thread.

        Args:
            out: Of the selection's shape; floats, if places are missing: these become NaN.
        """
        there = [places >= 0 for places in self.positions]
        if not all(one.all() for one in there):
            return [partial(self._read_some, out, [np.flatnonzero(one) for one in there])]
        if not out.size:
            return []
        scale, wanted = self._scales(), self._wanted()
        together = max(1, _TOGETHER // self.meta.chunk_nbytes)
        groups = [slice(start, start + together) for start in range(0, len(wanted.numbers), together)]
        files = list(self._files())
        straight = scale is None and wanted.neighbours and out.dtype == self.meta.numpy
        if straight and out[files[0][1]].flags.c_contiguous:
            return [
                partial(self._read_neighbours, file, int(wanted.numbers[group.start]), rows[group])
                for file, target in files
                for rows in [out[target].reshape(len(wanted.numbers), -1)]
                for group in groups
            ]
        chunks, within = list(zip(wanted.numbers.tolist(), self._places(), strict=True)), wanted.within
        return [
            partial(
                self._read_chunks, file, chunks[group], within, out[target], None if scale is None else scale[target]
            )
            for file, target in files
            for group in groups
        ]

    def _read_some(self, out: NDArray[Any], found: Sequence[NDArray[np.intp]]) -> None:
        out[...] = np.nan
        if all(map(len, found)):
            out[np.ix_(*found)] = self.narrowed(found).read(out.dtype)

    def _read_neighbours(self, file: str, first: int, rows: NDArray[Any]) -> None:
        """Whole chunks of a file, which lie one after the other there as in `rows` `[chunk, …]`."""
        with OpenShard(self.folder / file, self.meta, self.sizes[file]) as shard:
            shard.fill_many(first, rows)

    def _read_chunks(
        self,
        file: str,
        chunks: Sequence[tuple[int, tuple[slice, ...]]],
        within: decoding.Within,
        out: NDArray[Any],
        scale: NDArray[np.float32] | None,
    ) -> None:
        """Some chunks of a file, of which `out` is the place; each with its own place in it."""
        with OpenShard(self.folder / file, self.meta, self.sizes[file]) as shard:
            shard.expect([number for number, _ in chunks])
            for number, where in chunks:
                own = None if scale is None else scale[self._of_scale(where)]
                decoding.read_chunk(shard, number, within, out[where], own)

    def _files(self) -> Iterator[tuple[str, tuple[slice, ...]]]:
        """Each file with its place in the output: all along axes of which a file holds more than one element."""
        own = [self.meta.is_cell(axis) for axis in range(len(self.shape))]
        for target in np.ndindex(*(size if alone else 1 for alone, size in zip(own, self.shape, strict=True))):
            cell = [int(self.positions[axis][at]) if own[axis] else 0 for axis, at in enumerate(target)]
            place = (slice(at, at + 1) if alone else slice(None) for alone, at in zip(own, target, strict=True))
            yield self.meta.file(cell), tuple(place)

    def _wanted(self) -> _Wanted:
        """What is wanted of each file."""
        meta, within, split = self.meta, self._within(), self._split()
        numbers = np.zeros(1, np.intp)
        if any(split):
            inner = [
                places if divided else np.zeros(1, np.intp)
                for divided, places in zip(split, self.positions, strict=True)
            ]
            numbers = np.ravel_multi_index(np.ix_(*inner), meta.counts).ravel()
        whole = meta.codec == "none" and meta.in_order and all(one is None for one in within)
        return _Wanted(numbers, within, neighbours=whole and bool((np.diff(numbers) == 1).all()))

    def _places(self) -> list[tuple[slice, ...]]:
        """Where each wanted chunk goes in its file's part of the output, in the order of their numbers."""
        split = self._split()
        lengths = [len(places) if divided else 1 for divided, places in zip(split, self.positions, strict=True)]
        return [
            tuple(slice(at, at + 1) if divided else slice(None) for divided, at in zip(split, place, strict=True))
            for place in np.ndindex(*lengths)
        ]

    def _split(self) -> list[bool]:
        return [self.meta.is_split(axis) for axis in range(len(self.shape))]

    def _within(self) -> list[NDArray[np.intp] | None]:
        """What is wanted of each chunk."""
        sizes = self.meta.inner
        return [
            None if size == 1 or np.array_equal(places, np.arange(size)) else places
            for places, size in zip(self.positions, sizes, strict=True)
        ]

    @property
    def _scaled(self) -> list[int]:
        """Axes that the scales have."""
        return [axis for axis, dim in enumerate(self.meta.dims) if dim not in encodings.WITHIN]

    def _scales(self) -> NDArray[np.float32] | None:
        """The selected scales, with a length of 1 along `y` and `x`."""
        if self.scale is None:
            return None
        lengths = zip(self.meta.dims, self.shape, strict=True)
        return self.scale.read().reshape([1 if dim in encodings.WITHIN else size for dim, size in lengths])

    def _of_scale(self, where: Sequence[slice]) -> tuple[slice, ...]:
        named = zip(self.meta.dims, where, strict=True)
        return tuple(slice(None) if dim in encodings.WITHIN else part for dim, part in named)


class _Wanted(NamedTuple):
    """What is wanted of a file: the same of each that a selection needs."""

    numbers: NDArray[np.intp]
    """Of its chunks."""
    within: decoding.Within
    """What is wanted of each chunk."""
    neighbours: bool
    """Whether whole chunks are wanted that lie one after the other in the file, as in the output."""


class _Array(NamedTuple):
    """One array of a run, without its values."""

    folder: Location
    meta: ArrayMeta
    sizes: Mapping[str, int]
    coords: Mapping[str, Coordinate]


def select(source: Source, site: str, reduction: str, selectors: Mapping[str, Selector]) -> Part:
    """One run's part of `site/reduction`, which it has; files are checked, values are not read.

    Raises:
        UnknownLabel: a selector names labels or an axis that the array lacks.
        DamagedArray: a file is missing or has another size than the manifest says.
    """
    name, array = f"{site}/{reduction}", _array(source, site, reduction)
    meta, coords = array.meta, array.coords
    for axis, selector in selectors.items():
        if selector is not None and axis not in meta.dims:
            raise UnknownLabel(f"{name} has no axis {axis}; it has {', '.join(meta.dims)}")
    positions: dict[str, NDArray[np.intp]] = {}
    for dim, size in zip(meta.dims, meta.shape, strict=True):
        labels = coords[dim].values if dim in coords else np.arange(size)
        positions[dim] = choose(labels, selectors.get(dim), axis=dim, array=name)
    part = Part(
        entry=source.entry(),
        folder=array.folder,
        meta=meta,
        sizes=array.sizes,
        positions=tuple(positions.values()),
        coords={key: Coordinate(dim, values[positions[dim]]) for key, (dim, values) in coords.items()},
        scale=None if meta.encoding == "exact" else _scale(source, site, meta, positions),
    )
    part.check_files()
    return part


def _scale(source: Source, site: str, meta: ArrayMeta, positions: Mapping[str, NDArray[np.intp]]) -> Part:
    array = _array(source, site, meta.scale)
    places = tuple(positions[dim] for dim in array.meta.dims)
    return Part(source.entry(), array.folder, array.meta, array.sizes, places, coords={})


@lru_cache(maxsize=KEPT)
def _array(source: Source, site: str, reduction: str) -> _Array:
    """What the manifest and the array itself say, which must agree."""
    entry = source.entry()
    group = entry.path / site / reduction
    meta = ArrayMeta.read(group / reduction)
    for info in entry.arrays:
        if (info.site, info.reduction) == (site, reduction):
            told = (info.dims, info.shape, info.dtype, info.encoding)
            if told == (meta.dims, meta.shape, meta.dtype, meta.encoding):
                coords = coordinates.read(group, [dim for dim in meta.dims if dim in (*CELL, dims.FRAME)])
                sizes = {file: nbytes for file, (nbytes, _) in info.shards.items()}
                return _Array(group / reduction, meta, sizes, coords)
    raise DamagedArray(f"{group / reduction / 'zarr.json'} is not the array that the manifest describes")
