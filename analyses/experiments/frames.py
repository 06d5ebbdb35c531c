"""Success against the number of frames (E9), and the smallest number that is sufficient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from analyses._registry import Found, once
from analyses._result import Result
from analyses._words import finite, some, with_interval
from analyses.errors import BadPlan
from analyses.experiments import _sufficient
from analyses.experiments._base import Arm, Experiment, Frame, register
from analyses.experiments._outcomes import ARM
from analyses.experiments._paired import ends, interval
from analyses.experiments._sufficient import MARGIN, Sufficient, guarded, sufficient
from analyses.experiments._table import Arms, Entry, Stored, dataset, differs, gathered, stored, tests
from store import ActivationStore, CaptureSpec, Json, Run

VERSION: Final = 2
SCORE: Final = "overall"
"""Metric that the verdict is about."""
FEWEST: Final = 10
"""Samples below which nothing is decided."""


class Labels(NamedTuple):
    """What tells one arm from another."""

    frames: int
    """Video frames."""
    own: bool
    """Whether it is the number of the clean runs; others may be outside of what the model was trained on."""


@register
@dataclass(frozen=True, kw_only=True)
class Frames(Experiment):
    """Sample the same questions at several lengths of video."""

    name: ClassVar[str] = "frames"
    claim: ClassVar[str] = "A video model needs a certain number of frames to reason (about 17); too many add noise."
    rule: ClassVar[str] = (
        "Replicates: the fewest frames tested lose more than 0.05 of the score against the best number (lower end), "
        "and the most frames are lower than the best number (lower end above 0); but where the best number is the "
        "model's own, its training alone explains both, and the verdict is inconclusive. Does not replicate: the "
        "fewest or the most frames lose no more than 0.05 (upper end). Inconclusive otherwise, or with fewer than 10 "
        "samples. " + _sufficient.RULE
    )
    clean: ClassVar[CaptureSpec] = CaptureSpec(items=())

    counts: tuple[int, ...] = (5, 9, 13, 17, 21, 25, 33)
    """Numbers of video frames; those of the clean runs are tested in any case."""

    def plan(self, frame: Frame) -> tuple[Arm, ...]:
        """See `Experiment.plan`."""
        if wrong := [count for count in self.counts if count < 2]:
            raise BadPlan(f"a video of {some(wrong[0], 'frame')} shows the question alone; ask for 2 frames or more")
        counts = sorted({*self.counts, frame.frames})
        if len(counts) < 2:
            raise BadPlan(f"frames compares several numbers of frames, not {counts[0]} with itself")
        others = [count for count in counts if count != frame.frames]
        return tuple(Arm(Labels(count, False)._asdict(), (), {"frames": count}) for count in others)

    def compare(self, acts: ActivationStore, *, runs: Sequence[str] | None = None, where: str | None = None) -> Result:
        """See `Experiment.compare`."""
        found = stored(acts, metric=SCORE, belongs=belongs, runs=runs, where=where)
        params: Json = {"metric": SCORE, "margin": MARGIN, "fewest": FEWEST}
        return once(
            acts,
            analysis=self.name,
            version=VERSION,
            params=params,
            run_ids=found.run_ids,
            compute=lambda: _compare(found),
        )


def belongs(run: Run, clean: Run) -> bool:
    """Whether a run is one of the clean runs at another number of frames."""
    return run.settings.frames != clean.settings.frames and differs(run, clean, only=["frames"])


def _compare(found: Stored) -> Found:
    own = found.clean[0].run.settings.frames
    arms = gathered(
        [
            Entry(
                Labels(one.run.settings.frames, one.run.settings.frames == own),
                one.run.sample_id,
                one.score,
                one.forwards,
                one.seconds,
            )
            for one in (*found.clean, *found.others)
        ],
        order=lambda label: label.frames,
    )
    told = sufficient(arms.score)
    data = dataset(arms, Labels(own, True), against=f"{own} frames")
    data = data.assign(
        {"lost": (ARM, [one.mean for one in told.lost]), "lost_high": (ARM, [one.high for one in told.lost])}
    )
    data["lost"].attrs = {"long_name": "score lost against the number that it loses most against", "units": "score"}
    data = data.assign_coords(sufficient=(ARM, list(told.passes)))
    number = [label.frames for label in arms.labels]
    at = told.smallest
    summary: Json = {
        "best_frames": number[told.best],
        "best_score": finite(float(data["score"][told.best])),
        "smallest_sufficient": None if at is None else number[at],
        "own_frames": own,
        **ends("fewest_lost", guarded(arms.score[told.best] - arms.score[0])),
        **ends("most_lost", guarded(arms.score[told.best] - arms.score[-1])),
        **tests(data),
    }
    return Found(
        data=data,
        finding=_finding(arms, told, own),
        n=len(arms.samples),
        summary=summary,
        verdict=decide(arms, told),
    )


def decide(arms: Arms, told: Sufficient) -> Any:
    """The verdict, by `Frames.rule`."""
    best = arms.score[told.best]
    fewest, most = (guarded(best - arms.score[end]) for end in (0, -1))
    if min(fewest.n, most.n) < FEWEST or len(arms.labels) < 3:
        return "inconclusive"
    if min(fewest.high, most.high) <= MARGIN:
        return "does not replicate"
    if fewest.low > MARGIN and most.low > 0:
        return "inconclusive" if arms.labels[told.best].own else "replicates"
    return "inconclusive"


def _finding(arms: Arms, told: Sufficient, own: int) -> str:
    n = some(len(arms.samples), "sample")
    if not np.isfinite(arms.score).any():
        return f"Nothing scored these videos, n = {n}."
    rows = [interval(row) for row in arms.score]
    curve = ", ".join(
        f"{label.frames}: {with_interval(row.mean, row.low, row.high, digits=2)}"
        for label, row in zip(arms.labels, rows, strict=True)
    )
    at = told.smallest
    enough = "no number is proven sufficient" if at is None else f"{arms.labels[at].frames} frames are sufficient"
    trained = "" if told.best != arms.labels.index(Labels(own, True)) else ", the model's own number"
    return (
        f"Score by number of frames: {curve}; the best is {arms.labels[told.best].frames}{trained}; {enough} by a "
        f"margin of {MARGIN}; numbers other than {own} may be outside of the model's training; n = {n}."
    )
