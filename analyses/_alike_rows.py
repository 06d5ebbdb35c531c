"""The same things seen twice: rows of tokens of a run, or of samples, of the cells that are compared.

Shapes: n rows, d channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyses import _alike, _features
from analyses._features import Block, Grid
from analyses.errors import NonFinite
from store import ActivationStore, dims

TOKENS: Final = ("full", "project")
"""Reductions that keep tokens apart."""
MAX_TOKENS: Final = 1024
"""Tokens of a run that are compared; of more, so many are drawn, the same of each run and cell."""
_Arrays = dict[str, NDArray[Any]]


class Side(NamedTuple):
    """One of the two that are compared: runs of one condition, and their branch."""

    runs: tuple[str, ...]
    grid: Grid


def compare(
    one: Sequence[NDArray[Any]], other: Sequence[NDArray[Any]], *, matched: bool, measures: Sequence[str]
) -> _Arrays:
    """Each measure of each with each `[p, q]`, or of each with its partner `[p]` if they are matched."""
    found: _Arrays = {}
    pairs = [(at, at) for at in range(len(one))] if matched else list(np.ndindex(len(one), len(other)))
    shape = (len(one),) if matched else (len(one), len(other))
    if "cka" in measures and matched:
        found["cka"] = np.array(
            [_alike.cka(_alike.grams([a]), _alike.grams([b]))[0, 0] for a, b in zip(one, other, strict=True)]
        )
    elif "cka" in measures:
        kernels = _alike.grams(one)
        found["cka"] = _alike.cka(kernels, kernels if one is other else _alike.grams(other))
    if "cosine" in measures:
        found["cosine"] = np.array([_alike.cosine(one[a], other[b]) for a, b in pairs]).reshape(shape)
    if "procrustes" in measures:
        found["procrustes"] = np.array([_alike.procrustes(one[a], other[b]) for a, b in pairs]).reshape(shape)
    return found


def tokens(acts: ActivationStore, grid: Grid, run: str, *, step: int | None, layer: int | None) -> list[NDArray[Any]]:
    """Tokens `[n, d]` of a run: all layers of a step, or all steps of a layer.

    Raises:
        NonFinite: one is NaN or infinite.
    """
    array = acts.load(
        grid.site,
        grid.reduction,
        runs=[run],
        branch=grid.branch,
        step=list(grid.labels[dims.STEP]) if step is None else [step],
        layer=None if dims.LAYER not in grid.labels else list(grid.labels[dims.LAYER]) if layer is None else [layer],
    ).isel({dims.RUN: 0})
    space = [dim for dim in (dims.FRAME, dims.Y, dims.X) if dim in array.dims]
    flat = array.stack(token=space).transpose(dims.STEP, ..., "token", dims.CHANNEL)
    count = flat.sizes["token"]
    if count > MAX_TOKENS:
        flat = flat.isel(token=np.sort(np.random.default_rng(0).choice(count, MAX_TOKENS, replace=False)))
    values = flat.data.compute(scheduler="synchronous").reshape(-1, flat.sizes["token"], grid.channels)
    if not np.isfinite(values).all():
        raise NonFinite(
            f"{grid.site}/{grid.reduction} of run {run} is NaN or infinite: leave it out with where= or runs=."
        )
    return list(values)


def samples(acts: ActivationStore, side: Side, groups: Sequence[Sequence[str]], block: Block) -> NDArray[np.float32]:
    """The mean token of each sample over its runs, `[sample, cell, d]`, cells of the block in their order."""
    runs = [run for group in groups for run in group]
    values = _features.read(acts, side.grid, block, runs)
    flat = values.reshape(len(runs), -1, values.shape[-1])
    edges = np.cumsum([0, *map(len, groups)])
    return np.stack([flat[start:end].mean(axis=0) for start, end in pairwise(edges)])
