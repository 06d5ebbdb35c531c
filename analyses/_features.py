"""One vector for each run and cell: the mean over tokens of what the store has of a site, read in blocks of cells.

A cell is a step, a layer and, if asked, a frame; sites of the sampler (`latent`, `x0_hat`) have no layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from analyses.errors import NonFinite, NoRuns
from store import ActivationStore, dims

BLOCK: Final = 256 << 20
"""Bytes of the features of a block: all runs at some steps and layers. Each block reads every run's manifest again."""
POOLED: Final = ("token_mean", "frame_mean", "full", "project")
"""Reductions with channels, the cheapest to read first."""


class Grid(NamedTuple):
    """The cells of one array."""

    site: str
    reduction: str
    branch: str | None
    """None for sites without branches."""
    labels: Mapping[str, tuple[int, ...]]
    """Of each axis of the grid: `step`, `layer`, `frame`, as far as there are any."""
    channels: int
    """Of a cell's features: those of the site, of each cell of a picture where it is cut into some."""
    side: int = 1
    """Cells of a picture a side; 1 takes the mean of all its tokens."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of its axes."""
        return tuple(map(len, self.labels.values()))


class Block(NamedTuple):
    """Some steps and layers of a grid."""

    steps: tuple[int, ...]
    layers: tuple[int, ...] | None
    """None where there are no layers."""


def pooled_reduction(held: set[str], site: str, *, by_frame: bool) -> str:
    """The cheapest reduction that gives features of a site.

    Args:
        held: `site/reduction` of all arrays that every run has.
        site: The site.
        by_frame: Whether frames are to be told apart.

    Raises:
        NoRuns: there is none.
    """
    usable = [name for name in POOLED if not (by_frame and name == "token_mean")]
    for name in usable:
        if f"{site}/{name}" in held:
            return name
    raise NoRuns(
        f"The chosen runs have no {site} with channels in common ({', '.join(usable)}); they share "
        f"{', '.join(sorted(held)) or 'no array'}. Capture one, or choose other runs."
    )


def describe(
    acts: ActivationStore,
    run: str,
    *,
    site: str,
    reduction: str,
    branch: str,
    by_frame: bool = False,
    steps: Sequence[int] | None = None,
    layers: Sequence[int] | None = None,
    side: int = 1,
) -> Grid:
    """The grid of an array of one run; steps and layers that are asked for must be there.

    `side` cells a side are averaged each for itself, in arrays of whole tokens; others have no places.
    """
    array = acts.load(site, reduction, runs=[run])
    own = branch if dims.BRANCH in array.dims else None
    array = acts.load(
        site, reduction, runs=[run], branch=own, step=steps, layer=layers if dims.LAYER in array.dims else None
    )
    axes = [dims.STEP, dims.LAYER, *([dims.FRAME] if by_frame else [])]
    labels = {axis: tuple(int(one) for one in array[axis].to_numpy()) for axis in axes if axis in array.dims}
    side = side if {dims.Y, dims.X} <= set(array.dims) else 1
    count = array.sizes[dims.CHANNEL]
    if side > 1:
        count *= int(np.prod([-(-array.sizes[dim] // _window(array, dim, side)) for dim in (dims.Y, dims.X)]))
    return Grid(site, reduction, own, labels, count, side)


def blocks(grid: Grid, *, runs: int) -> list[Block]:
    """Blocks of at most `BLOCK` bytes, one cell at least: whole steps if one fits, else layers of a step."""
    steps, layers = grid.labels[dims.STEP], grid.labels.get(dims.LAYER)
    frames = len(grid.labels.get(dims.FRAME, (0,)))
    cells = max(1, BLOCK // (4 * grid.channels * runs * frames))
    count = len(layers) if layers else 1
    if layers is None or cells >= count:
        together = max(1, cells // count)
        return [Block(steps[at : at + together], layers) for at in range(0, len(steps), together)]
    parts = [layers[at : at + cells] for at in range(0, count, cells)]
    return [Block((step,), part) for step, part in product(steps, parts)]


def read(acts: ActivationStore, grid: Grid, block: Block, runs: Sequence[str]) -> NDArray[np.float32]:
    """Features of a block, float32 `[run, step(, layer)(, frame), channel]`, runs in their order.

    Raises:
        NonFinite: one is NaN or infinite.
    """
    chosen: dict[str, Any] = {
        "branch": grid.branch,
        "step": list(block.steps),
        "layer": block.layers and list(block.layers),
    }
    order = (dims.RUN, *grid.labels, dims.CHANNEL)
    if grid.reduction in ("token_mean", "frame_mean"):
        found = _mean(acts.load(grid.site, grid.reduction, runs=runs, lazy=False, **chosen), order)
    else:  # whole tokens: a run at a time, of which dask reads some frames at a time
        each = [_mean(acts.load(grid.site, grid.reduction, runs=[run], **chosen), order, grid.side) for run in runs]
        found = xr.concat(
            [one.compute(scheduler="synchronous") for one in each], dims.RUN, coords="minimal", compat="override"
        )
    values = found.to_numpy()
    if not np.isfinite(values).all():
        bad = [run for run, one in zip(runs, values, strict=True) if not np.isfinite(one).all()]
        raise NonFinite(
            f"{grid.site}/{grid.reduction} is NaN or infinite in {len(bad)} runs ({', '.join(bad[:3])}): leave them "
            "out with where= or runs=, or capture them again in another dtype."
        )
    return np.ascontiguousarray(values, np.float32)


def _window(array: xr.DataArray, dim: str, side: int) -> int:
    return -(-array.sizes[dim] // side)


def _mean(array: xr.DataArray, order: tuple[str, ...], side: int = 1) -> xr.DataArray:
    if side > 1:
        windows = {dim: _window(array, dim, side) for dim in (dims.Y, dims.X)}
        small = array.coarsen(windows, boundary="pad").mean()
        array = small.rename({dims.CHANNEL: "own"}).stack({dims.CHANNEL: (dims.Y, dims.X, "own")}, create_index=False)
    over = [dim for dim in array.dims if dim not in order]
    kept = array.mean(over, dtype=np.float64) if over else array
    return kept.astype(np.float32, copy=False).transpose(*order)


def latents(acts: ActivationStore, step: int, runs: Sequence[str], *, limit: int) -> NDArray[np.float32]:
    """The latents of a step, one vector a run, averaged in squares of cells until it has at most `limit` values."""
    each = (acts.load("latent", "full", runs=[run], step=step, lazy=False).isel({dims.RUN: 0}) for run in runs)
    return np.stack([coarse(latent, limit) for latent in each])


def coarse(latent: xr.DataArray, limit: int) -> NDArray[np.float32]:
    """One vector of a latent, averaged in squares of cells until it has at most `limit` values."""
    side = 1
    while latent.size / side**2 > limit and side < max(latent.sizes[dims.Y], latent.sizes[dims.X]):
        side += 1
    small = latent.coarsen({dims.Y: side, dims.X: side}, boundary="pad").mean() if side > 1 else latent
    return small.to_numpy().astype(np.float32).ravel()


def words(prompts: Sequence[str]) -> NDArray[np.float32]:
    """How often each word is in each prompt, `[prompt, word]`: what a probe can read off the text alone."""
    from sklearn.feature_extraction.text import CountVectorizer

    counted: Any = CountVectorizer(token_pattern=r"\w+").fit_transform(prompts)
    return counted.toarray().astype(np.float32)
