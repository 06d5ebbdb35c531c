"""Maps of the energy: where in the frame it is, of single samples and over all, which are too many to keep."""

from __future__ import annotations

from typing import Final

import numpy as np
import xarray as xr

from analyses._energy_cells import Floats
from analyses._energy_kinds import KIND, UNITS
from analyses._stats import bare, described, half_width
from store import dims

MAP_SAMPLE: Final = "map_sample"
"""Axis of the few samples whose own maps are kept."""
MAP_SAMPLES: Final = 3
"""Samples whose own maps are kept: the first by their ids."""
MAP_STEP: Final = "map_step"
"""Axis of the few steps whose maps are kept."""
MAP_STEPS: Final = 5
"""Steps whose maps are kept, evenly over the sampling, first and last included."""
MAP_CELLS: Final = 64
"""Longest side of a kept map; a larger token grid is averaged in blocks."""
TYPICAL: Final = 1_000_000
"""Cells of a map at least, where it has more, of which a typical half width is the median."""
_WORDS: Final = {
    "raw": "raw L2 norm over channels",
    "masked": "L2 norm over channels that are no outliers",
    "massive": "L2 norm over outlier channels",
    "standardised": "root mean square over standardised channels",
}
"""What each kind of energy is."""


def kept_steps(steps: int) -> list[int]:
    """Positions of the steps whose maps are kept."""
    return np.unique(np.linspace(0, steps - 1, MAP_STEPS).round().astype(int)).tolist()


def block_side(tokens: xr.DataArray) -> int:
    """Tokens along the side of a block that is one cell of a map."""
    return -(-max(tokens.sizes[dims.Y], tokens.sizes[dims.X]) // MAP_CELLS)


def in_blocks(tokens: Floats, side: int) -> Floats:
    """A copy of energies `[…, y, x]`, averaged in blocks of so many tokens a side; the last may be smaller."""
    if side == 1:
        return tokens.copy()
    for axis in (-2, -1):
        first = np.arange(0, tokens.shape[axis], side)
        counts = np.diff(first, append=tokens.shape[axis]).astype(np.float32)
        tokens = np.add.reduceat(tokens, first, axis=axis) / (counts if axis == -1 else counts[:, None])
    return tokens


class Maps:
    """Maps of the first samples, and mean and spread over all (Welford's update), layer by layer."""

    def __init__(self) -> None:
        self.first: dict[str, xr.DataArray] = {}
        self._like: xr.DataArray | None = None
        self._n = np.zeros(0, np.int64)
        self._mean = self._squares = np.zeros(0, np.float32)

    def add(self, sample: str, maps: xr.DataArray, counted: xr.DataArray | None = None) -> None:
        """Take in one sample's maps `[kind, map_step, layer, frame, y, x]`, of the layers that are `counted`."""
        if sample not in self.first and len(self.first) < MAP_SAMPLES:
            self.first[sample] = maps.sel({KIND: "raw"}, drop=True)
        values = maps.to_numpy()
        if self._like is None:
            self._like = maps
            self._mean, self._squares = np.zeros_like(values), np.zeros_like(values)
            self._n = np.zeros(maps.sizes[dims.LAYER], np.int64)
        yes = np.ones(len(self._n), bool) if counted is None else counted.to_numpy()
        self._n += yes
        for at in np.ndindex(values.shape[:3]):  # a cell at a time stays in the processor's cache
            if yes[at[-1]]:
                off = values[at] - self._mean[at]
                self._mean[at] += off / self._n[at[-1]]
                off *= values[at] - self._mean[at]
                self._squares[at] += off

    def keep(self, layers: xr.DataArray) -> None:
        """Forget means and spreads of layers that are False here, bool `[layer]`."""
        self._n[~layers.to_numpy()] = 0
        for one in (self._mean, self._squares):
            one[:, :, ~layers.to_numpy()] = 0

    def arrays(self, *, side: int) -> dict[str, xr.DataArray]:
        """`maps`, `maps_<kind>` of other kinds and `sample_maps`, with what a caption needs."""
        assert self._like is not None
        n = int(self._n.max())
        width = half_width(xr.DataArray(1.0), n).item()
        blocks = f", in blocks of {side} × {side} tokens" if side > 1 else ""
        found: dict[str, xr.DataArray] = {}
        for at, kind in enumerate(self._like[KIND].to_numpy().tolist()):
            like = bare(self._like.isel({KIND: at}, drop=True))
            mean = like.copy(data=self._mean[at])
            every = max(1, mean.size // TYPICAL)
            middle, squares = (one[at].reshape(-1)[::every] for one in (self._mean, self._squares))
            attrs = described(middle, width * np.sqrt(squares / max(1, n - 1)), n=n, attrs={"units": UNITS[kind]})
            words = f"{_WORDS[kind]}{blocks}, mean over samples"
            found["maps" if kind == "raw" else f"maps_{kind}"] = mean.assign_attrs({**attrs, "long_name": words})
        along = xr.Variable(MAP_SAMPLE, list(self.first))
        each = bare(xr.concat(list(self.first.values()), dim=along, coords="minimal", compat="override"))
        words = f"{_WORDS['raw']}{blocks}, of single samples"
        return {**found, "sample_maps": each.assign_attrs(long_name=words, units=UNITS["raw"])}
