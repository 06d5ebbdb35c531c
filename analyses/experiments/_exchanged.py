"""Stored runs that hold states of another run: which they are, whose answer they may have now, and what they end in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from analyses._x0 import SOLVED
from analyses.errors import NoRuns
from analyses.experiments import _paired
from analyses.experiments._answers import SHOWN, Question, Shown
from analyses.experiments._exchange import RESID, TEXT, Labels, twins_of, video
from analyses.experiments._token_cells import mask, token_cells
from store import ActivationStore, Json, Run, Sample


class Exchange(NamedTuple):
    """A stored run with another's states in it."""

    run: Run
    clean: Run
    """What it was before."""
    rival: Run
    """The clean run whose answer it may have now: the donor; of a stranger's arm, the one that donates in others."""
    arm: Labels
    unit: str
    """The sample, or the first of a pair of twins: what is independent of all other units."""
    back: bool
    """Whether the receiver is the twin, not the first of the pair."""


class Stored(NamedTuple):
    """Exchanges, and the samples that their runs are of."""

    exchanges: tuple[Exchange, ...]
    samples: dict[str, Sample]

    @property
    def run_ids(self) -> list[str]:
        """Every run that takes part."""
        return sorted({run.id for one in self.exchanges for run in (one.run, one.clean, one.rival)})


def stored(
    acts: ActivationStore,
    *,
    wanted: Callable[[Labels], bool],
    runs: Sequence[str] | None,
    where: str | None,
) -> Stored:
    """Every stored run that belongs to an arm, with its clean run and its rival, by id.

    Args:
        acts: The store.
        wanted: Which arms.
        runs: Ids to choose from.
        where: SQL over `runs` and `samples`.

    Raises:
        NoRuns: if there is none.
    """
    records = _paired.records(acts, runs=runs, where=where)
    samples = {id: acts.sample(id) for id in sorted({run.sample_id for run in records.values()})}
    twins = twins_of(list(samples.values()))
    taken: list[tuple[Run, Run, Json, Run | None]] = []
    rivals: dict[str, Run] = {}
    for run in records.values():
        clean, change = records.get(run.parent_id or ""), _patch(run.interventions)
        if clean is None or change is None:
            continue
        donor: Any = change["donor"]
        sample, twin = donor.get("sample", run.sample_id), twins.get(run.sample_id)
        rival = None
        if sample == run.sample_id or (twin is not None and sample == twin.id):
            seed = donor.get("seed", run.seed)
            rival = records.get(clean.model_copy(update={"sample_id": sample, "seed": seed}).id)
            if rival is None or rival.id == clean.id:
                continue
            rivals.setdefault(clean.id, rival)
        taken.append((run, clean, change, rival))
    found: list[Exchange] = []
    for run, clean, change, donor in taken:
        rival = donor or rivals.get(clean.id)
        if rival is None:
            continue
        labels = _labels(change, stranger=donor is None)
        if labels is None or not wanted(labels):
            continue
        first = str(samples[run.sample_id].record.labels.get("twin_of", run.sample_id))
        found.append(Exchange(run, clean, rival, labels, first, first != run.sample_id))
    if not found:
        raise NoRuns(
            f"None of the {len(records)} runs belongs to this experiment with its clean run and its donor beside it; "
            "make them with `stepscope experiment`."
        )
    return Stored(tuple(found), samples)


def _patch(interventions: tuple[Json, ...]) -> Json | None:
    """The one patch that a run has, with a donor by sample or seed."""
    if len(interventions) != 1 or interventions[0]["kind"] not in ("patch", "swap"):
        return None
    (one,) = interventions
    donor = one["donor"]
    return one if isinstance(donor, dict) and donor and "run" not in donor and "heads" not in one else None


def _labels(change: Json, *, stranger: bool) -> Labels | None:
    """The arm of a patch; masks are told apart later. None where layers or steps are no window."""
    fields: Any = change
    spans = [fields.get("layers"), fields.get("steps")]
    if any(span is None or list(span) != list(range(span[0], span[0] + len(span))) for span in spans):
        return None
    if "branches" in fields:
        return None
    site, region = str(fields.get("site", RESID)), fields.get("region")
    if region is None:
        part = "stranger" if stranger else "text" if site == TEXT else "whole"
    else:
        part = "text" if region == "text" else "mask"
    ends = [place for span in spans for place in (int(span[0]), int(span[-1]))]
    return None if stranger and region is not None else Labels(part, site, *ends)


class Outcome(NamedTuple):
    """What one exchange has come to."""

    exchange: Exchange
    arm: Labels
    """With masks told apart."""
    flip: bool
    """Whether the video ends in the rival's answer."""
    kept: bool
    """Whether it still ends in its own."""
    margin: float
    """Evidence of the rival's answer less that of its own."""
    recovered: float
    """Where the evidence of the rival's answer lies between that in the clean run (0) and that in the rival (1); an
    answer that was only destroyed recovers nothing, while its margin rises by half."""


