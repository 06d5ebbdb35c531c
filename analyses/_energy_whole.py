"""Energies of whole tokens, in one reading: each cell is read, measured and let go by one dask task.

Which channels are outliers of a layer is known when the last sample has been read, and masked and massive energies of
the first need it. So they are made with a guess, by the same reading that says how large each channel is; what was
guessed is handed out beside them, for `analyses/_energy_measure.py` to read again what turned out otherwise.

Shapes: d channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

import store
from analyses._energy_cells import Floats, of_cell
from analyses._energy_reading import TOKENS, Reading, Reduced, Scratch, of_runs, reading, reduced
from store import ActivationStore, dims
from store.places import Location


class Asked(NamedTuple):
    """What is read of each sample."""

    site: str
    branch: str
    kinds: tuple[str, ...]


class _Read(NamedTuple):
    """What stays of a cell."""

    energy: Reduced
    """Of each kind."""
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
        As `of_runs`, and means over runs of channels `square` (mean square) and `absmax` (largest magnitude), float64
        [step, layer, channel]; and of each run `outlier` (what `masked` left out), bool [run, step, layer, channel].
    """
    like = acts.load(asked.site, "full", runs=runs, branch=asked.branch, layer=None if layers is None else list(layers))
    if outlier is not None:
        like = like.sel({dims.LAYER: like[dims.LAYER].isin(outlier[dims.LAYER])})
    axes = (dims.RUN, dims.STEP, dims.LAYER)
    runs, steps, here = (like[dim].to_numpy().tolist() for dim in axes)
    how = reading(like, weights)
    known = [None if outlier is None else outlier.sel({dims.LAYER: layer}).to_numpy() for layer in here]
    scratch = Scratch(like.size // (len(runs) * len(steps) * len(here)))
    same = delayed(how, traverse=False)
    read: list[_Read] = list(
        compute(
            *(
                delayed(_cell)(acts.path, asked, (run, step, layer), known[at], same, place in how.kept, scratch)
                for run in runs
                for place, step in enumerate(steps)
                for at, layer in enumerate(here)
            )
        )
    )

    def table(each: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Of what is known of each cell, `[run, step, layer, …]`."""
        return np.stack(each).reshape(len(runs), -1, len(here), *each[0].shape)

    maps = table([one.energy.maps[0] for one in read if len(one.energy.maps)])
    found = of_runs(table([one.energy.parts for one in read]), maps, like=like, weights=weights, kinds=asked.kinds)
    own = (dims.STEP, dims.LAYER, dims.CHANNEL)
    return found.assign(
        square=(own, table([one.square for one in read]).mean(axis=0)),
        absmax=(own, table([one.absmax for one in read]).mean(axis=0, dtype=np.float64)),
        outlier=((dims.RUN, *own), table([one.outlier for one in read])),
    )


def _cell(
    path: Location,
    asked: Asked,
    at: tuple[str, int, int],
    outlier: NDArray[np.bool_] | None,
    how: Reading,
    keep: bool,
    scratch: Scratch,
) -> _Read:
    """Read one cell, and say everything of it."""
    run, step, layer = at
    chosen: dict[str, Any] = {"runs": [run], "branch": asked.branch, "step": step, "layer": layer}
    memory = scratch.take()
    found = store.open(path).load(asked.site, "full", **chosen, lazy=False, out=memory)
    values = np.ascontiguousarray(found.transpose(dims.RUN, *TOKENS, dims.CHANNEL).to_numpy()[0])
    cell = of_cell(values.reshape(-1, values.shape[-1]), outlier, asked.kinds)
    scratch.give(memory)
    energy = cell.energy.reshape(-1, *values.shape[:-1])
    kept = reduced(energy[None], how, slice(0, int(keep)))
    return _Read(Reduced(kept.parts[0], kept.maps), cell.square, cell.absmax, cell.outlier)
