"""Numbers of the x̂0 trajectory, from its arrays: distances, scores and the steps from which something stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from analyses.errors import AmbiguousScores, NonFinite
from store import ActivationStore, dims

METRIC: Final = "metric"
"""Axis of what a scorer reads off a video: `answer`, `process`, …"""
ANSWER: Final = "answer"
"""The metric on which commitment is judged."""
SOLVED: Final = 0.5
"""A run whose finished video reaches this `answer` score ends right; only such a run can commit to an answer."""
SAME_ANSWER: Final = 0.05
"""Two `answer` scores no further apart than this are the same answer."""
HALF: Final = 0.5
"""Fraction of the first step's distance below which x̂0 counts as on its way to the final one."""
BLOCK: Final = 64 << 20
"""Bytes of x̂0 that are looked at together."""
_SPACE: Final = (dims.Y, dims.X, dims.CHANNEL)


def of_run(acts: ActivationStore, reduction: str, run: str) -> xr.DataArray:
    """x̂0 of one run, `[run, step, frame, y, x, channel]`: in memory where it is no larger than `BLOCK`, else lazy."""
    x0 = acts.load("x0_hat", reduction, runs=[run])
    return x0 if x0.nbytes > BLOCK else acts.load("x0_hat", reduction, runs=[run], lazy=False)


def latent_path(x0: xr.DataArray) -> xr.Dataset:
    """Distance to the last step, by step and by frame, and change from step to step.

    Args:
        x0: `[run, step, frame, y, x, channel]` in the latent grid, lazy or not.

    Returns:
        `latent_distance` [run, step], `latent_distance_by_frame` [run, step, frame], `latent_change`
        [run, step] (NaN at the first step), in memory. A run whose last x̂0 is zero gets NaN.
    """
    x0 = x0.transpose(dims.RUN, dims.STEP, dims.FRAME, *_SPACE)
    last = x0.isel(step=slice(-1, None)).to_numpy()
    before = np.full_like(last, np.nan)
    off, moved = [], []
    for values in _some_steps(x0):
        off.append(np.square(values - last).sum((3, 4, 5), dtype=np.float64))
        shifted = np.concatenate([before, values[:, :-1]], axis=1)
        moved.append(np.square(values - shifted).sum((2, 3, 4, 5), dtype=np.float64))
        before = values[:, -1:]
    squares = np.square(last).sum((1, 2, 3, 4, 5), dtype=np.float64)
    bare = x0.isel({dim: 0 for dim in _SPACE}, drop=True)
    by_frame = bare.copy(data=np.concatenate(off, axis=1))
    by_step = bare.isel(frame=0, drop=True)
    change = by_step.copy(data=np.concatenate(moved, axis=1))
    norm = by_step.isel(step=0, drop=True).copy(data=squares)
    _check_finite(norm + change.isel(step=slice(1, None)).sum(dims.STEP, skipna=False))
    norm = norm.where(norm > 0)
    return xr.Dataset(
        {
            "latent_distance": np.sqrt(by_frame.sum(dims.FRAME) / norm),
            "latent_distance_by_frame": np.sqrt(by_frame * x0.sizes[dims.FRAME] / norm),
            "latent_change": np.sqrt(change / norm),
        }
    )


def pixel_path(x0: xr.DataArray, final: xr.DataArray) -> xr.Dataset:
    """Distance of the decoded x̂0 to the finished video.

    Args:
        x0: uint8 `[run, step, frame, y, x, channel]`, lazy or not.
        final: uint8 `[run, frame, y, x, channel]`.

    Returns:
        `pixel_distance` [run, step]: mean absolute difference over the range of a pixel, in memory.
    """
    x0 = x0.transpose(dims.RUN, dims.STEP, dims.FRAME, *_SPACE)
    end = final.transpose(dims.RUN, dims.FRAME, *_SPACE).to_numpy().astype(np.int16)[:, None]
    off = [abs(values - end).mean((2, 3, 4, 5), dtype=np.float64) for values in _some_steps(x0)]
    by_step = x0.isel({dim: 0 for dim in (dims.FRAME, *_SPACE)}, drop=True)
    return xr.Dataset({"pixel_distance": by_step.copy(data=np.concatenate(off, axis=1) / 255)})


