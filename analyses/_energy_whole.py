"""Energies of whole tokens, in one reading: each cell is read, measured and let go by one dask task.

Which channels are outliers of a layer is known when the last sample has been read, and masked and massive energies of
the first need it. So they are made with a guess, by the same reading that says how large each channel is; what was
guessed is handed out beside them, for `analyses/_energy_measure.py` to read again what turned out otherwise.

Shapes: k kinds, F latent frames, h×w tokens, d channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

import store
from analyses._energy_cells import Floats, of_cell
from analyses._energy_kinds import KIND
from analyses._energy_maps import MAP_STEP, block_side, in_blocks, kept_steps
from analyses._token_regions import REGION, weighted
from store import ActivationStore, dims
from store.places import Location

_TOKENS: Final = (dims.FRAME, dims.Y, dims.X)


class Asked(NamedTuple):
    """What is read of each sample."""

    site: str
    branch: str
    kinds: tuple[str, ...]


class _Read(NamedTuple):
    """What stays of a cell."""

    profile: NDArray[np.float64]
    """Mean energy of each frame `[k, F]`."""
    parts: NDArray[np.float64]
    """Of each part of the picture in each frame `[k, F, region]`."""
    maps: Floats | None
    """`[k, F, h, w]`, in blocks; None in steps whose maps are not kept."""
    square: NDArray[np.float64]
    """Mean square of each channel `[d]`."""
    absmax: Floats
    """Largest magnitude of each channel `[d]`."""
    outlier: NDArray[np.bool_]
    """What masked energy left out `[d]`."""


def whole(
    acts: ActivationStore,
    runs: Sequence[str],
    asked: Asked,
    weights: xr.DataArray,
    *,
    outlier: xr.DataArray | None,
    layers: Sequence[int] | None = None,
) -> xr.Dataset:
    """Energies of one sample and how large its channels are, from whole tokens.

    Args:
        acts: The store.
        runs: Runs of the sample.
        asked: What is wanted.
        weights: Of the tokens of each part of the picture `[region, frame, y, x]`.
        outlier: Channels that `masked` leaves out, bool `[layer, channel]`, of more layers than there are perhaps;
            None guesses those of each cell by itself.
        layers: None for all.

    Returns:
        Means over runs, in memory: `profile` [kind, step, layer, frame], `parts` [kind, step, layer, frame, region],
        float64; `maps` [kind, map_step, layer, frame, y, x], float32; of channels `square` (mean square) and `absmax`
        (largest magnitude), float64 [step, layer, channel]; and of each run `outlier` (what `masked` left out), bool
        [run, step, layer, channel].
    """
    like = acts.load(asked.site, "full", runs=runs, branch=asked.branch, layer=None if layers is None else list(layers))
    if outlier is not None:
        like = like.sel({dims.LAYER: like[dims.LAYER].isin(outlier[dims.LAYER])})
    axes = (dims.RUN, dims.STEP, dims.LAYER)
    runs, steps, here = (like[dim].to_numpy().tolist() for dim in axes)
    side, kept = block_side(like), kept_steps(len(steps))
    known = [None if outlier is None else outlier.sel({dims.LAYER: layer}).to_numpy() for layer in here]
    scratch = _Scratch(int(np.prod([like.sizes[dim] for dim in (*_TOKENS, dims.CHANNEL)])))
    same = delayed(weights.to_numpy(), traverse=False)
    read: list[_Read] = list(
        compute(
            *(
                delayed(_cell)(
                    acts.path, asked, (run, step, layer), known[at], same, side if place in kept else None, scratch
                )
                for run in runs
                for place, step in enumerate(steps)
                for at, layer in enumerate(here)
            )
        )
    )

    def table(name: str, own: Sequence[str], step: str = dims.STEP) -> xr.DataArray:
        each = [part for one in read if (part := getattr(one, name)) is not None]
        values = np.stack(each).reshape(len(runs), -1, len(here), *each[0].shape)
        return xr.DataArray(values, dims=(dims.RUN, step, dims.LAYER, *own))

    found = xr.Dataset(
        {
            "profile": table("profile", [KIND, dims.FRAME]),
            "parts": table("parts", [KIND, dims.FRAME, REGION]),
            "maps": table("maps", [KIND, *_TOKENS], MAP_STEP),
            "square": table("square", [dims.CHANNEL]),
            "absmax": table("absmax", [dims.CHANNEL]).astype(np.float64),
        }
    ).mean(dims.RUN, skipna=False)
    found["maps"] = found["maps"].assign_attrs(like.attrs)
    found["outlier"] = table("outlier", [dims.CHANNEL])
    labels = {dim: like[dim].to_numpy() for dim in (dims.STEP, dims.FRAME, dims.CHANNEL) if dim in like.coords}
    own = {KIND: list(asked.kinds), REGION: weights[REGION].to_numpy(), MAP_STEP: np.array(steps)[kept]}
    return found.assign_coords({**labels, **own, dims.LAYER: here}).transpose(dims.RUN, KIND, ...)


def _cell(
    path: Location,
    asked: Asked,
    at: tuple[str, int, int],
    outlier: NDArray[np.bool_] | None,
    weights: NDArray[np.float32],
    side: int | None,
    scratch: _Scratch,
) -> _Read:
    """Read one cell, and say everything of it."""
    run, step, layer = at
    chosen: dict[str, Any] = {"runs": [run], "branch": asked.branch, "step": step, "layer": layer}
    memory = scratch.take()
    found = store.open(path).load(asked.site, "full", **chosen, lazy=False, out=memory).isel({dims.RUN: 0})
    found = found.transpose(*_TOKENS, dims.CHANNEL)
    tokens = np.ascontiguousarray(found.to_numpy()).reshape(-1, found.shape[-1])
    cell = of_cell(tokens, outlier, asked.kinds)
    scratch.give(memory)
    energy = cell.energy.reshape(-1, *found.shape[:-1])
    maps = None if side is None else in_blocks(xr.DataArray(energy, dims=(KIND, *_TOKENS)), side).to_numpy()
    return _Read(
        profile=energy.mean(axis=(-2, -1), dtype=np.float64),
        parts=weighted(energy, weights).astype(np.float64),
        maps=maps,
        square=cell.square,
        absmax=cell.absmax,
        outlier=cell.outlier,
    )


class _Scratch:
    """Where the tasks of one computation put the tokens of a cell, one after the other.

    New memory costs as much again as reading into it. A task in another process makes its own.

    Args:
        size: Values of a cell.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: list[Floats] = []

    def __reduce__(self) -> tuple[type[_Scratch], tuple[int]]:
        return _Scratch, (self._size,)

    def take(self) -> Floats:
        """Memory for one task at a time."""
        try:
            return self._free.pop()
        except IndexError:
            return np.empty(self._size, np.float32)

    def give(self, memory: Floats) -> None:
        """Give it back for the next."""
        self._free.append(memory)
