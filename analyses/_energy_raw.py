"""Raw energies of tokens, from the reduction `energy`: some steps of a run are read and reduced by one dask task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import xarray as xr
from dask.base import compute
from dask.delayed import delayed

import store
from analyses._energy_reading import TOKENS, Reading, Reduced, Scratch, of_runs, reading, reduced
from store import ActivationStore, dims
from store.places import Location

BLOCK: Final = 32 << 20
"""Bytes that one dask task reads: cells are so small that a task for each would cost most."""


def raw(acts: ActivationStore, runs: Sequence[str], weights: xr.DataArray, *, site: str, branch: str) -> xr.Dataset:
    """Energies of one sample.

    Args:
        acts: The store.
        runs: Runs of the sample.
        weights: Of the tokens of each part of the picture `[region, frame, y, x]`.
        site: Site inside the model.
        branch: `cond` or `uncond`.

    Returns:
        As `of_runs`, of the kind `raw`.
    """
    like = acts.load(site, "energy", runs=list(runs), branch=branch)
    steps, how = like[dims.STEP].to_numpy().tolist(), reading(like, weights)
    values = like.size // (len(runs) * len(steps))
    size = min(len(steps), max(1, BLOCK // max(1, values * like.dtype.itemsize)))
    scratch = Scratch(size * values)
    same = delayed(how, traverse=False)
    read: list[Reduced] = list(
        compute(
            *(
                delayed(_block)(acts.path, run, site, branch, steps[at : at + size], at, values, same, scratch)
                for run in like[dims.RUN].to_numpy().tolist()
                for at in range(0, len(steps), size)
            )
        )
    )
    axes = (len(runs), -1, like.sizes[dims.LAYER], 1)
    parts = np.concatenate([one.parts for one in read])
    maps = np.concatenate([one.maps for one in read])
    return of_runs(
        parts.reshape(*axes, *parts.shape[2:]),
        maps.reshape(*axes, *maps.shape[2:]),
        like=like,
        weights=weights,
        kinds=["raw"],
    )


def _block(
    path: Location,
    run: str,
    site: str,
    branch: str,
    steps: list[int],
    first: int,
    values: int,
    how: Reading,
    scratch: Scratch,
) -> Reduced:
    """Steps from the `first` on, each of so many values."""
    memory = scratch.take()
    out = memory[: len(steps) * values]
    found = store.open(path).load(site, "energy", runs=[run], branch=branch, step=steps, lazy=False, out=out)
    energy = found.transpose(dims.RUN, dims.STEP, dims.LAYER, *TOKENS).to_numpy()[0]
    kept = [at - first for at in how.kept if first <= at < first + len(steps)]
    one = reduced(np.ascontiguousarray(energy), how, kept)
    scratch.give(memory)
    return one
