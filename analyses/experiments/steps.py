"""Success and exploration against the number of steps, and a distilled few-step model beside its teacher (E10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import xarray as xr

from analyses._evidence import SHOWN, Candidates, effective_number, second_largest
from analyses._paths import candidates_of
from analyses._registry import Found, once
from analyses._result import Result
from analyses._words import finite, some, with_interval
from analyses.errors import BadPlan
from analyses.experiments import _paired, _sufficient
from analyses.experiments._base import Arm, Experiment, Frame, register
from analyses.experiments._outcomes import ARM, SAMPLE
from analyses.experiments._paired import Float, Interval, interval
from analyses.experiments._sufficient import MARGIN, Sufficient, sufficient
from analyses.experiments._table import (
    INTERVAL,
    Arms,
    Entry,
    Made,
    Stored,
    dataset,
    differs,
    gathered,
    mean,
    stored,
    tests,
)
from store import ActivationStore, CaptureItem, CaptureSpec, Json, Run, dims

VERSION: Final = 2
SCORE: Final = "overall"
FEWEST: Final = 10
"""Samples with several answers below which nothing is decided."""
TOLERANCE: Final = 0.1
"""Candidates that may be missing before exploration counts as lower."""
X0: Final = ("x0_hat", "pixels")


class Labels(NamedTuple):
    """What tells one arm from another."""

    model: str
    """`teacher` or `student`."""
    steps: int
    own: bool
    """Whether these are the clean runs."""


class Explored(NamedTuple):
    """What the x̂0 of one run hold."""

    first: float
    """Effective number of valid answers at the first step."""
    last: float
    """At the last step."""
    shown: float
    """Steps at which two are shown (evidence of the second at least 0.15)."""


@register
@dataclass(frozen=True, kw_only=True)
class Steps(Experiment):
    """Sample the same questions in fewer and more steps, and with a model that was distilled to few."""

    name: ClassVar[str] = "steps"
    claim: ClassVar[str] = "A distilled few-step model no longer explores: its first x̂0 holds one candidate, not many."
    rule: ClassVar[str] = (
        "Over samples with several valid answers: effective number of answers in x̂0 of the first step, of the student "
        "at its most steps less the teacher at its own number. Replicates: lower (upper end below 0, and p < 0.05 by "
        "flipping signs). Does not replicate: lower by less than 0.1, or higher (lower end above -0.1). Inconclusive "
        "otherwise, without a student, or with fewer than 10 such samples. Smallest number of steps, teacher and "
        "student each by itself: " + _sufficient.RULE
    )
    clean: ClassVar[CaptureSpec] = CaptureSpec(items=(CaptureItem(site=X0[0], reduction=X0[1]),))
    child: ClassVar[CaptureSpec] = clean

    numbers: tuple[int, ...] = (1, 2, 4, 8, 10, 20, 50)
    """Denoising steps of the teacher; those of the clean runs are tested in any case."""
    student: str = ""
    """The distilled model, as `Arm.variant`; none if empty."""
    student_numbers: tuple[int, ...] = (1, 2, 4)
    student_guidance: float | None = None
    """Its guidance scale; its own default if not given."""

    def plan(self, frame: Frame) -> tuple[Arm, ...]:
        """See `Experiment.plan`."""
        if wrong := [steps for steps in (*self.numbers, *self.student_numbers) if steps < 1]:
            raise BadPlan(f"a video takes 1 denoising step or more, not {wrong[0]}")
        teacher = sorted({*self.numbers} - {frame.steps})
        arms = [Arm(Labels("teacher", steps, False)._asdict(), (), {"steps": steps}) for steps in teacher]
        if self.student:
            more = {} if self.student_guidance is None else {"guidance": self.student_guidance}
            arms += [
                Arm(Labels("student", steps, False)._asdict(), (), {"steps": steps, **more}, self.student)
                for steps in sorted(set(self.student_numbers))
            ]
        if not arms:
            raise BadPlan(f"steps compares several numbers of steps, not {frame.steps} with itself")
        return tuple(arms)

    def compare(self, acts: ActivationStore, *, runs: Sequence[str] | None = None, where: str | None = None) -> Result:
        """See `Experiment.compare`."""
        found = stored(acts, metric=SCORE, belongs=belongs, runs=runs, where=where)
        params: Json = {"metric": SCORE, "margin": MARGIN, "fewest": FEWEST, "tolerance": TOLERANCE, "shown": SHOWN}
        return once(
            acts,
            analysis=self.name,
            version=VERSION,
            params=params,
            run_ids=found.run_ids,
            compute=lambda: _compare(acts, found),
        )


def belongs(run: Run, clean: Run) -> bool:
    """Whether a run is one of the clean runs in another number of steps, or a student's."""
    other = run.settings.steps != clean.settings.steps or run.model.adapters != clean.model.adapters
    return other and differs(run, clean, only=["steps", "adapters"])


