"""Maps of the energy: where in the frame it is, of single samples and over all, which are too many to keep."""

from __future__ import annotations

from typing import Final

import numpy as np
import xarray as xr

from analyses._energy_kinds import KIND, UNITS
from analyses._stats import described, half_width
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


def small(tokens: xr.DataArray) -> xr.DataArray:
    """Energies of the kept steps `[…, map_step, layer, frame, y, x]`, float32, lazily."""
    kept = tokens.isel({dims.STEP: kept_steps(tokens.sizes[dims.STEP])})
    return in_blocks(kept, block_side(tokens)).rename({dims.STEP: MAP_STEP})


def in_blocks(tokens: xr.DataArray, side: int) -> xr.DataArray:
    """Energies `[…, y, x]` averaged in blocks of so many tokens a side, float32."""
    if side > 1:
        tokens = tokens.coarsen({dims.Y: side, dims.X: side}, boundary="pad").mean()
    return tokens.astype(np.float32)


class Maps:
    """Maps of the first samples, and mean and spread over all (Welford's update), layer by layer."""

    def __init__(self) -> None:
        self.first: dict[str, xr.DataArray] = {}
        self._n: xr.DataArray | int = 0
        self._mean = xr.DataArray(np.float32(0))
        self._squares = xr.DataArray(np.float32(0))

    def add(self, sample: str, maps: xr.DataArray, counted: xr.DataArray | None = None) -> None:
        """Take in one sample's maps `[kind, map_step, layer, frame, y, x]`, of the layers that are `counted`."""
        if sample not in self.first and len(self.first) < MAP_SAMPLES:
            self.first[sample] = maps.sel({KIND: "raw"}, drop=True)
        off = maps - self._mean
        if counted is None:
            self._n = self._n + 1
            self._mean = self._mean + off / self._n
            self._squares = self._squares + off * (maps - self._mean)
        else:
            self._n = self._n + counted.astype(np.float32)
            self._mean = self._mean + (off / np.maximum(self._n, 1)).where(counted, 0)
            self._squares = self._squares + (off * (maps - self._mean)).where(counted, 0)

    def keep(self, layers: xr.DataArray) -> None:
        """Forget means and spreads of layers that are False here, bool `[layer]`."""
        self._n, self._mean, self._squares = (
            xr.DataArray(one).where(layers, 0) for one in (self._n, self._mean, self._squares)
        )

    def arrays(self, *, side: int) -> dict[str, xr.DataArray]:
        """`maps`, `maps_<kind>` of other kinds and `sample_maps`, with what a caption needs."""
        n = int(np.max(self._n))
        spread = (self._squares / (n - 1)) ** 0.5 if n > 1 else self._mean * np.nan
        blocks = f", in blocks of {side} × {side} tokens" if side > 1 else ""
        found: dict[str, xr.DataArray] = {}
        for kind in self._mean[KIND].to_numpy().tolist():
            mean, off = (one.sel({KIND: kind}, drop=True) for one in (self._mean, spread))
            attrs = described(mean, half_width(off, n), n=n, attrs={"units": UNITS[kind]})
            words = f"{_WORDS[kind]}{blocks}, mean over samples"
            found["maps" if kind == "raw" else f"maps_{kind}"] = mean.assign_attrs({**attrs, "long_name": words})
        along = xr.Variable(MAP_SAMPLE, list(self.first))
        each = xr.concat(list(self.first.values()), dim=along, coords="minimal", compat="override").drop_attrs()
        words = f"{_WORDS['raw']}{blocks}, of single samples"
        return {**found, "sample_maps": each.assign_attrs(long_name=words, units=UNITS["raw"])}
