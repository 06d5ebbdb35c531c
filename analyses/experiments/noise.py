"""Noise at a step against noise at a frame (E3, E4): plain as in the paper, σ-matched as its control, and by dose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from analyses._registry import Found, Verdict, once
from analyses._result import Result
from analyses._steps import switches
from analyses._words import some, with_interval
from analyses.errors import BadPlan
from analyses.experiments._base import Arm, Experiment, Frame, register
from analyses.experiments._outcomes import dataset, outcomes, p_values
from analyses.experiments._paired import CORRECTION, FEWEST, Interval, Pair, ends, holm, interval, pairs
from store import ActivationStore, Json

VERSION = 3
SCORE = "overall"
"""Metric that the verdict is about."""
COLLAPSE = 0.5
"""Share of the clean score that noise at a step must take away."""
ENOUGH = 0.2
"""Clean score below which there is too little to lose."""


class Labels(NamedTuple):
    """What tells one arm from another; -1 where it has no such thing."""

    noise: str
    """`step` (the whole of x_s) or `frame` (one latent frame of it)."""
    matched: bool
    dose: float
    draw: int
    step: int
    """Of noise at a step."""
    frame: int
    """Of noise at a frame."""
    until: int
    """Last step with noise at a frame."""


@register
@dataclass(frozen=True, kw_only=True)
class Noise(Experiment):
    """Replace x_s by noise at one step, or one latent frame of it at many, and see what is left of the answer."""

    name: ClassVar[str] = "noise"
    claim: ClassVar[str] = (
        "Noise in all frames at one step destroys the answer; noise in one frame at all steps hardly does."
    )
    rule: ClassVar[str] = (
        "Plain noise, all tested steps and frames, mean drop of the overall score per sample; noise at frames ends at "
        "three quarters of the steps. Of steps (E3): noise at one takes at least half of the clean score (lower end), "
        "or less (upper end: does not replicate). Of frames (E4): noise at one takes less than noise at a step (lower "
        "end of the difference), or more (upper end: does not replicate). Inconclusive otherwise, with fewer than 8 "
        "samples, or with a clean score below 0.2. The experiment replicates if both do, and does not if one does not."
    )

    at: tuple[int, ...] | None = None
    """Steps to put noise at; six from first to last if not given."""
    frames: tuple[int, ...] | None = None
    """Latent frames to put noise in; all that can be changed if not given."""
    doses: tuple[float, ...] = (0.25, 0.5)
    """Doses below 1, at the middle one of the steps."""
    draws: int = 2
    """Draws of matched noise at each step: the same x̂0 under other noise."""

    def plan(self, frame: Frame) -> tuple[Arm, ...]:
        """See `Experiment.plan`."""
        steps, frames = self.steps(frame), self._frames(frame)
        arms = [at_step(step) for step in steps]
        arms += [at_step(step, matched=True, draw=draw) for step in steps if step for draw in range(self.draws)]
        middle = steps[len(steps) // 2]
        arms += [at_step(middle, matched=matched, dose=dose) for matched in (False, True) for dose in self.doses]
        early = 3 * frame.steps // 4 - 1
        arms += [_frame(one, until=until) for until in sorted({early, frame.steps - 1}) for one in frames]
        arms += [_frame(one, until=early, matched=True) for one in frames]
        return tuple({tuple(arm.labels.values()): arm for arm in arms}.values())  # each once

    def steps(self, frame: Frame) -> list[int]:
        """Steps to put noise at, in a model.

        Raises:
            BadPlan: if there is no such step, or too few of them.
        """
        if frame.steps < 4:
            raise BadPlan(f"noise needs 4 denoising steps or more to tell early from late, not {frame.steps}")
        wanted = self.at if self.at is not None else np.linspace(0, frame.steps - 1, 6).round().astype(int).tolist()
        if wrong := [step for step in wanted if not 0 <= step < frame.steps]:
            raise BadPlan(f"there is no step {wrong[0]} to put noise at: there are 0 to {frame.steps - 1}")
        return sorted(set(wanted))

    def _frames(self, frame: Frame) -> list[int]:
        there = range(frame.held, frame.latent_frames)
        wanted = self.frames if self.frames is not None else tuple(there)
        if wrong := [one for one in wanted if one not in there]:
            raise BadPlan(f"latent frame {wrong[0]} cannot be changed: those from {there[0]} to {there[-1]} can")
        return sorted(set(wanted))

    def compare(self, acts: ActivationStore, *, runs: Sequence[str] | None = None, where: str | None = None) -> Result:
        """See `Experiment.compare`."""
        found = pairs(acts, arm_of=labels_of, runs=runs, where=where)
        ids = sorted({run.id for pair in found for run in (pair.run, pair.clean)})
        params: Json = {"metric": SCORE, "collapse": COLLAPSE, "enough": ENOUGH, "fewest": FEWEST}
        return once(
            acts,
            analysis=self.name,
            version=VERSION,
            params=params,
            run_ids=ids,
            compute=lambda: _compare(acts, found),
        )


def at_step(step: int, *, matched: bool = False, dose: float = 1.0, draw: int = 0) -> Arm:
    """The arm with noise at one step."""
    labels = Labels("step", matched, dose, draw, step, -1, -1)
    return Arm(labels._asdict(), ({"kind": "noise_at_step", "steps": [step], **_how(labels)},))


def _frame(frame: int, *, until: int, matched: bool = False) -> Arm:
    labels = Labels("frame", matched, 1.0, 0, -1, frame, until)
    steps: list[Any] = list(range(until + 1))
    return Arm(labels._asdict(), ({"kind": "noise_at_frame", "frames": [frame], "steps": steps, **_how(labels)},))


def _how(labels: Labels) -> Json:
    return {"matched": labels.matched, "dose": labels.dose, "draw": labels.draw}


def labels_of(interventions: tuple[Json, ...]) -> Labels | None:
    """The arm that a run with these interventions belongs to, or None where it is none of this experiment's."""
    if len(interventions) != 1:
        return None
    (one,) = interventions
    fields: dict[str, Any] = dict(one)
    matched, dose, draw = bool(fields.get("matched", False)), float(fields.get("dose", 1)), int(fields.get("draw", 0))
    steps: list[int] = fields.get("steps") or []
    if fields["kind"] == "noise_at_step" and len(steps) == 1:
        return Labels("step", matched, dose, draw, steps[0], -1, -1)
    if fields["kind"] == "noise_at_frame" and len(fields["frames"]) == 1 and steps == list(range(len(steps))) != []:
        return Labels("frame", matched, dose, draw, -1, fields["frames"][0], steps[-1])
    return None


