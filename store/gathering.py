"""Single tokens of many runs as one array: what a probe is trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import xarray as xr
from numpy.typing import NDArray

from store import dims, scatter
from store.errors import RaggedRuns, UnknownLabel
from store.loading import Part
from store.selection import Selector, choose

TOKEN = "token"
"""Axis of what is gathered."""

Where = Mapping[str, Any] | pl.DataFrame
"""Labels of each token: `run_id` and the array's axes, each a sequence of equal length, or one label for all."""


def columns(at: Where) -> dict[str, NDArray[Any]]:
    """The labels as columns of equal length.

    Raises:
        ValueError: they are of unequal length, or empty.
    """
    names = at.columns if isinstance(at, pl.DataFrame) else list(at)
    given = [np.asarray(at[name]) for name in names]
    lengths = {len(values) for values in given if values.ndim}
    if len(lengths) > 1:
        raise ValueError(f"the labels of tokens are of unequal length: {sorted(lengths)}")
    size = lengths.pop() if lengths else 1
    if not size:
        raise ValueError("no token is asked for: every list of labels is empty")
    return {name: np.broadcast_to(values, size) for name, values in zip(names, given, strict=True)}


def gather(
    name: str, at: Mapping[str, NDArray[Any]], select: Callable[[str, Mapping[str, Selector]], Part]
) -> xr.DataArray:
    """The tokens at some labels.

    Args:
        name: `site/reduction`, for errors and the result's name.
        at: See `columns`; `run_id` is among them.
        select: Gives the part of a run for selectors of its axes.

    Returns:
        float32 `[token, channel]`, or `[token]` of an array without channels; every label is a coordinate.

    Raises:
        UnknownLabel: a token's label is missing or not in the array.
        RaggedRuns: the runs have other numbers of channels.
    """
    parts: list[NDArray[np.float32]] = []
    order: list[NDArray[np.intp]] = []
    has_channels = True
    for run_id in dict.fromkeys(at["run_id"].tolist()):
        tokens = np.flatnonzero(at["run_id"] == run_id)
        asked = {axis: values[tokens] for axis, values in at.items() if axis != "run_id"}
        part = select(run_id, {axis: _labels(values) for axis, values in asked.items()})
        places = _places(part, asked, len(tokens), name=name)
        has_channels = part.meta.dims[-1] == dims.CHANNEL
        parts.append(scatter.read(part, places))
        order.append(tokens)
    if len({part.shape[1] for part in parts}) > 1:
        raise RaggedRuns(f"the runs of {name} have {sorted({part.shape[1] for part in parts})} channels")
    values = np.empty((len(at["run_id"]), parts[0].shape[1]), np.float32)
    for tokens, part in zip(order, parts, strict=True):
        values[tokens] = part
    coords = {axis: (TOKEN, labels) for axis, labels in at.items()}
    site, reduction = name.split("/")
    return xr.DataArray(
        values if has_channels else values[:, 0],
        dims=(TOKEN, dims.CHANNEL) if has_channels else (TOKEN,),
        coords=coords,
        name=reduction,
        attrs={"site": site, "reduction": reduction},
    )


def _labels(values: NDArray[Any]) -> Sequence[Any]:
    return list(dict.fromkeys(values.tolist()))


def _places(part: Part, asked: Mapping[str, NDArray[Any]], count: int, *, name: str) -> NDArray[np.intp]:
    """`[token, axis]`: where each token is in the part, which holds exactly the labels that are asked."""
    axes = [dim for dim in part.meta.dims if dim != dims.CHANNEL]
    places = np.zeros((count, len(axes)), np.intp)
    for axis, dim in enumerate(axes):
        if dim in asked:
            places[:, axis] = choose(np.array(_labels(asked[dim])), asked[dim], axis=dim, array=name)
        elif part.shape[axis] > 1:
            raise UnknownLabel(f"{name} has {part.shape[axis]} places along {dim}: say which with {dim}=")
    return places
