"""A plan turned into runs for a model: what clean runs keep, which arms go together, and what is made in which order.

Clean runs of a bed keep what all of its experiments need, so that they are the same runs. An arm that two experiments
have is made once: its runs keep what either needs, in as many samples as either asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, NamedTuple

import interp
import store
from analyses import experiments
from analyses.experiments import Arm, Experiment, Frame
from analyses.experiments._base import Given
from analyses.experiments._exchange import OnStates
from analyses.experiments.attribution import TOKENS
from interp import attribution
from interp.conditions import Condition
from interp.experimenting import Programme, programme, shape
from stepscope_commands.reproducing.plan import Bed, Part, Plan, keeping, options
from store import CaptureItem, CaptureSpec, Run, Sample, SamplerSettings

Key = tuple[str, str, str, tuple[int, ...]]
"""What tells arms apart: interventions, settings, variant, seeds."""


class Asked(NamedTuple):
    """An experiment of the plan, for a model."""

    part: Part
    bed: Bed
    experiment: Experiment
    frame: Frame
    n: int
    """Samples of each family."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of its clean runs."""
        return self.frame.seeds


class Group(NamedTuple):
    """Arms that are made in one sweep: the same samples, the same seeds, and the same is kept of them."""

    bed: Bed
    first: int
    """First sample of each family."""
    last: int
    """The one behind the last."""
    seeds: tuple[int, ...]
    child: CaptureSpec
    arms: tuple[tuple[Arm, Asked], ...]
    """Each arm with an experiment that has it."""
    wanted: tuple[tuple[str, ...], ...]
    """Ids of all parts that want the arm."""


