"""What changed runs have come to, by arm and sample: scores lost, answers changed, videos changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import xarray as xr

from analyses.experiments import _paired
from analyses.experiments._paired import Float, Pair
from store import ActivationStore, StepInfo

TOGETHER: Final = 64
"""Pairs whose videos are read at once."""
RIGHT: Final = 0.5
"""Score of an answer from which on it counts as right."""
ARM: Final = "arm"
SAMPLE: Final = "sample"


class Outcomes(NamedTuple):
    """Means over the seeds of a sample, float64 `[arm, sample]`; NaN where an arm lacks a sample or a score."""

    arms: tuple[Any, ...]
    """Labels of the arms, named tuples of one kind."""
    samples: tuple[str, ...]
    """Ids, sorted."""
    clean: Float
    """Score of the clean runs."""
    drop: Float
    """Clean score less the score of the changed run."""
    answer: Float
    """Share of runs whose answer is right where the clean one is wrong, or the other way round."""
    video: Float
    """Mean absolute difference of the finished videos; 1 is black against white."""

    def mean(self, chosen: Callable[[Any], bool]) -> Float:
        """Mean drop over some arms, float64 `[sample]`; NaN where none of them has a score."""
        rows = self.drop[[at for at, arm in enumerate(self.arms) if chosen(arm)]]
        return np.nanmean(rows, axis=0) if np.isfinite(rows).any() else np.full(len(self.samples), np.nan)


def outcomes(acts: ActivationStore, pairs: Sequence[Pair], *, metric: str, order: Callable[[Any], Any]) -> Outcomes:
    """Outcomes of every pair.

    Args:
        acts: The store.
        pairs: Changed runs beside their clean ones.
        metric: The score that drops.
        order: Sorts the arms.
    """
    read = _scores(acts, [run.id for pair in pairs for run in (pair.run, pair.clean)])

    def of(name: str, which: Literal["run", "clean"]) -> Float:
        found = read.get(name, {})
        return np.array([found.get(getattr(pair, which).id, np.nan) for pair in pairs], np.float64)

    def right(which: Literal["run", "clean"]) -> Float:
        answer = of("answer", which)
        return np.where(np.isnan(answer), np.nan, (answer >= RIGHT).astype(np.float64))

    arms = tuple(sorted({pair.arm for pair in pairs}, key=order))
    samples = tuple(sorted({pair.run.sample_id for pair in pairs}))
    values = {
        "clean": of(metric, "clean"),
        "drop": of(metric, "clean") - of(metric, "run"),
        "answer": np.abs(right("run") - right("clean")),
        "video": _video_changes(acts, pairs),
    }
    return Outcomes(arms, samples, **{name: _by_sample(one, pairs, arms, samples) for name, one in values.items()})


def dataset(found: Outcomes, steps: Sequence[StepInfo]) -> xr.Dataset:
    """Outcomes as a result holds them: means over samples with intervals, tests of the drop, labels as coordinates.

    Args:
        found: The outcomes.
        steps: Of a clean run; arms with the label `step` get its sigma and expert.
    """
    info = {step.step: step for step in steps}
    at = [info.get(getattr(arm, "step", -1)) for arm in found.arms]
    columns: dict[str, Any] = {
        name: (ARM, [getattr(arm, name) for arm in found.arms]) for name in found.arms[0]._fields
    }
    columns |= {
        "expert": (ARM, ["" if one is None else one.expert for one in at]),
        "sigma": (ARM, [np.nan if one is None else one.sigma for one in at]),
        SAMPLE: list(found.samples),
    }
    told: dict[str, tuple[str, str, Float]] = {
        "score": ("score of the changed run", "0 to 1", found.clean - found.drop),
        "score_drop": ("clean score less that of the changed run", "score", found.drop),
        "answer_change": ("share of runs whose answer changes", "share", found.answer),
        "video_change": ("mean absolute difference to the clean video", "share of a pixel's range", found.video),
    }
    data: dict[str, Any] = {}
    for name, (long_name, units, values) in told.items():
        attrs = {"long_name": long_name, "units": units, "n": len(found.samples), "interval": _paired.INTERVAL}
        ranges = [_paired.interval(row) for row in values]
        for part, suffix in (("mean", ""), ("low", "_low"), ("high", "_high")):
            data[name + suffix] = (ARM, [float(getattr(one, part)) for one in ranges], attrs)
    p = p_values(found)
    data["score_drop_by_sample"] = ((ARM, SAMPLE), found.drop, {"long_name": told["score_drop"][0], "units": "score"})
    data["effect_size"] = (ARM, [_paired.effect_size(row) for row in found.drop], {"long_name": "d_z of the drop"})
    data["p_value"] = (ARM, p, {"long_name": "p of no drop, by flipping signs"})
    data["p_adjusted"] = (ARM, _paired.holm(p), {"long_name": f"the same, {_paired.CORRECTION} over all arms"})
    return xr.Dataset(data, coords=columns, attrs={"headline": "score_drop"})


def p_values(found: Outcomes) -> Float:
    """P of no drop in each arm, float64 `[arm]`, not corrected."""
    return np.array([_paired.p_value(row) for row in found.drop], np.float64)


def _scores(acts: ActivationStore, run_ids: Sequence[str]) -> dict[str, dict[str, float]]:
    """Metric → run → score of the finished video."""
    query = "SELECT metric, run_id, avg(value) FROM scores WHERE step IS NULL AND list_contains(?, run_id) GROUP BY ALL"
    found: dict[str, dict[str, float]] = {}
    for metric, run_id, value in acts.sql(query, [list(run_ids)]).fetchall():
        found.setdefault(str(metric), {})[str(run_id)] = float(value)
    return found


def _video_changes(acts: ActivationStore, pairs: Sequence[Pair]) -> Float:
    """Mean absolute difference of the pixels of each pair's videos, 0 to 1; many videos are read at once."""
    found = np.full(len(pairs), np.nan)
    for first in range(0, len(pairs), TOGETHER):
        some = pairs[first : first + TOGETHER]
        ids = list(dict.fromkeys(run.id for pair in some for run in (pair.run, pair.clean)))
        read = acts.load("output", "pixels", runs=ids, lazy=False).to_numpy()
        videos = dict(zip(ids, read, strict=True))
        for at, pair in enumerate(some):
            change = videos[pair.run.id].astype(np.int16) - videos[pair.clean.id]
            found[first + at] = np.abs(change).mean() / 255
    return found


def _by_sample(values: Float, pairs: Sequence[Pair], arms: Sequence[Any], samples: Sequence[str]) -> Float:
    rows, columns = (
        [of.index(one) for one in ones]
        for of, ones in ((arms, [pair.arm for pair in pairs]), (samples, [pair.run.sample_id for pair in pairs]))
    )
    return _paired.means(values, rows, columns, (len(arms), len(samples)))
