"""One clock for videos of several runs: which step and which frame of a run stand at each position of the sliders."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from store import ActivationStore, dims


class Clock(NamedTuple):
    """The steps and frames that a run shows."""

    run_id: str
    steps: NDArray[np.int64]
    """At each position of the step slider."""
    frames: NDArray[np.int64]
    """Video frames, at each position of the frame slider."""

    def of(self, acts: ActivationStore, run_id: str, pixels: xr.DataArray) -> Clock | None:
        """The same moments in another run; None where they cannot be told.

        A run with as many denoising steps shows the same ones. Any other shows, at each position, its kept step of the
        nearest σ, and the frame at the nearest share of its length.

        Args:
            acts: Where both runs are.
            run_id: The other run.
            pixels: What it kept of x̂0, `[step, frame, …]`.
        """
        mine, other = acts.run(self.run_id), acts.run(run_id)
        kept, shown = pixels[dims.STEP].to_numpy(), pixels[dims.FRAME].to_numpy()
        steps = _same(self.steps, kept) if mine.run.settings.steps == other.run.settings.steps else None
        if mine.run.settings.steps != other.run.settings.steps:
            sigmas = [{info.step: info.sigma for info in entry.steps} for entry in (mine, other)]
            steps = _nearest(_looked_up(sigmas[0], self.steps), _looked_up(sigmas[1], kept), kept)
        lengths = [max(1, entry.run.settings.frames - 1) for entry in (mine, other)]
        frames = _nearest(self.frames / lengths[0], shown / lengths[1], shown)
        if lengths[0] == lengths[1]:
            frames = _same(self.frames, shown)
        return None if steps is None or frames is None else Clock(run_id, steps, frames)


def _same(wanted: NDArray[Any], kept: NDArray[Any]) -> NDArray[np.int64] | None:
    return wanted.astype(np.int64) if np.isin(wanted, kept).all() else None


def _looked_up(of: dict[int, float], steps: NDArray[Any]) -> NDArray[np.float64]:
    return np.array([of.get(int(step), np.nan) for step in steps])


def _nearest(wanted: NDArray[Any], places: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64] | None:
    """The label of the place nearest to each wanted one; None where a place is not known."""
    if not (len(places) and np.isfinite(wanted).all() and np.isfinite(places).all()):
        return None
    return labels[np.abs(wanted[:, None] - places[None]).argmin(axis=1)].astype(np.int64)
