"""What reading leaves of the energies of a sample's tokens: means of each part of the picture, and a few maps.

Shapes: F latent frames, h×w tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from analyses._energy_cells import Floats
from analyses._energy_kinds import KIND
from analyses._energy_maps import MAP_STEP, block_side, in_blocks, kept_steps
from analyses._token_regions import REGION, weighted
from store import dims

TOKENS: Final = (dims.FRAME, dims.Y, dims.X)


class Reading(NamedTuple):
    """How the tokens of a sample are read."""

    weights: NDArray[np.float32]
    """Of the tokens of each part of the picture `[region, F, h, w]`."""
    side: int
    """Tokens along the side of a block that is one cell of a map."""
    kept: tuple[int, ...]
    """Positions of the steps whose maps are kept."""


class Reduced(NamedTuple):
    """What stays of some tokens."""

    parts: NDArray[np.float64]
    """Mean energy of each part of the picture in each frame `[…, F, region]`."""
    maps: Floats
    """In blocks `[…, F, h, w]`, of steps whose maps are kept."""


def reading(like: xr.DataArray, weights: xr.DataArray) -> Reading:
    """The same for all tokens of a sample.

    Args:
        like: All that is read of it, lazily.
        weights: `[region, frame, y, x]`.
    """
    return Reading(weights.to_numpy(), block_side(like), tuple(kept_steps(like.sizes[dims.STEP])))


def reduced(energy: Floats, how: Reading, kept: Sequence[int] | slice) -> Reduced:
    """What stays of energies `[…, F, h, w]`; `kept` are the places along the first axis whose maps do."""
    return Reduced(weighted(energy, how.weights), in_blocks(energy[kept], how.side))


def of_runs(
    parts: NDArray[np.float64], maps: Floats, *, like: xr.DataArray, weights: xr.DataArray, kinds: Sequence[str]
) -> xr.Dataset:
    """Means over a sample's runs, with their labels.

    Args:
        parts: `[run, step, layer, kind, F, region]`.
        maps: `[run, map_step, layer, kind, F, h, w]`.
        like: What was read, lazily.
        weights: `[region, frame, y, x]`.
        kinds: Of energy.

    Returns:
        `parts` [kind, step, layer, frame, region], float64; `maps` [kind, map_step, layer, frame, y, x], float32.
    """
    labels = {dim: like[dim].to_numpy() for dim in (dims.STEP, dims.LAYER, dims.FRAME) if dim in like.coords}
    kept = like[dims.STEP].to_numpy()[kept_steps(like.sizes[dims.STEP])]
    own: dict[str, Any] = {KIND: list(kinds), REGION: weights[REGION].to_numpy(), MAP_STEP: kept}
    found = {
        "parts": ((dims.STEP, dims.LAYER, KIND, dims.FRAME, REGION), parts.mean(axis=0)),
        "maps": ((MAP_STEP, dims.LAYER, KIND, *TOKENS), maps[0] if len(maps) == 1 else maps.mean(axis=0), like.attrs),
    }
    return xr.Dataset(found, coords={**labels, **own}).transpose(KIND, ...)


class Scratch:
    """Where the tasks of one computation put what they read, one after the other.

    New memory costs as much again as reading into it. A task in another process makes its own.

    Args:
        size: Values of a task at most.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: list[Floats] = []

    def __reduce__(self) -> tuple[type[Scratch], tuple[int]]:
        return Scratch, (self._size,)

    def take(self) -> Floats:
        """Memory for one task at a time."""
        try:
            return self._free.pop()
        except IndexError:
            return np.empty(self._size, np.float32)

    def give(self, memory: Floats) -> None:
        """Give it back for the next."""
        self._free.append(memory)
