"""What a reproduction costs, part by part, and its making under one bar; goes on where it was stopped."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tqdm.auto import tqdm

import interp
import store
from interp import attribution, catalogue, conditions, experimenting, schedulers
from interp.catalogue import human
from interp.forecast import duration
from stepscope_commands.reproducing.plan import Bed, Part
from stepscope_commands.reproducing.programme import Group, Work
from store import ModelRef, Run, Sample, SamplerSettings


class Cost(NamedTuple):
    """What a part of a plan takes beside the parts before it, which share runs with it."""

    part: str
    runs: int
    steps: int
    """Denoising steps to make; those that are taken from clean runs not counted."""
    forwards: int
    """Evaluations of the denoiser, of each video and branch."""
    flops: float
    nbytes: int
    """To write, uncompressed."""
    shown: int
    """Steps as a bar counts them."""

    def __add__(self, other: Cost) -> Cost:  # pyright: ignore[reportIncompatibleMethodOverride]
        numbers = (a + b for a, b in zip(self[1:], other[1:], strict=True))
        return Cost(self.part, *numbers)  # pyright: ignore[reportArgumentType]


class Unbounded(store.ActivationStore):
    """An empty store that nothing will be written to: what is planned in it is told, whatever it weighs."""

    @property
    def free(self) -> None:
        """Nobody asks."""
        return None


def sketched(name: str, *, dtype: Any, revision: str | None = None) -> interp.Model:
    """A model without weights that can be planned with: nobody knows which weights they would be."""
    model = catalogue.skeleton(name, dtype=dtype, revision=revision)
    schedulers.use_euler(model.pipeline)
    model.__dict__["ref"] = ModelRef(
        id=model.id,
        weight_hash="0" * 64,
        pipeline=type(model.pipeline).__name__,
        dtype=str(dtype).removeprefix("torch."),
    )
    return model


def costs(
    work: Work, acts: store.ActivationStore, variants: Mapping[str, interp.Model], *, most: int | None = None
) -> list[Cost]:
    """What is missing of a plan, by part in the order of the plan.

    Args:
        work: The plan for a model.
        acts: The store.
        variants: Other models that arms ask for.
        most: Plan so many samples alone and take the others to cost the same, as a large plan has many.
    """
    rates = _Rates(work.model)
    found: dict[str, list[Cost]] = {part.id: [] for part in work.plan.parts if part.id in work.only}
    seen: set[str] = set()
    planned: Counter[tuple[str, int]] = Counter()
    for part, bed, one in work.cleans(acts, most=most):
        missing = [pair for pair in one.clean.missing if pair[1].id not in seen]
        share = 1.0
        if most is not None and one.clean.runs:
            missing, share = [one.clean.runs[0]], _unplanned(work, part, bed, planned)
        seen |= {run.id for _, run in missing}
        found[part.id].append(_cost(part.id, missing, 0, 0, one.clean.plan.nbytes, rates, share))
    for part, group in (pair for whole in work.groups for pair in _by_part(whole)):
        one = work.changed(acts, group, variants, most=most)
        missing = [pair for sweep in one.arms for pair in sweep.missing]
        nbytes = sum(sweep.nbytes for sweep in one.arms) / max(len(missing), 1)
        asked = work.count(group.bed, group.last - group.first)
        share = 1.0 if most is None else asked / max(len({sample.id for sample, _ in one.clean.runs}), 1)
        found[part].append(_cost(part, missing, one.copied, one.donated, nbytes, rates, share))
    for part, todo in work.attributions(acts, most=most):
        bed = work.plan.of(part.on[0])
        sampled = len({one.run.sample_id for one in todo.asked})
        share = 1.0 if most is None else work.count(bed, part.n or bed.n) / sampled
        found[part.id].append(_gradients(part.id, todo, rates, share))
    return [sum_of(part, rows) for part, rows in found.items()]


def _gradients(part: str, todo: attribution.Programme, rates: _Rates, share: float) -> Cost:
    """What attributions cost: a step with a gradient is about three without."""
    steps = sum(one.graphs for one in todo.missing) * share
    forwards, flops = rates.of(todo.asked[0].run.settings)
    return Cost(part, 0, math.ceil(steps), math.ceil(3 * steps * forwards), 3 * steps * flops, nbytes=0, shown=0)


def _by_part(group: Group) -> list[tuple[str, Group]]:
    """The arms of a group by the first part that wants them."""
    found: list[tuple[str, Group]] = []
    for part in dict.fromkeys(wanted[0] for wanted in group.wanted):
        own = [at for at, wanted in enumerate(group.wanted) if wanted[0] == part]
        arms, wanted = tuple(group.arms[at] for at in own), tuple(group.wanted[at] for at in own)
        found.append((part, group._replace(arms=arms, wanted=wanted)))
    return found


def sum_of(name: str, rows: Iterable[Cost]) -> Cost:
    """Several costs as one."""
    total = Cost(name, 0, 0, 0, 0.0, 0, 0)
    for row in rows:
        total += row
    return total


def table(rows: Sequence[Cost], flops: float) -> tuple[list[str], list[tuple[str, ...]]]:
    """Columns and rows, the sum last.

    Args:
        rows: By part.
        flops: Floating-point operations a second.
    """

    def line(row: Cost) -> tuple[str, ...]:
        counts = (f"{number:,}" for number in (row.runs, row.steps, row.forwards))
        return (row.part, *counts, human(row.nbytes), duration(row.flops / flops))

    told = [line(row) for row in (*rows, sum_of("all", rows))]
    return ["part", "runs", "steps", "forwards", "bytes", "about"], told


def _cost(
    part: str,
    missing: Sequence[tuple[Sample, Run]],
    copied: int,
    donated: int,
    nbytes: float,
    rates: _Rates,
    share: float,
) -> Cost:
    """A cost that is measured on some samples, times `share`."""
    runs = [run for _, run in missing]
    steps = Counter({run.settings.canonical(): 0 for run in runs})
    settings: dict[str, SamplerSettings] = {}
    for run in runs:
        steps[run.settings.canonical()] += run.settings.steps
        settings[run.settings.canonical()] = run.settings
    shown = sum(steps.values())
    scale = (shown - copied + donated) / max(shown, 1)
    forwards = sum(rates.of(settings[key])[0] * count for key, count in steps.items()) * scale
    flops = sum(rates.of(settings[key])[1] * count for key, count in steps.items()) * scale
    numbers = (len(runs), shown - copied, forwards, flops, nbytes * len(runs), shown)
    whole = [math.ceil(share * number) for number in numbers]
    return Cost(part, whole[0], whole[1], whole[2], share * flops, whole[4], whole[5])


def _unplanned(work: Work, part: Part, bed: Bed, planned: Counter[tuple[str, int]]) -> int:
    """Clean runs of a part that no part before it has; `planned` counts samples by bed and seed."""
    fresh = 0
    for seed in interp.numbers(part.seeds or bed.seeds):
        samples = work.count(bed, part.n or bed.n)
        fresh += max(0, samples - planned[bed.name, seed])
        planned[bed.name, seed] = max(samples, planned[bed.name, seed])
    return fresh


class _Rates:
    """Forwards and operations of one step, by settings."""

    def __init__(self, model: interp.Model) -> None:
        self._model = model
        self._found: dict[str, tuple[float, float]] = {}

    def of(self, settings: SamplerSettings) -> tuple[float, float]:
        key = settings.model_copy(update={"steps": 2}).canonical()
        if key not in self._found:
            one = catalogue.cost(self._model, settings)
            self._found[key] = one.forwards / settings.steps, one.flops / settings.steps
        return self._found[key]


def check_room(rows: Sequence[Cost], free: int | None, where: object) -> None:
    """Refuse what the disk cannot hold, before anything runs.

    Raises:
        BadSpec: naming the part that writes most.
    """
    total = sum(row.nbytes for row in rows)
    if free is not None and total > free:
        largest = max(rows, key=lambda row: row.nbytes)
        raise interp.BadSpec(
            f"the reproduction would write {human(total)}, {human(largest.nbytes)} of it for {largest.part}, but "
            f"{human(free)} are free at {where}; make parts of it with --only, give another --store, "
            "or take a plan with fewer samples"
        )


def variants_of(model: interp.Model, work: Work) -> dict[str, interp.Model]:
    """The other models that arms ask for, loaded."""
    return {name: conditions.variant_of(model, name) for name in work.variants}


def make(
    work: Work,
    acts: store.ActivationStore,
    variants: Mapping[str, interp.Model],
    *,
    total: int,
    executor: str = "local",
    batch: int = 1,
    progress: bool = True,
) -> dict[str, tuple[str, ...]]:
    """Make every run that the store lacks: clean ones first.

    Args:
        work: The plan for a model.
        acts: The store.
        variants: Other models that arms ask for.
        total: Steps of all missing runs.
        executor: As `interp.capture` takes it.
        batch: Runs in one call of the pipeline.
        progress: Show one bar with the time left over everything.

    Returns:
        Ids of the runs of each part, clean ones first.
    """
    ids: dict[str, dict[str, None]] = {part.id: {} for part in work.plan.parts if part.id in work.only}
    how: dict[str, Any] = {"into": acts, "executor": executor, "batch": batch, "variants": variants}
    with tqdm(total=total, unit="step", disable=not progress, dynamic_ncols=True) as bar:
        for part, _, one in work.cleans(acts):
            bar.set_description(f"clean runs of {part.id}")
            experimenting.conduct(work.model, one, progress=bar, **how)
            ids[part.id] |= dict.fromkeys(one.run_ids)
        for group in work.groups:
            one = work.changed(acts, group, variants)
            bar.set_description(", ".join(sorted({id for wanted in group.wanted for id in wanted})))
            experimenting.conduct(work.model, one, progress=bar, **how)
            for wanted, sweep in zip(group.wanted, one.arms, strict=True):
                for id in wanted:
                    ids[id] |= dict.fromkeys(run.id for _, run in sweep.runs)
    for _, todo in work.attributions(acts):
        attribution.conduct(work.model, todo, into=acts, progress=progress)
    return {id: tuple(runs) for id, runs in ids.items()}