def _compare(acts: ActivationStore, found: Stored) -> Found:
    clean = found.clean[0].run
    own = Labels("teacher", clean.settings.steps, True)

    def label(one: Made) -> Labels:
        student = one.run.model.adapters != clean.model.adapters
        return Labels("student" if student else "teacher", one.run.settings.steps, one.run in of_clean)

    of_clean = [one.run for one in found.clean]
    each = [(label(one), one) for one in (*found.clean, *found.others)]
    arms = gathered(
        [Entry(arm, one.run.sample_id, one.score, one.forwards, one.seconds) for arm, one in each],
        order=lambda one: (one.model != "teacher", one.steps),
    )
    data = dataset(arms, own, against=f"the teacher in {own.steps} steps")
    seen = _exploration(acts, [(arm, one.run) for arm, one in each], arms)
    data = data.assign(_described(seen, arms))
    told = {model: sufficient(arms.score[rows]) for model, rows in _rows(arms).items() if len(rows) > 1}
    passes = [
        name in told and told[name].passes[_rows(arms)[name].index(at)] for at, (name, *_) in enumerate(arms.labels)
    ]
    data = data.assign_coords(sufficient=(ARM, passes))
    fewer = _fewer(arms, own, seen["effective_first"])
    smallest = {name: _smallest(arms, name, one) for name, one in told.items()}
    summary: Json = {
        **{f"smallest_sufficient_{name}": steps for name, steps in smallest.items()},
        "samples_with_several_answers": int(np.isfinite(seen["effective_first"]).any(axis=0).sum()),
        **{
            f"first_difference{end}": finite(value)
            for end, value in zip(("", "_low", "_high"), interval(fewer), strict=False)
        },
        **tests(data),
    }
    return Found(
        data=data,
        finding=_finding(arms, smallest, seen["effective_first"], own, fewer),
        n=len(arms.samples),
        summary=summary,
        verdict=decide(fewer),
    )


def _rows(arms: Arms) -> dict[str, list[int]]:
    return {
        model: rows
        for model in ("teacher", "student")
        if (rows := [at for at, label in enumerate(arms.labels) if label.model == model])
    }


def _smallest(arms: Arms, model: str, told: Sufficient) -> int | None:
    return None if told.smallest is None else arms.labels[_rows(arms)[model][told.smallest]].steps


def _fewer(arms: Arms, own: Labels, first: Float) -> Float:
    """Effective number at the first step, student at its most steps less teacher at its own, `[sample]`."""
    students = _rows(arms).get("student", [])
    return first[students[-1]] - first[arms.labels.index(own)] if students else np.full(len(arms.samples), np.nan)


def decide(fewer: Float) -> Any:
    """The verdict, by `Steps.rule`; `fewer` is the student's effective number less the teacher's, `[sample]`."""
    found = interval(fewer)
    if found.n < FEWEST:
        return "inconclusive"
    if found.high < 0 and _paired.p_value(fewer) < 0.05:
        return "replicates"
    return "does not replicate" if found.low > -TOLERANCE else "inconclusive"


