"""How every experiment is conducted: what its runs are made of, what they cost, their making and comparison."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from stepscope_commands._options import (
    Batch,
    Device,
    Difficulty,
    Dtype,
    Executor,
    Frames,
    Guidance,
    Into,
    Model,
    Pixels,
    Samples,
    Seeds,
    Split,
    Steps,
    WorldSeed,
)
from stepscope_commands._results import print_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    import interp
    import store
    from analyses.experiments import Arm, Experiment
    from analyses.experiments._base import Given
    from interp.conditions import Condition


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Generation:
    """What the runs of an experiment are made of."""

    into: Into
    world: Annotated[str | None, Parameter(help="Task family to draw samples from.")] = None
    samples: Samples = None
    n: Annotated[int, Parameter(help="Samples.")] = 8
    world_seed: WorldSeed = 0
    difficulty: Difficulty = None
    split: Split = "in_domain"
    seeds: Seeds = "0"
    model: Model = "tinywan"
    steps: Steps = None
    guidance: Guidance = None
    height: Pixels = None
    width: Pixels = None
    frames: Frames = None
    device: Device = None
    dtype: Dtype = None
    executor: Executor = "local"
    batch: Batch = 1
    dry_run: Annotated[bool, Parameter(negative="", help="Only say what it would cost.")] = False


def conduct(asked: Experiment, of: Generation, *, json_: bool) -> None:
    """Plan an experiment, say what it costs, make its runs, compare them."""
    import interp
    import store
    from analyses.experiments import Frame
    from analyses.experiments.attribution import TOKENS
    from interp import attribution, batching, conditions, executors, experimenting

    samples = _samples(asked, of)
    executors.check(of.executor)
    batching.check(of.batch)
    model = _model(of)
    settings = model.settings(steps=of.steps, guidance=of.guidance, height=of.height, width=of.width, frames=of.frames)
    seeds = interp.numbers(of.seeds)
    frame = Frame(**experimenting.shape(model, settings), seeds=tuple(seeds))
    arms = asked.plan(frame)
    variants = {arm.variant: conditions.variant_of(model, arm.variant) for arm in arms if arm.variant}
    clean, child = asked.keeps(frame)
    acts = store.open(of.into, mode="a")
    kept: Any = {"clean": clean, "child": child, "into": acts}
    programme = partial(
        experimenting.programme, model, samples, **kept, seeds=seeds, settings=settings, variants=variants
    )
    how: Any = {"executor": of.executor, "batch": of.batch, "progress": True, "variants": variants}
    make = partial(experimenting.conduct, model, into=acts, **how)
    first = programme(arms=[])
    given = asked.given(acts, first.clean.runs, frame)
    todo = programme(arms=_conditions(arms, given))
    sys.stderr.write(f"{todo}; sampled with {settings.scheduler}\n")
    pairs = [attribution.Asked(*one) for one in asked.sought(first.clean.runs, frame)]
    beside = attribution.programme(model, pairs, into=acts, analysis=TOKENS)
    if pairs:
        sys.stderr.write(f"{beside}\n")
    if beside.missing and of.executor != "local":  # the weights that this process holds are only compared
        raise interp.BadInput(f"gradients are taken in one process, not by {of.executor}; ask for --executor local")
    if of.batch > 1:
        calls = experimenting.calls(model, todo, batch=of.batch)
        sys.stderr.write(f"{batching.told(model, len(todo.missing), size=of.batch, calls=calls)}\n")
    if of.dry_run:
        return
    if given is not None and first.missing:  # who donates to whom may depend on how clean runs end
        make(first)
        given = asked.given(acts, first.clean.runs, frame)
        assert given is not None
        todo = programme(arms=_conditions(arms, given))
    make(todo)
    attribution.conduct(model, beside, into=acts, progress=True)
    print_result(asked.compare(acts, runs=todo.run_ids), json_=json_, rule=asked.rule)


def _samples(asked: Experiment, of: Generation) -> list[store.Sample]:
    """The samples of a world or a folder, each followed by its twin where the experiment compares twins."""
    import interp
    from interp import vbvr

    if (of.world is None) == (of.samples is None):
        raise interp.BadInput(
            f"an experiment needs samples: give either --world ({', '.join(interp.worlds.names())}) or --samples FOLDER"
        )
    if of.world is None:
        assert of.samples is not None
        if asked.twins:
            raise interp.BadInput(
                f"{asked.name} compares twins, which a folder of samples does not have: give --world grounding or maze"
            )
        return list(vbvr.samples(of.samples, n=of.n))
    world = interp.worlds[of.world]
    drawn: Any = {"seed": of.world_seed, "difficulty": of.difficulty, "split": of.split}
    if asked.twins:
        return [one for pair in world.pairs(of.n, **drawn) for one in pair]
    return world.generate(of.n, **drawn)


def _model(of: Generation) -> interp.Model:
    """The model without a solver's memory; where others make the runs, its weights stay off the GPU here."""
    import torch

    import interp

    model = interp.load(
        of.model,
        dtype=getattr(torch, of.dtype or "bfloat16") if of.dtype or of.executor == "gpus" else None,
        device=of.device if of.executor == "local" else "cpu",
        scheduler="euler",
    )
    if model.recipe and of.executor != "local":
        model.recipe |= {"device": of.device}
    return model


def student_of(model: str, named: str | None) -> str:
    """The distilled model that stands beside a model: what is named, or tinywan's own; empty for none."""
    own = "tinywan-few-step" if model == "tinywan" else ""
    return own if named is None else "" if named == "none" else named


def _conditions(arms: Sequence[Arm], given: Given | None) -> list[Condition]:
    """Arms as `interp` takes them."""
    from interp import conditions

    return [
        conditions.Condition(
            arm.interventions if given is None else partial(given, arm), arm.settings, arm.variant, arm.seeds
        )
        for arm in arms
    ]
