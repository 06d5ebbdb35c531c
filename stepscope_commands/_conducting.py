"""How every experiment is conducted: what its runs are made of, what they cost, their making and comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from stepscope_commands._experimenting import experiment
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
    World,
    WorldSeed,
)
from stepscope_commands._results import print_result

if TYPE_CHECKING:
    import interp
    import store
    from analyses.experiments import Experiment


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Generation:
    """What the runs of an experiment are made of."""

    into: Into
    world: World = None
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
    """Plan an experiment, say what it costs, make its runs, compare them, and print what came of it."""
    import interp
    from interp import batching, executors

    samples = _samples(asked, of)
    executors.check(of.executor)
    batching.check(of.batch)
    model = _model(of)
    settings = model.settings(steps=of.steps, guidance=of.guidance, height=of.height, width=of.width, frames=of.frames)
    made_of: dict[str, Any] = {"into": of.into, "seeds": interp.numbers(of.seeds), "settings": settings}
    made_by: dict[str, Any] = {"executor": of.executor, "batch": of.batch, "progress": True, "dry_run": of.dry_run}
    if result := experiment(asked, model, samples, **made_of, **made_by):
        print_result(result, json_=json_, rule=asked.rule)


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