def _exploration(acts: ActivationStore, runs: Sequence[tuple[Labels, Run]], arms: Arms) -> Mapping[str, Float]:
    """What x̂0 hold, `[arm, sample]` each; NaN where a sample has one valid answer, or its x̂0 were not kept."""
    held = _held(acts, [run.id for _, run in runs])
    cells: dict[tuple[int, int], list[Explored]] = {}
    known: dict[str, Candidates | None] = {}
    for label, run in runs:
        if run.id not in held:
            continue
        if run.sample_id not in known:
            sample = acts.sample(run.sample_id)
            known[run.sample_id] = candidates_of(sample) if sample.record.answers > 1 else None
        candidates = known[run.sample_id]
        if candidates is not None:
            cell = arms.labels.index(label), arms.samples.index(run.sample_id)
            cells.setdefault(cell, []).append(explored(candidates, acts, run.id))
    shape = (len(arms.labels), len(arms.samples))
    found = {name: np.full(shape, np.nan) for name in Explored._fields}
    for cell, several in cells.items():
        for name, values in found.items():
            values[cell] = mean(getattr(one, name) for one in several)
    return {"effective_first": found["first"], "effective_last": found["last"], "shown_steps": found["shown"]}


def explored(candidates: Candidates, acts: ActivationStore, run_id: str) -> Explored:
    """Read the x̂0 of one run as mixtures of its sample's valid answers."""
    x0 = acts.load(*X0, runs=[run_id]).isel(run=0)
    evidence = np.array([candidates.mixture(x0.isel(step=at).to_numpy()).evidence for at in range(x0.sizes[dims.STEP])])
    shown = float((second_largest(evidence) >= SHOWN).sum())
    return Explored(effective_number(evidence[0]), effective_number(evidence[-1]), shown)


def _held(acts: ActivationStore, run_ids: list[str]) -> set[str]:
    query = "SELECT run_id FROM arrays WHERE site = ? AND reduction = ? AND list_contains(?, run_id)"
    return {str(row[0]) for row in acts.sql(query, [*X0, run_ids]).fetchall()}


def _described(seen: Mapping[str, Float], arms: Arms) -> dict[str, xr.DataArray]:
    words = {
        "effective_first": "effective number of valid answers in x̂0 of the first step",
        "effective_last": "effective number of valid answers in x̂0 of the last step",
        "shown_steps": "steps at which x̂0 shows two valid answers",
    }
    found: dict[str, xr.DataArray] = {}
    for name, values in seen.items():
        n = int(np.isfinite(values).sum(axis=1).max(initial=0))
        attrs = {"long_name": words[name], "units": "steps" if name == "shown_steps" else "answers", "n": n}
        rows = [interval(row) for row in values]
        for part, suffix in (("mean", ""), ("low", "_low"), ("high", "_high")):
            numbers = [getattr(row, part) for row in rows]
            found[name + suffix] = xr.DataArray(numbers, dims=ARM, attrs={**attrs, "interval": INTERVAL})
        found[f"{name}_by_sample"] = xr.DataArray(values, dims=(ARM, SAMPLE), attrs=attrs)
    return found


def _finding(arms: Arms, smallest: Mapping[str, int | None], first: Float, own: Labels, fewer: Float) -> str:
    n = some(len(arms.samples), "sample")

    def curve(rows: list[int]) -> str:
        told = [(arms.labels[at].steps, interval(arms.score[at])) for at in rows]
        return ", ".join(f"{steps}: {with_interval(one.mean, one.low, one.high, digits=2)}" for steps, one in told)

    parts = [f"Score of the {model} by steps: {curve(rows)}" for model, rows in _rows(arms).items()]
    parts += [
        f"the {model} is proven to do with {steps} steps" if steps else f"no number of steps of the {model} is proven"
        for model, steps in smallest.items()
    ]
    at = arms.labels.index(own)
    if np.isfinite(first[at]).any():
        parts.append(f"x̂0 of its first step holds {_words(interval(first[at]))} valid answers")
    if np.isfinite(fewer).any():
        parts.append(f"that of the student differs by {_words(interval(fewer), signed=True)}")
    return f"{'; '.join(parts)}; n = {n}."


def _words(one: Interval, *, signed: bool = False) -> str:
    how = "+.2f" if signed else ".2f"
    text = f"{one.mean:{how}}"
    return f"{text} ({one.low:{how}} to {one.high:{how}})" if np.isfinite(one.low) else text
