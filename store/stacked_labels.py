"""The coordinates of runs that are stacked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from store import dims
from store.loading import Part


def of(parts: Sequence[Part], scalars: Collection[str]) -> xr.Coordinates:
    """Labels along `run`, and those of the parts: along `run` too where the parts differ.

    Args:
        parts: At least one.
        scalars: Axes of which one label was asked: they become scalar coordinates.
    """
    runs = _of_runs(tuple((part.entry.id, part.entry.run.sample_id, part.entry.run.seed) for part in parts))
    found = {name: without(scalars, *label) for name, label in _of_axes(parts).items()}
    axes = xr.Coordinates({name: label for name, label in found.items() if label[0] == (name,)})
    beside = {name: xr.Variable(*label) for name, label in found.items() if name not in axes}
    return xr.Coordinates({**runs.variables, **axes.variables, **beside}, indexes={**runs.xindexes, **axes.xindexes})


def without(scalars: Collection[str], names: tuple[str, ...], values: Any) -> tuple[tuple[str, ...], Any]:
    """Names and values without the axes of which one label was asked."""
    alone = [name in scalars for name in names]
    if not any(alone):
        return names, values
    kept = tuple(name for name, one in zip(names, alone, strict=True) if not one)
    return kept, values[tuple(0 if one else slice(None) for one in alone)]


@lru_cache(maxsize=64)
def _of_runs(runs: tuple[tuple[str, str, int], ...]) -> xr.Coordinates:
    """Id, sample and seed of each run; kept, since an index of text costs as much as a quarter of reading a frame."""
    ids, samples, seeds = map(np.array, zip(*runs, strict=True))
    return xr.Coordinates({dims.RUN: ids, "sample_id": (dims.RUN, samples), "seed": (dims.RUN, seeds)})


def _of_axes(parts: Sequence[Part]) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    coords: dict[str, tuple[tuple[str, ...], NDArray[Any]]] = {}
    for name, (dim, values) in parts[0].coords.items():
        if all(name in part.coords for part in parts):
            each = [part.coords[name].values for part in parts]
            alike = all(_same(values, other) for other in each[1:])
            coords[name] = ((dim,), values) if alike else ((dims.RUN, dim), np.stack(each))
    return coords


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind == other.dtype.kind == "f")
