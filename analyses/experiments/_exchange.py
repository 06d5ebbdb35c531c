"""States of one run put into another: the arms, and who donates to whom.

Two kinds of donors. The *twin* of a sample is nearly the same question with another answer; both are receivers, so each
pair is tested in both directions, under the same noise. Another *seed* of a sample with several valid answers donates
where it has ended in another one. In either case a *stranger*, a run of quite another sample, is the control: it
destroys as much and knows nothing of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyses.errors import BadPlan
from analyses.experiments._answers import Question
from analyses.experiments._base import Arm, Experiment, Frame, Given
from analyses.experiments._token_cells import mask, token_cells
from store import ActivationStore, CaptureItem, CaptureSpec, Json, Run, Sample

PARTS: Final = ("whole", "target", "background", "text", "stranger")
"""What is taken of the donor: all video tokens; those where the two answers show and differ; all others; what the
prompt says to the tokens; all video tokens of a stranger."""
RESID: Final = "resid_post"
TEXT: Final = "cross_attn_out"
"""Where the prompt comes in, in families that keep it out of the residual stream."""


class Labels(NamedTuple):
    """What tells one arm from another."""

    part: str
    """One of `PARTS`."""
    site: str
    first_layer: int
    last_layer: int
    first_step: int
    last_step: int

    @property
    def layers(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(range(self.first_layer, self.last_layer + 1))

    @property
    def steps(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(range(self.first_step, self.last_step + 1))

    @property
    def cell(self) -> tuple[Any, ...]:
        """The place without the part."""
        return self[1:]


def arm(labels: Labels) -> Arm:
    """An arm whose interventions depend on the run."""
    return Arm(labels._asdict(), ())


def site_of(part: str, frame: Frame) -> str:
    """Where a part is taken, unless another site is asked for.

    Raises:
        BadPlan: if the part is the text, which the model has in neither place.
    """
    if part == "text" and TEXT in frame.sites:
        return TEXT
    if part not in parts_of(frame):
        raise BadPlan(
            f"there is no text to take of a donor: the model has no {TEXT}, and its {RESID} holds no text tokens; "
            f"there are {', '.join(parts_of(frame))}"
        )
    return RESID


def parts_of(frame: Frame) -> tuple[str, ...]:
    """The parts that a model has."""
    has_text = TEXT in frame.sites or RESID in frame.text_sites
    return tuple(part for part in PARTS if part != "text" or has_text)


def blocks(count: int, into: int) -> list[tuple[int, int]]:
    """`count` numbers in a row cut into windows as equal as can be: first and last of each.

    Example:
        >>> blocks(10, 4)
        [(0, 1), (2, 4), (5, 7), (8, 9)]
    """
    edges = np.linspace(0, count, min(into, count) + 1).round().astype(int).tolist()
    return [(first, after - 1) for first, after in pairwise(edges)]


def check_windows(windows: Sequence[tuple[int, int]], count: int, *, what: str) -> None:
    """Refuse windows that the model has no place for.

    Raises:
        BadPlan: naming the window and what there is.
    """
    if not windows:
        raise BadPlan(f"no {what} is named; there are {what}s 0 to {count - 1}")
    for first, last in windows:
        if not 0 <= first <= last < count:
            raise BadPlan(f"there is no window of {what}s {first} to {last}: there are {what}s 0 to {count - 1}")


def check_parts(parts: Sequence[str]) -> None:
    """Refuse unknown parts.

    Raises:
        BadPlan: naming the part and those that there are.
    """
    if wrong := [part for part in parts if part not in PARTS]:
        raise BadPlan(f"there is no part {wrong[0]!r} to take of a donor; there are {', '.join(PARTS)}")


def donors_keep(arms: Sequence[Arm], frame: Frame, *more: CaptureItem) -> CaptureSpec:
    """What clean runs keep so that every arm finds its donor's states in the store, and x_s to begin with."""
    layers: dict[str, set[int]] = {}
    steps: dict[str, set[int]] = {}
    for one in (Labels(**arm.labels) for arm in arms):  # pyright: ignore[reportArgumentType]
        layers.setdefault(one.site, set()).update(one.layers)
        steps.setdefault(one.site, set()).update(one.steps)
    states = [
        CaptureItem(
            site=site,
            reduction="full",
            layers=tuple(sorted(layers[site])),
            steps=tuple(sorted(steps[site])),
            branches=frame.branches,
        )
        for site in layers
    ]
    return CaptureSpec(items=(CaptureItem(site="latent", reduction="full"), *states, *more))


class Cast(NamedTuple):
    """Who donates to a receiving run."""

    question: Question
    own: int
    """Number of its own answer among the question's candidates."""
    theirs: int
    """Number of the donor's answer."""
    donor: Json
    """As an intervention names it."""
    stranger: Json | None


