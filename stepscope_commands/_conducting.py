"""How every experiment is conducted: what its runs are made of, what they cost, their making and comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from stepscope_commands._experimenting import experiment
from stepscope_commands._options import Batch, Difficulty, Into, Seeds, Split, World, WorldSeed
from stepscope_commands._results import print_result
from stepscope_commands._sampling import Sampling

if TYPE_CHECKING:
    import store
    from analyses.experiments import Experiment


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Generation(Sampling):
    """What the runs of an experiment are made of."""

    into: Into
    world: World = None
    n: Annotated[int, Parameter(help="Samples.")] = 8
    world_seed: WorldSeed = 0
    difficulty: Difficulty = None
    split: Split = "in_domain"
    seeds: Seeds = "0"
    batch: Batch = 1
    dry_run: Annotated[bool, Parameter(negative="", help="Only say what it would cost.")] = False


def conduct(asked: Experiment, of: Generation, *, json_: bool) -> None:
    """Plan an experiment, say what it costs, make its runs, compare them, and print what came of it."""
    import interp

    samples = _samples(asked, of)
    of.check(batch=of.batch)
    model = of.load()
    settings = model.settings(**of.asked)
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
