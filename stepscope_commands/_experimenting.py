"""An experiment from plan to verdict, in one call: the only one that needs a model and an analysis at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from stepscope_commands._printing import tell

if TYPE_CHECKING:
    from pathlib import Path

    import analyses
    import interp
    import store
    from analyses.experiments import Arm, Experiment
    from analyses.experiments._base import Given
    from interp.conditions import Condition


def experiment(
    asked: Experiment,
    model: interp.Model,
    samples: Sequence[store.Sample],
    *,
    into: store.ActivationStore | str | Path,
    seeds: Sequence[int] = (0,),
    settings: store.SamplerSettings | None = None,
    executor: str = "local",
    batch: int = 1,
    progress: bool = False,
    dry_run: bool = False,
) -> analyses.Result | None:
    """Plan an experiment, say on standard error what it costs, make the runs that the store lacks, and compare them.

    Args:
        asked: Of `analyses.experiments`, with its options.
        model: As `interp.load(…, scheduler="euler")` returns it: a solver's past does not belong to a changed run.
        samples: The questions; where the experiment compares twins, each followed by its twin
            (`[one for pair in world.pairs(3) for one in pair]`).
        into: A store, or the folder of one (made if missing).
        seeds: One clean run for each sample and seed.
        settings: How to sample; the model's defaults if not given.
        executor: As for `interp.capture`.
        batch: As for `interp.capture`.
        progress: Show bars with the time left.
        dry_run: Only say what it would cost.

    Returns:
        The result, which the store keeps; None of a dry run.

    Raises:
        InterpError: if the model cannot do what is asked, before anything runs.
        AnalysisError: if the options do not fit the model, or the runs cannot be compared.
        StoreError: if the store cannot be written.
    """
    import store
    from analyses.experiments import Frame
    from analyses.experiments.attribution import TOKENS
    from interp import attribution, batching, conditions, executors, experimenting

    executors.check(executor)
    batching.check(batch)
    settings = settings or model.settings()
    frame = Frame(**experimenting.shape(model, settings), seeds=tuple(seeds))
    arms = asked.plan(frame)
    variants = {arm.variant: conditions.variant_of(model, arm.variant) for arm in arms if arm.variant}
    clean, child = asked.keeps(frame)
    acts = into if isinstance(into, store.ActivationStore) else store.open(into, mode="a")
    kept: Any = {"clean": clean, "child": child, "into": acts}
    programme = partial(
        experimenting.programme, model, samples, **kept, seeds=seeds, settings=settings, variants=variants
    )
    how: Any = {"executor": executor, "batch": batch, "progress": progress, "variants": variants}
    make = partial(experimenting.conduct, model, into=acts, **how)
    first = programme(arms=[])
    given = asked.given(acts, first.clean.runs, frame)
    todo = programme(arms=_conditions(arms, given))
    tell(f"{todo}; sampled with {settings.scheduler}")
    pairs = [attribution.Asked(*one) for one in asked.sought(first.clean.runs, frame)]
    beside = attribution.programme(model, pairs, into=acts, analysis=TOKENS)
    if pairs:
        tell(str(beside))
    if beside.missing:
        attribution.check_executor(executor)
    if batch > 1:
        tell(batching.told(model, len(todo.missing), size=batch, calls=experimenting.calls(model, todo, batch=batch)))
    if dry_run:
        return None
    if given is not None and first.missing:  # who donates to whom may depend on how clean runs end
        make(first)
        given = asked.given(acts, first.clean.runs, frame)
        assert given is not None
        todo = programme(arms=_conditions(arms, given))
    make(todo)
    attribution.conduct(model, beside, into=acts, progress=progress)
    return asked.compare(acts, runs=todo.run_ids)


def _conditions(arms: Sequence[Arm], given: Given | None) -> list[Condition]:
    """Arms as `interp` takes them."""
    from interp import conditions

    return [
        conditions.Condition(
            arm.interventions if given is None else partial(given, arm), arm.settings, arm.variant, arm.seeds
        )
        for arm in arms
    ]