def twins_of(samples: Sequence[Sample]) -> dict[str, Sample]:
    """The twin of each sample that has one among them, by id; twins are each other's."""
    there = {sample.id: sample for sample in samples}
    found: dict[str, Sample] = {}
    for id, sample in there.items():
        other = str(sample.record.labels.get("twin_of", ""))
        if other in there:
            found |= {id: there[other], other: sample}
    return found


def given(acts: ActivationStore, clean: Sequence[tuple[Sample, Run]], frame: Frame) -> Given:
    """The interventions of arms with `Labels`.

    Where the clean runs of a sample with several answers are not stored yet, each seed is taken to receive from the
    next one: more runs than there will be, as those that end alike are left out.

    Args:
        acts: The store.
        clean: Clean runs and their samples.
        frame: The model.
    """
    samples = {sample.id: sample for sample, _ in clean}
    twins = twins_of(list(samples.values()))
    runs = {(run.sample_id, run.seed): run for _, run in clean}
    order = [id for id in samples if id not in twins or "twin_of" not in samples[id].record.labels]
    strangers: dict[str, str] = {}
    for at, id in enumerate(order):
        other = order[(at + 1) % len(order)]
        if other != id:
            strangers[id] = other
            if id in twins:
                strangers[twins[id].id] = twins[other].id if other in twins else other

    @cache
    def cast(sample_id: str, seed: int) -> Cast | None:
        stranger: Json | None = {"sample": strangers[sample_id]} if sample_id in strangers else None
        if sample_id in twins:
            question = Question(samples[sample_id], twins[sample_id])
            own, theirs = question.of_receiver[0], question.of_donor[0]
            return Cast(question, own, theirs, {"sample": twins[sample_id].id}, stranger)
        return _from_seeds(acts, samples[sample_id], seed, runs, stranger)

    def interventions(asked: Arm, sample: Sample, seed: int) -> tuple[Json, ...] | None:
        labels, found = Labels(**asked.labels), cast(sample.id, seed)  # pyright: ignore[reportArgumentType]
        donor = None if found is None else found.stranger if labels.part == "stranger" else found.donor
        if found is None or donor is None:
            return None
        if labels.part not in ("target", "background"):
            return (record(labels, donor, "text" if labels.part == "text" and labels.site == RESID else None),)
        cells = token_cells(found.question.where(found.own, found.theirs), frame.tokens)
        chosen = cells if labels.part == "target" else ~cells
        # An empty region would be the clean run under another name.
        return (record(labels, donor, mask(chosen)),) if chosen.any() else None

    return interventions


@dataclass(frozen=True, kw_only=True)
class OnStates(Experiment):
    """What experiments have in common whose arms put states of one run into another."""

    keep: bool = True
    """Keep donors' states with the clean runs; without, each changed run makes its donor's steps again."""

    def keeps(self, frame: Frame) -> tuple[CaptureSpec, CaptureSpec]:
        """See `Experiment.keeps`."""
        return (donors_keep(self.plan(frame), frame) if self.keep else self.clean), self.child

    def given(self, acts: ActivationStore, clean: Sequence[tuple[Sample, Run]], frame: Frame) -> Given | None:
        """See `Experiment.given`."""
        return given(acts, clean, frame)


def record(labels: Labels, donor: Json, region: Json | str | None) -> Json:
    """The intervention of an arm, as `interp.interventions.Patch` reads it."""
    found: Json = {
        "kind": "patch",
        "donor": donor,
        "layers": list(labels.layers),
        "steps": list(labels.steps),
    }
    if labels.site != RESID:
        found["site"] = labels.site
    if region is not None:
        found["region"] = region
    return found


def _from_seeds(
    acts: ActivationStore, sample: Sample, seed: int, runs: dict[tuple[str, int], Run], stranger: Json | None
) -> Cast | None:
    """The next seed of the same sample that ends in another valid answer donates."""
    seeds = sorted(other for id, other in runs if id == sample.id)
    later = [other for other in seeds if other > seed] + [other for other in seeds if other < seed]
    if len(sample.answer_videos if sample.answer_videos is not None else ()) < 2 or not later:
        return None
    question = Question(sample, sample)
    if not all(acts.has_run(runs[sample.id, one].id) for one in seeds):
        return Cast(question, question.of_receiver[0], question.of_receiver[1], {"seed": later[0]}, stranger)

    def answer(one: int) -> int | None:
        return question.look(video(acts, runs[sample.id, one].id)).ending(question.of_receiver)

    own = answer(seed)
    for other in later if own is not None else ():
        theirs = answer(other)
        if theirs is not None and theirs != own:
            assert own is not None
            return Cast(question, own, theirs, {"seed": other}, stranger)
    return None


def video(acts: ActivationStore, run_id: str) -> NDArray[np.uint8]:
    """The finished video of a run, uint8 `[F, H, W, 3]`."""
    return acts.load("output", "pixels", runs=[run_id], lazy=False).to_numpy()[0]