def _some_steps(x0: xr.DataArray) -> Iterator[NDArray[Any]]:
    """Values of as many steps as `BLOCK` holds, one after another: small arrays are read at once."""
    at_once = max(1, BLOCK * x0.sizes[dims.STEP] // max(1, x0.nbytes))
    for first in range(0, x0.sizes[dims.STEP], at_once):
        yield x0.isel(step=slice(first, first + at_once)).to_numpy()


def settled_from(holds: xr.DataArray) -> xr.DataArray:
    """First step from which a condition holds to the end.

    Args:
        holds: bool `[run, step]`, with the coordinate `step`.

    Returns:
        float64 `[run]`: the step's number, NaN where the condition does not hold at the last step.
    """
    backwards = holds.isel({dims.STEP: slice(None, None, -1)})
    stays = backwards.astype(np.int8).cumprod(dims.STEP) > 0
    return backwards[dims.STEP].where(stays).min(dims.STEP)


def answer_commit(score: xr.DataArray, final: xr.DataArray) -> xr.DataArray:
    """First step from which the answer read from x̂0 is that of the finished video, where that is right.

    Args:
        score: `answer` of each x̂0, `[run, step]`.
        final: `answer` of the finished video, `[run]`.

    Returns:
        float64 `[run]`; NaN for a run that ends wrong (a wrong answer is there from the first noise on, so
        its first step says nothing), or whose last x̂0 has another answer than its video.
    """
    return settled_from(abs(score - final) <= SAME_ANSWER).where(final >= SOLVED)


def distance_commit(distance: xr.DataArray) -> xr.DataArray:
    """First step from which x̂0 stays nearer to its end than half of the first step's distance.

    Args:
        distance: `[run, step]`.

    Returns:
        float64 `[run]`; NaN where x̂0 never moves.
    """
    return settled_from(distance < HALF * distance.isel(step=0, drop=True))


class Scores(NamedTuple):
    """What the scorers read off the videos of some runs."""

    by_step: xr.DataArray
    """`[run, metric, step]`: of each scored x̂0; NaN where there is none."""
    final: xr.DataArray
    """`[run, metric]`: of the finished video; of the last scored x̂0 for a run without one."""


def score_table(rows: pd.DataFrame) -> Scores:
    """Scores as arrays.

    Args:
        rows: Columns `run_id`, `scorer`, `metric`, `value`, `step` (missing: the finished video); at least
            one row has a step.

    Raises:
        AmbiguousScores: if two scorers gave a run the same metric.
    """
    twice = rows[rows.duplicated(["run_id", "metric", "step"])]
    if len(twice):
        first, names = twice.iloc[0], ", ".join(sorted(set(rows["scorer"])))
        raise AmbiguousScores(
            f"Run {first['run_id']} has {first['metric']!r} from several scorers ({names}); choose one with scorer=."
        )
    named = rows.rename(columns={"run_id": dims.RUN})
    of_steps, of_videos = named[named["step"].notna()], named[named["step"].isna()]
    by_step = of_steps.astype({"step": int}).set_index([dims.RUN, METRIC, dims.STEP])["value"].to_xarray()
    step = by_step[dims.STEP].where(by_step.notnull())
    last = by_step.where(step == step.max(dims.STEP)).max(dims.STEP)
    if of_videos.empty:
        return Scores(by_step, last)
    final = of_videos.set_index([dims.RUN, METRIC])["value"].to_xarray().reindex_like(last)
    return Scores(by_step, final.fillna(last))


def _check_finite(total: xr.DataArray) -> None:
    bad = ~(abs(total) < np.inf)
    if bad.any():
        names = ", ".join(str(name) for name in total[dims.RUN].to_numpy()[bad.to_numpy()])
        raise NonFinite(
            f"x̂0 of {int(bad.sum())} of {bad.size} runs holds NaN or infinity ({names}): the model overflowed there. "
            "Leave these runs out with where= or runs=, or capture them again in another dtype."
        )