class Read(NamedTuple):
    """Every outcome, and what was left out."""

    outcomes: tuple[Outcome, ...]
    wrong: int
    """Exchanges left out because the clean run or its rival ends in no valid answer, or both end alike."""
    agreement: float
    """Share of runs whose reading agrees with the world's own scorer on whether they end in an answer of their sample;
    NaN where nothing scored them."""


def read(acts: ActivationStore, found: Stored) -> Read:
    """The ending of every run.

    Raises:
        BadTruth: if answers cannot be told apart, or videos have another size than the true ones.
    """
    questions: dict[tuple[str, str], Question] = {}
    seen: dict[tuple[str, str, str], Shown] = {}
    scored = _answers(acts, found.run_ids)
    agree: list[bool] = []
    outcomes: list[Outcome] = []
    wrong = 0
    for one in found.exchanges:
        key = one.clean.sample_id, one.rival.sample_id
        if key not in questions:
            questions[key] = Question(found.samples[key[0]], found.samples[key[1]])
        question = questions[key]

        def look(run: Run, key: tuple[str, str] = key, question: Question = question) -> Shown:
            if (*key, run.id) not in seen:
                seen[*key, run.id] = question.look(video(acts, run.id))
            return seen[*key, run.id]

        before, there, now = (look(run) for run in (one.clean, one.rival, one.run))
        own, theirs = before.ending(question.of_receiver), there.ending(question.of_donor)
        if own is None or theirs is None or own == theirs:
            wrong += 1
            continue
        arm = _told(one, question, own, theirs)
        if arm is None:
            continue
        shown, base, top = (float(one.evidence[theirs]) for one in (now, before, there))
        end = now.ending(tuple(range(len(now.evidence))))
        if one.run.id in scored:
            agree.append((end in question.of_receiver) == (scored[one.run.id] >= SOLVED))
        recovered = (shown - base) / (top - base)
        outcomes.append(Outcome(one, arm, end == theirs, end == own, shown - float(now.evidence[own]), recovered))
    if not outcomes:
        raise NoRuns(
            f"None of {len(found.exchanges)} exchanges can be read: the clean run or the donor of each ends in no "
            "valid answer, or both end alike; take more samples or seeds, or a model that solves them."
        )
    return Read(tuple(outcomes), wrong, float(np.mean(agree)) if agree else float("nan"))


def _told(one: Exchange, question: Question, own: int, theirs: int) -> Labels | None:
    """The arm, with its mask told apart; None for tokens of no part."""
    if one.arm.part != "mask":
        return one.arm
    region: Any = one.run.interventions[0]["region"]
    if "size" not in region:
        return None
    cells = token_cells(question.where(own, theirs), tuple(region["size"]))
    masks = {"target": mask(cells), "background": mask(~cells)}
    part = next((part for part, known in masks.items() if known == region), None)
    return None if part is None else one.arm._replace(part=part)


def _answers(acts: ActivationStore, run_ids: Sequence[str]) -> dict[str, float]:
    """The world's `answer` score of each finished video that has one."""
    query = (
        "SELECT run_id, avg(value) FROM scores WHERE step IS NULL AND metric = 'answer' AND list_contains(?, run_id) "
        "GROUP BY run_id"
    )
    return {str(id): float(value) for id, value in acts.sql(query, [list(run_ids)]).fetchall()}


def settled(acts: ActivationStore, found: Stored, seen: Read) -> dict[int, float]:
    """By step, the share of receiving clean runs whose x̂0 shows their final answer there and at each later kept step.

    Empty where clean runs kept no decoded x̂0.
    """
    holds: dict[int, list[bool]] = {}
    done: set[str] = set()
    for one in (outcome.exchange for outcome in seen.outcomes):
        kept = {(array.site, array.reduction) for array in acts.run(one.clean.id).arrays}
        if one.clean.id in done or ("x0_hat", "pixels") not in kept:
            continue
        done.add(one.clean.id)
        question = Question(found.samples[one.clean.sample_id], found.samples[one.rival.sample_id])
        own = question.look(video(acts, one.clean.id)).ending(question.of_receiver)
        shown = acts.load("x0_hat", "pixels", runs=[one.clean.id], lazy=False)[0]
        stays = True
        for step in reversed(shown["step"].to_numpy().tolist()):
            now = question.look(shown.sel(step=step).to_numpy()).evidence  # blurred yet, so near nothing
            stays = stays and own is not None and now[own] >= SHOWN
            holds.setdefault(int(step), []).append(stays)
    return {step: float(np.mean(values)) for step, values in sorted(holds.items())}