def _order(labels: Labels) -> tuple[Any, ...]:
    return (labels.noise != "step", labels.matched, labels.step, labels.until, labels.frame, labels.dose, labels.draw)


def _compare(acts: ActivationStore, pairs: list[Pair]) -> Found:
    found = outcomes(acts, pairs, metric=SCORE, order=_order)
    steps = acts.run(pairs[0].clean.id).steps
    early = max((arm.until for arm in found.arms), default=-1)
    means = {
        "step": found.mean(lambda arm: (arm.noise, arm.matched, arm.dose) == ("step", False, 1.0)),
        "matched": found.mean(lambda arm: (arm.noise, arm.matched, arm.dose) == ("step", True, 1.0)),
        "frame": found.mean(lambda arm: (arm.noise, arm.matched) == ("frame", False) and arm.until < early),
    }
    means["difference"] = means["step"] - means["frame"]
    drops = {name: interval(values) for name, values in means.items()}
    clean = interval(found.clean[0])
    corrected = holm(p_values(found))
    at = [int(step) for step in switches(steps)]
    tests: Json = {"comparisons": int(np.isfinite(corrected).sum()), "significant": int((corrected < 0.05).sum())}
    summary: Json = {key: value for name, one in drops.items() for key, value in ends(f"{name}_drop", one).items()}
    verdicts = decide(clean, drops["step"], drops["difference"])
    return Found(
        data=dataset(found, steps).assign_attrs(switches=at),
        finding=_finding(clean, drops, tests, at, len(found.samples)),
        n=len(found.samples),
        summary={
            **summary,
            **ends("clean_score", clean),
            **tests,
            "step_verdict": verdicts.step,
            "frame_verdict": verdicts.frame,
            "correction": CORRECTION,
            "switches": at,  # pyright: ignore[reportArgumentType]
        },
        verdict=verdicts.both,
    )


class Verdicts(NamedTuple):
    """What is said of either half of the claim."""

    step: Verdict
    """E3: noise at one step destroys the answer."""
    frame: Verdict
    """E4: noise in one frame matters less."""

    @property
    def both(self) -> Verdict:
        """Of the whole claim."""
        return max(self, key=("replicates", "inconclusive", "does not replicate").index)


def decide(clean: Interval, step: Interval, difference: Interval) -> Verdicts:
    """The verdicts, by `Noise.rule`.

    Args:
        clean: Score of the clean runs.
        step: Drop under plain noise at a step.
        difference: That drop less the drop under noise at a frame.
    """
    if min(step.n, difference.n) < FEWEST or not clean.mean >= ENOUGH:
        return Verdicts("inconclusive", "inconclusive")
    half = COLLAPSE * clean.mean
    return Verdicts(
        "replicates" if step.low >= half else "does not replicate" if step.high < half else "inconclusive",
        "replicates" if difference.low > 0 else "does not replicate" if difference.high < 0 else "inconclusive",
    )


def _finding(clean: Interval, drops: dict[str, Interval], tests: Json, at: list[int], samples: int) -> str:
    n = some(samples, "sample")
    if not np.isfinite(clean.mean):
        return f"Nothing scored these videos, so only how far they change is told, n = {n}."

    def words(name: str) -> str:
        one = drops[name]
        return with_interval(one.mean, one.low, one.high, digits=2)

    switch = f"; another expert takes over at step {', '.join(map(str, at))}" if at else ""
    return (
        f"Plain noise in all frames at one step lowers the score of {clean.mean:.2f} by {words('step')}, "
        f"in one latent frame for three quarters of the steps by {words('frame')}, difference {words('difference')}; "
        f"noise that keeps x̂0 and sigma at one step by {words('matched')}; {tests['significant']} of "
        f"{tests['comparisons']} arms differ from clean after {CORRECTION}'s correction{switch}; n = {n}."
    )
