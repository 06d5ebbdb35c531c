"""Averaging seeds inside the model (E8), beside what the same number of forwards buys otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Final

import numpy as np
import xarray as xr

from analyses._registry import Found, once
from analyses._result import Result
from analyses._words import finite, some
from analyses.errors import BadPlan
from analyses.experiments import _gain
from analyses.experiments._base import Arm, Experiment, Frame, register
from analyses.experiments._ensembles import Labels, outcomes, span, steps_of
from analyses.experiments._gain import FEWEST, LEAST, ROOM, words
from analyses.experiments._outcomes import ARM
from analyses.experiments._paired import Float, ends, interval
from analyses.experiments._table import Arms, Stored, dataset, differs, gathered, mean, stored, tests
from store import ActivationStore, Json, Run

VERSION: Final = 2
SCORE: Final = "overall"
MEMBERS: Final = 3
"""Seeds of the paper's ensemble."""
SIZES: Final = (2, 3, 5, 8)
"""Numbers of seeds that are tested where there are as many."""
METHODS: Final = ("one", "hidden", "latent", "long", "best", "medoid")
"""In the order of the result."""


@register
@dataclass(frozen=True, kw_only=True)
class Ensemble(Experiment):
    """Average what several seeds have inside a window of layers and steps, and go on with the first of them."""

    name: ClassVar[str] = "ensemble"
    claim: ClassVar[str] = (
        "The mean over 3 seeds of the hidden states of the third quarter of the layers at the first step, one seed "
        "continued, raises the score (0.685 to 0.716)."
    )
    rule: ClassVar[str] = (
        "Gain: score of the paper's ensemble less that of its first seed alone. What can be gained: 1 less the score "
        "of that seed. The longer run has as many steps more as the other seeds make for the ensemble. " + _gain.RULE
    )

    sizes: tuple[int, ...] | None = None
    """Numbers of seeds; those of 2, 3, 5 and 8 that there are if not given."""
    baselines: bool = True
    """Whether longer single runs and several shorter ones are made for the comparison at equal forwards."""
    grid: bool = True
    """Whether layers, steps, weights and x_s are varied beside the number of seeds."""

    def plan(self, frame: Frame) -> tuple[Arm, ...]:
        """See `Experiment.plan`."""
        seeds, sizes = frame.seeds, self._sizes(frame)
        arms = [_hidden(frame, members) for members in sizes]
        if self.grid:
            arms += [_hidden(frame, layers=layers) for layers in [*_quarters(frame.layers), None]]
            arms += [_hidden(frame, window=window) for window in _windows(frame.steps)]
            arms += [_hidden(frame, weights=weights) for weights in ("agreement", "median")]
            arms += [_latent(frame, step) for step in sorted({1, frame.steps // 2}) if step < frame.steps]
        if self.baselines:
            told = [Labels(**arm.labels) for arm in arms]  # pyright: ignore[reportArgumentType]
            costs = {(one.members, steps_of(one)) for one in told}
            arms += [_plain("long", 1, steps, seeds) for steps in sorted({steps for _, steps in costs})]
            shorter = {(members, steps // members) for members, steps in costs}
            arms += [_plain("best", *one, seeds) for one in sorted(shorter) if 0 < one[1] != frame.steps]
        return tuple({tuple(arm.labels.values()): arm for arm in arms}.values())  # each once

    def _sizes(self, frame: Frame) -> list[int]:
        there = len(frame.seeds)
        if there < MEMBERS:
            raise BadPlan(
                f"the paper's ensemble has {MEMBERS} seeds, not {there}: ask for --seeds 0-{MEMBERS - 1} or more"
            )
        if wrong := [size for size in self.sizes or () if not 1 < size <= there]:
            raise BadPlan(f"an ensemble of {wrong[0]} does not fit {there} seeds: 2 to {there} do")
        return sorted({MEMBERS, *(self.sizes or [size for size in SIZES if size <= there])})

    def compare(self, acts: ActivationStore, *, runs: Sequence[str] | None = None, where: str | None = None) -> Result:
        """See `Experiment.compare`."""
        found = stored(acts, metric=SCORE, belongs=belongs, runs=runs, where=where)
        params: Json = {"metric": SCORE, "least": LEAST, "room": ROOM, "fewest": FEWEST}
        return once(
            acts,
            analysis=self.name,
            version=VERSION,
            params=params,
            run_ids=found.run_ids,
            compute=lambda: _compare(acts, found),
        )


def _quarters(layers: int) -> list[range]:
    """Windows of a quarter of the layers; of 40 the third is 20 to 29."""
    ends = [layers * quarter // 4 for quarter in range(5)]
    return [range(first, max(last, first + 1)) for first, last in pairwise(ends)]


def _windows(steps: int) -> list[range]:
    """Windows of steps beside the first one: the first quarter, the middle step, all."""
    return [range(max(steps // 4, 1)), range(steps // 2, steps // 2 + 1), range(steps)]


def _hidden(
    frame: Frame,
    members: int = MEMBERS,
    *,
    layers: range | str | None = "paper",
    window: range = range(1),
    weights: str = "uniform",
) -> Arm:
    chosen = _quarters(frame.layers)[2] if isinstance(layers, str) else layers
    seeds = list(frame.seeds[:members])
    record: Json = {"kind": "ensemble", "seeds": [*seeds], "steps": [*window], "weights": weights}
    if chosen is not None:
        record["layers"] = [*chosen]
    labels = Labels("hidden", members, span(chosen), span(window), weights, frame.steps)
    return Arm(labels._asdict(), (record,), seeds=(seeds[0],))


def _latent(frame: Frame, step: int) -> Arm:
    seeds = list(frame.seeds[:MEMBERS])
    record: Json = {"kind": "ensemble", "seeds": [*seeds], "site": "latent", "steps": [step]}
    return Arm(Labels("latent", MEMBERS, "", str(step), "uniform", frame.steps)._asdict(), (record,), seeds=(seeds[0],))


def _plain(method: str, members: int, steps: int, seeds: tuple[int, ...]) -> Arm:
    return Arm(Labels(method, members, "", "", "", steps)._asdict(), (), {"steps": steps}, seeds=seeds[:members])


def belongs(run: Run, clean: Run) -> bool:
    """Whether a run is an ensemble of the clean runs, or one of them in another number of steps."""
    if len(run.interventions) == 1 and run.interventions[0]["kind"] == "ensemble":
        return run.model == clean.model and run.settings == clean.settings
    return run.settings.steps != clean.settings.steps and differs(run, clean, only=["steps"])


def _compare(acts: ActivationStore, found: Stored) -> Found:
    own = found.clean[0].run.settings.steps
    one_seed = Labels("one", 1, "", "", "", own)
    entries = outcomes(acts, found)
    arms = gathered(entries, order=lambda one: (METHODS.index(one.method), one.steps, one.members, *one[2:5]))
    data = dataset(arms, one_seed, against="the first seed alone", untested=lambda label: label.method == "best")
    data = data.assign({"equal": (ARM, _equal(arms), {"long_name": "gain of one longer run of as many forwards"})})
    paper = _paper(arms)
    gain, longer = arms.of(paper) - arms.of(one_seed), arms.of(paper) - _longer(arms, paper)
    room = 1 - mean(arms.of(one_seed))
    summary: Json = {
        "paper_layers": paper.layers,
        **ends("gain", interval(gain)),
        **ends("gain_over_longer_run", interval(longer)),
        **ends("one_seed", interval(arms.of(one_seed))),
        "smallest_that_helps": _smallest(arms, paper, data),
        "forwards": finite(float(arms.forwards[arms.labels.index(paper)])) if paper in arms.labels else None,
        **tests(data),
    }
    return Found(
        data=data.assign_attrs(paper=list(map(str, paper))),
        finding=_finding(arms, paper, one_seed, summary),
        n=len(arms.samples),
        summary=summary,
        verdict=_gain.decide(gain, longer, room=room),
    )


def _paper(arms: Arms) -> Labels:
    """The arm of the paper: its window of layers is the one that the arms share that vary something else."""
    hidden = [one for one in arms.labels if one.method == "hidden"]
    window = Counter(one.layers for one in hidden).most_common(1)[0][0] if hidden else ""
    steps = hidden[0].steps if hidden else 0
    return Labels("hidden", MEMBERS, window, "0", "uniform", steps)


def _smallest(arms: Arms, paper: Labels, data: xr.Dataset) -> int | None:
    """Fewest seeds, in the paper's window, that gain `LEAST` or more, significantly after the correction."""
    gain, p = data["gain"].to_numpy(), data["p_adjusted"].to_numpy()
    helping = [
        label.members
        for at, label in enumerate(arms.labels)
        if label._replace(members=MEMBERS) == paper and gain[at] >= LEAST and p[at] < _gain.LEVEL
    ]
    return min(helping, default=None)


def _longer(arms: Arms, of: Labels) -> Float:
    """Scores of the one longer run of as many steps as an ensemble takes."""
    return arms.of(Labels("long", 1, "", "", "", steps_of(of)))


def _equal(arms: Arms) -> Float:
    """Mean gain of the one longer run of as many forwards over one seed, for each ensemble; NaN for other arms."""
    one = next((label for label in arms.labels if label.method == "one"), None)
    averaged = ("hidden", "latent")
    rows = [
        _longer(arms, label) - arms.of(one) if label.method in averaged else np.array([np.nan]) for label in arms.labels
    ]
    return np.array([mean(row) for row in rows])


def _finding(arms: Arms, paper: Labels, one: Labels, summary: Json) -> str:
    n = some(len(arms.samples), "sample")
    if paper not in arms.labels or not np.isfinite(arms.of(one)).any():
        return f"The paper's ensemble is not among these runs, or nothing scored them, n = {n}."
    ours, single = arms.of(paper), arms.of(one)
    beside = [("one run of as many forwards", _longer(arms, paper))]
    short = paper._replace(method="best", layers="", window="", weights="", steps=steps_of(paper) // MEMBERS)
    beside += [(f"{MEMBERS} runs of {short.steps} steps, medoid", arms.of(short._replace(method="medoid")))]
    beside += [("the best of them (oracle)", arms.of(short))]
    told = "; ".join(
        f"over {name} {words(interval(ours - other))}" for name, other in beside if np.isfinite(other).any()
    )
    at = arms.labels.index(paper), arms.labels.index(one)
    return (
        f"Averaging layers {paper.layers} of {MEMBERS} seeds at the first step changes the score of {mean(single):.3f} "
        f"by {words(interval(ours - single))} for {arms.forwards[at[0]]:.0f} forwards instead of "
        f"{arms.forwards[at[1]]:.0f}; {told}; {summary['significant']} of {summary['comparisons']} arms differ from "
        f"one seed after {summary['correction']}'s correction; n = {n}."
    )