class Work:
    """A plan for a model: everything that is known before a store is opened.

    Args:
        model: As `interp.load` or `catalogue.skeleton` returns it.
        plan: What is run.
        samples: Of each bed, by family (`plan.drawn`).
        asked: Sampler settings that differ from the plan's.
        student: The distilled model of the experiment `steps`, where the plan names none.
        keep: Whether clean runs keep what experiments between runs take of them.
        only: Ids of the parts to make; all if not given. What runs keep follows from the whole plan, so that parts
            that are made one after another share their runs as well.
    """

    def __init__(
        self,
        model: interp.Model,
        plan: Plan,
        samples: Mapping[str, Sequence[Sequence[Sample]]],
        *,
        asked: Mapping[str, Any] | None = None,
        student: str = "",
        only: set[str] | None = None,
        keep: bool = True,
    ) -> None:
        self.model, self.plan, self.samples = model, plan, samples
        self.only = {part.id for part in plan.parts} if only is None else only
        given = {name: value for name, value in (asked or {}).items() if value is not None}
        self.settings: SamplerSettings = model.settings(**{**plan.settings, **given})
        self.shape: dict[str, Any] = shape(model, self.settings)
        self._student, self._keep = student, keep

    # `shape` holds what a plan must know of the model: the fields of `analyses.experiments.Frame`, but the seeds.

    def of(self, bed: Bed, *, first: int = 0, last: int | None = None) -> list[Sample]:
        """Samples of a bed: a slice of each family, in units of pairs where there are twins."""
        each = 2 if bed.twins else 1
        end = None if last is None else last * each
        return [one for family in self.samples[bed.name] for one in family[first * each : end]]

    @cached_property
    def experiments(self) -> tuple[Asked, ...]:
        """The experiments of the plan."""
        return tuple(self._asked(part) for part in self.plan.experiment)

    def _asked(self, part: Part) -> Asked:
        bed = self.plan.of(part.on[0])
        frame = Frame(**self.shape, seeds=tuple(interp.numbers(part.seeds or bed.seeds)))
        given = {name: _tuples(value) for name, value in options(part, self.shape).items()}
        if part.of == experiments.Steps.name:
            given.setdefault("student", self._student)
        if issubclass(experiments.get(part.of), OnStates):
            given.setdefault("keep", self._keep)
        try:
            made = experiments.get(part.of)(**given)
        except TypeError as error:
            raise interp.BadInput(f"the plan's options of {part.id} do not fit: {error}") from error
        if made.twins != bed.twins:
            needs = "needs twins" if made.twins else "takes no twins"
            raise interp.BadInput(f"{part.id} {needs}, and the bed {bed.name} is of the other kind")
        return Asked(part, bed, made, frame, part.n or bed.n)

    @cached_property
    def clean(self) -> dict[str, CaptureSpec]:
        """What clean runs keep, by bed."""
        own = {bed.name: [keeping(bed, self.shape)] for bed in self.plan.bed}
        for one in self.experiments:
            own[one.bed.name].append(one.experiment.keeps(one.frame)[0])
        return {name: merged(specs) for name, specs in own.items()}

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """All arms, in the order of the plan's experiments."""
        wishes: dict[tuple[str, Key], list[tuple[Asked, Arm]]] = {}
        for at, one in enumerate(self.experiments):
            for arm in one.experiment.plan(one.frame):
                wishes.setdefault((one.bed.name, _key(arm, one, at)), []).append((one, arm))
        found: dict[tuple[Any, ...], list[tuple[Arm, Asked, tuple[str, ...]]]] = {}
        children: dict[str, CaptureSpec] = {}
        for wanting in wishes.values():
            one, arm = wanting[0]
            for first, last in pairwise(sorted({0, *(other.n for other, _ in wanting)})):
                by = [other for other, _ in wanting if other.n >= last]
                child = merged(other.experiment.keeps(other.frame)[1] for other in by)
                kept = child.canonical()
                children[kept] = child
                place = (one.bed.name, first, last, arm.seeds or one.seeds, kept)
                if wanted := tuple(other.part.id for other in by if other.part.id in self.only):
                    found.setdefault(place, []).append((arm, one, wanted))
        return tuple(
            Group(
                self.plan.of(place[0]),
                *place[1:4],
                child=children[place[4]],
                arms=tuple((arm, one) for arm, one, _ in arms),
                wanted=tuple(ids for _, _, ids in arms),
            )
            for place, arms in found.items()
        )

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of other models that arms ask for."""
        return tuple(dict.fromkeys(arm.variant for group in self.groups for arm, _ in group.arms if arm.variant))

    def count(self, bed: Bed, n: int) -> int:
        """How many samples `n` of each family of a bed are, whether or not they are drawn."""
        return len(self.samples[bed.name]) * n * (2 if bed.twins else 1)

    def cleans(self, acts: store.ActivationStore, *, most: int | None = None) -> Iterator[tuple[Part, Bed, Programme]]:
        """The clean runs of each part and bed, experiments first; those of two parts may be the same runs.

        Args:
            acts: The store.
            most: Only so many samples of the first family.
        """
        for one in (one for one in self.experiments if one.part.id in self.only):
            yield one.part, one.bed, self._clean(acts, one.bed, one.n, one.seeds, most)
        for part in (part for part in self.plan.analysis if part.id in self.only):
            for bed in map(self.plan.of, part.on):
                yield part, bed, self._clean(acts, bed, part.n or bed.n, interp.numbers(part.seeds or bed.seeds), most)

    def _clean(
        self, acts: store.ActivationStore, bed: Bed, n: int, seeds: Sequence[int], most: int | None
    ) -> Programme:
        samples = self._some(bed, 0, n, most)
        return programme(
            self.model, samples, [], clean=self.clean[bed.name], child=CaptureSpec(items=()), into=acts,
            seeds=seeds, settings=self.settings,
        )  # fmt: skip

    def _some(self, bed: Bed, first: int, last: int, most: int | None) -> list[Sample]:
        samples = self.of(bed, first=first if most is None else 0, last=last)  # fewer may have been drawn
        return samples if most is None else samples[: most * (2 if bed.twins else 1)]

    def attributions(
        self, acts: store.ActivationStore, *, most: int | None = None
    ) -> Iterator[tuple[Part, attribution.Programme]]:
        """What is attributed to pairs of clean runs, by part.

        Args:
            acts: The store.
            most: Only so many samples of the first family.
        """
        for one in self.experiments:
            if one.part.id in self.only and one.experiment.takes_gradients:
                clean = self._clean(acts, one.bed, one.n, one.seeds, most).clean.runs
                if pairs := [attribution.Asked(*pair) for pair in one.experiment.sought(clean, one.frame)]:
                    yield one.part, attribution.programme(self.model, pairs, into=acts, analysis=TOKENS)

    def changed(
        self,
        acts: store.ActivationStore,
        group: Group,
        variants: Mapping[str, interp.Model],
        *,
        most: int | None = None,
    ) -> Programme:
        """The changed runs of a group; who donates may depend on clean runs, which should be there."""
        samples = self._some(group.bed, group.first, group.last, most)
        given: dict[str, Given | None] = {}
        for _, one in group.arms:
            if one.part.id not in given:
                whole = self._clean(acts, one.bed, one.n, one.seeds, None if most is None else most + 1)
                given[one.part.id] = one.experiment.given(acts, whole.clean.runs, one.frame)
        conditions = [_condition(arm, given[one.part.id]) for arm, one in group.arms]
        return programme(
            self.model, samples, conditions, clean=self.clean[group.bed.name], child=group.child, into=acts,
            seeds=group.seeds, settings=self.settings, variants=variants,
        )  # fmt: skip


def merged(specs: Iterable[CaptureSpec]) -> CaptureSpec:
    """One capture spec that keeps what any of several keep."""
    found: dict[tuple[Any, ...], CaptureItem] = {}
    for item in (item for spec in specs for item in spec.items):
        key = (item.site, item.reduction, item.encoding, item.heads, item.queries)
        other = found.get(key)
        found[key] = item if other is None else _both(item, other)
    return CaptureSpec(items=tuple(found[key] for key in sorted(found, key=repr)))


def _both(one: CaptureItem, other: CaptureItem) -> CaptureItem:
    def union(a: tuple[Any, ...] | None, b: tuple[Any, ...] | None, whole: Any) -> tuple[Any, ...] | None:
        return a if a == b else whole if a is None or b is None else tuple(sorted({*a, *b}))

    # Branches that are not named are `cond` alone, where layers have branches.
    branches = [("cond",) if item.branches is None else item.branches for item in (one, other)]
    same = one.branches == other.branches
    return one.model_copy(
        update={
            "layers": union(one.layers, other.layers, None),
            "steps": union(one.steps, other.steps, None),
            "branches": one.branches if same else tuple(sorted({*branches[0], *branches[1]})),
        }
    )


def _key(arm: Arm, one: Asked, at: int) -> Key:
    """Equal for arms that are the same runs; an arm whose interventions depend on the run is like no other."""
    own = "" if arm.interventions or arm.settings or arm.variant else f"{at} {sorted(arm.labels.items())!r}"
    return (repr(arm.interventions) + own, repr(sorted(arm.settings.items())), arm.variant, arm.seeds or one.seeds)


def _condition(arm: Arm, given: Given | None) -> Condition:
    return Condition(arm.interventions if given is None else partial(given, arm), arm.settings, arm.variant)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def runs_of(one: Programme) -> tuple[tuple[Sample, Run], ...]:
    """The changed runs of a programme."""
    return tuple(pair for sweep in one.arms for pair in sweep.runs)
