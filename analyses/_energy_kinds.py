"""What counts as energy, and raw energy of every token of some runs, lazily, from the reduction `energy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from dask.array import concatenate, from_delayed
from dask.delayed import delayed
from numpy.typing import NDArray

import store
from analyses._energy_cells import KINDS
from store import ActivationStore, dims
from store.places import Location

__all__ = ["KIND", "KINDS", "UNITS", "raw"]

KIND: Final = "kind"
"""Axis of what counts as energy."""
UNITS: Final = {
    "raw": "activation",
    "masked": "activation",
    "massive": "activation",
    "standardised": "deviations of the channel",
}
BLOCK: Final = 32 << 20
"""Bytes of the reduction `energy` that one dask task reads: some steps of a run."""


def raw(acts: ActivationStore, runs: Sequence[str], *, site: str, branch: str) -> xr.DataArray:
    """Raw energy of every token of some runs, from the reduction `energy`.

    Returns:
        float32 `[kind, run, step, layer, frame, y, x]`, lazily, some steps at a time: its cells are so small
        that a task for each costs most.
    """
    like = acts.load(site, "energy", runs=list(runs), branch=branch)
    steps = like[dims.STEP].to_numpy()
    size = max(1, BLOCK // max(1, like.nbytes // (len(runs) * len(steps))))
    parts: list[Any] = []
    for run in runs:
        own = [steps[at : at + size] for at in range(0, len(steps), size)]
        each = [
            from_delayed(
                delayed(_block)(acts.path, run, site, branch, [int(step) for step in some], like.dims),
                (1, len(some), *like.shape[2:]),
                like.dtype,
            )
            for some in own
        ]
        parts.append(concatenate(each, axis=1))
    return like.copy(data=concatenate(parts, axis=0)).expand_dims({KIND: ["raw"]})


def _block(
    path: Location, run: str, site: str, branch: str, steps: list[int], axes: tuple[str, ...]
) -> NDArray[np.float32]:
    found = store.open(path).load(site, "energy", runs=[run], branch=branch, step=steps, lazy=False)
    return found.transpose(*axes).to_numpy()
