"""The command line of stepscope: wires the four packages together and imports them lazily.

Every command mirrors a call of the library. What goes wrong is one line on standard error and a
non-zero exit: 1 for a check that failed, 2 for what was asked wrongly or cannot be had, 130 for an interruption.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from functools import partial
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    import analyses
    import interp
    import store
    from analyses.experiments import Arm, Experiment
    from analyses.experiments._base import Given
    from interp import floors
    from interp.conditions import Condition
    from interp.interventions import Intervention

LAYERS = ("interp", "store", "analyses", "reports")
"""The import packages of the distribution; their names are generic, so `doctor` looks for impostors."""

app = App(
    name="stepscope",
    help="A microscope for the denoising steps of video diffusion transformers.",
    version=lambda: _version("stepscope"),
    suppress_keyboard_interrupt=False,
)
store_app = App(name="store", help="Look after a store.")
app.command(store_app)
worlds_app = App(name="worlds", help="Look at the task families, and hold their scorers to their bounds.")
app.command(worlds_app)
experiment_app = App(name="experiment", help="Plan, run and compare: change runs, and see what is left of the answer.")
app.command(experiment_app)
models_app = App(name="models", help="See which models can be traced, and what capturing one would cost.")
app.command(models_app)

Store = Annotated[Path, Parameter(name="--store", help="Folder of the store, or s3://bucket/prefix.")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON instead of a table.")]
Where = Annotated[
    str | None,
    Parameter(help="SQL condition on the columns of runs and samples, e.g. \"family = 'maze' AND seed < 2\"."),
]


@app.command
def demo(
    *,
    out: Annotated[
        Path, Parameter(help="Folder that is made: the store in OUT/acts, the report OUT/report.html.")
    ] = Path("demo"),
    mazes: Annotated[int, Parameter(help="How many mazes.")] = 3,
    seeds: Annotated[str, Parameter(help="Seeds of each maze, e.g. 0,1 or 0-3.")] = "0,1",
) -> None:
    """Run the whole job on the bundled model: capture, analyse, report; minutes on two cores."""
    import interp
    import reports

    acts_path = out / "acts"
    samples = interp.worlds["maze"].generate(mazes, seed=DEMO_SEED)
    _say(f"{mazes} mazes × seeds {seeds} through tinywan, every denoising step kept")
    model = interp.load("tinywan")
    captured = _capture(model, samples, interp.WITH_PIXELS, into=acts_path, seeds=interp.numbers(seeds))
    report_path = _report(_kept(acts_path), out / "report.html", runs=captured.run_ids)
    _say(f"\nReport: {report_path}  (open it in a browser; it needs no network)\n\nThree questions worth asking:")
    for question, query in reports.QUERIES:
        _say(f'\n# {question}\nstepscope sql --store {acts_path} "{query}"')


DEMO_SEED = 2026
"""Stream of the demo's mazes: not one that the model was trained on."""


@app.command
def capture(
    *,
    into: Annotated[Path, Parameter(help="Folder of the store, or s3://bucket/prefix; made if it is missing.")],
    model: Annotated[str, Parameter(help="Bundled model, folder, or hub id.")] = "tinywan",
    world: Annotated[str | None, Parameter(help="Task family to draw samples from.")] = None,
    n: Annotated[int, Parameter(help="Samples to draw from the world.")] = 1,
    world_seed: Annotated[int, Parameter(help="Stream of samples to draw from.")] = 0,
    difficulty: Annotated[str | None, Parameter(help="Difficulty of the samples; all in turn if not given.")] = None,
    split: Annotated[str, Parameter(help="in_domain or out_of_domain.")] = "in_domain",
    image: Annotated[Path | None, Parameter(help="First frame of your own, instead of a world.")] = None,
    prompt: Annotated[str, Parameter(help="Prompt that goes with --image.")] = "",
    negative_prompt: Annotated[str, Parameter(help="Negative prompt that goes with --image.")] = "",
    seeds: Annotated[str, Parameter(help="Seeds of each sample, e.g. 0,1 or 0-3.")] = "0",
    keep: Annotated[
        list[str] | None,
        Parameter(
            negative="",
            help="What to keep: SITE/REDUCTION[@layers=0-5,8][@steps=0,4-7][@branches=cond,uncond][@heads=0,3], or "
            "pattern/map@queries=FRAME:Y:X; repeatable.",
        ),
    ] = None,
    spec: Annotated[Path | None, Parameter(help="TOML file with [[capture]] tables, instead of --keep.")] = None,
    intervene: Annotated[
        list[str] | None,
        Parameter(
            negative="",
            help="What to change on the way: KIND[@FIELD=VALUE], such as noise_at_step@steps=8@matched, or a TOML file "
            "with [[intervention]] tables; repeatable, in this order. Clean runs that are missing are made, too.",
        ),
    ] = None,
    scheduler: Annotated[
        Literal["euler"] | None,
        Parameter(help="euler: flow matching without a solver's memory, for runs whose x_s is changed."),
    ] = None,
    steps: Annotated[int | None, Parameter(help="Denoising steps.")] = None,
    guidance: Annotated[float | None, Parameter(help="Guidance scale; 1 or below turns guidance off.")] = None,
    guidance_2: Annotated[float | None, Parameter(help="Guidance scale of the low-noise expert.")] = None,
    height: Annotated[int | None, Parameter(help="Pixels.")] = None,
    width: Annotated[int | None, Parameter(help="Pixels.")] = None,
    frames: Annotated[int | None, Parameter(help="Video frames.")] = None,
    device: Annotated[str | None, Parameter(help="cpu, cuda, cuda:1, …; the GPU if there is one.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        Parameter(help="Dtype of the weights; float32 on a CPU, bfloat16 on a GPU."),
    ] = None,
    lora: Annotated[
        list[str] | None,
        Parameter(negative="", help="LoRA to apply: SOURCE, SOURCE*0.8 or transformer_2=SOURCE*0.8; repeatable."),
    ] = None,
    revision: Annotated[str | None, Parameter(help="Branch, tag or commit of a hub id.")] = None,
    variant: Annotated[str | None, Parameter(help="Of the weight files, e.g. fp16.")] = None,
    transformer: Annotated[Path | None, Parameter(help="File with other weights of the transformer.")] = None,
    offload: Annotated[
        Literal["model", "group", "sequential"] | None,
        Parameter(help="Keep whole parts, blocks or layers in the host's memory until the GPU needs them."),
    ] = None,
    vae_tiling: Annotated[bool, Parameter(negative="", help="Encode and decode in tiles, in less memory.")] = False,
    executor: Annotated[
        str,
        Parameter(help="local, gpus (one process each), dask (processes here) or dask:ADDRESS of a scheduler."),
    ] = "local",
    batch: Annotated[
        int, Parameter(help="Runs that one call of the pipeline makes, where it can; each is kept by itself.")
    ] = 1,
    dry_run: Annotated[
        bool, Parameter(negative="", help="Only say what it would take: bytes, disk and time; loads no weights.")
    ] = False,
) -> None:
    """Generate videos and keep what happens at each denoising step; goes on where it was stopped."""
    import torch

    import interp
    from interp import batching, catalogue, executors, intervening

    samples = _samples(
        world=world,
        n=n,
        seed=world_seed,
        difficulty=difficulty,
        split=split,
        image=image,
        prompt=prompt,
        negative_prompt=negative_prompt,
    )
    if keep and spec:
        raise interp.BadSpec("--keep and --spec were both given; give one of them")
    wanted = interp.parse(keep) if keep else interp.read(spec) if spec else interp.DEFAULT
    chosen = interp.numbers(seeds)
    changes = intervening.parse(intervene or ())
    executors.check(executor)
    batching.check(batch)
    elsewhere = executor != "local"  # here the weights are only compared, so they stay off the GPU
    runs_on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    on_gpu = executor == "gpus" or (not elsewhere and runs_on.type != "cpu")
    kind: torch.dtype = getattr(torch, dtype or ("bfloat16" if on_gpu else "float32"))
    asked = {"steps": steps, "guidance": guidance, "guidance_2": guidance_2}
    asked |= {"height": height, "width": width, "frames": frames}
    sketch = catalogue.skeleton(model, dtype=kind, revision=revision)
    foreseen = interp.foresee(
        sketch, samples, wanted, into=into, seeds=chosen, settings=sketch.settings(**asked), count=dry_run
    )
    if dry_run and not changes:  # whether a change has a place, its donors say, for whom the weights are compared
        _print_forecast(foreseen, into=into, runs_on=runs_on, dtype=kind)
        _say(batching.told(sketch, foreseen.missing, size=batch))
        return
    loaded = interp.load(
        model,
        dtype=kind,
        device="cpu" if elsewhere else device,
        loras=lora or (),
        revision=revision,
        variant=variant,
        transformer=transformer,
        offload=None if elsewhere else offload,
        vae_tiling=vae_tiling,
        scheduler=scheduler,
    )
    if loaded.recipe and elsewhere:
        loaded.recipe |= {"offload": offload, "device": device}
    settings = loaded.settings(**asked)
    how: dict[str, Any] = {"into": into, "seeds": chosen, "settings": settings, "executor": executor, "batch": batch}
    _capture(loaded, samples, wanted, **how, dry_run=dry_run, changes=changes)


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What the runs of an experiment are made of."""

    into: Annotated[Path, Parameter(help="Folder of the store, or s3://bucket/prefix; made if it is missing.")]
    world: Annotated[str, Parameter(help="Task family to draw samples from.")]
    n: Annotated[int, Parameter(help="Samples.")] = 8
    world_seed: Annotated[int, Parameter(help="Stream of samples to draw from.")] = 0
    difficulty: Annotated[str | None, Parameter(help="Difficulty of the samples; all in turn if not given.")] = None
    split: Annotated[str, Parameter(help="in_domain or out_of_domain.")] = "in_domain"
    seeds: Annotated[str, Parameter(help="Seeds of each sample, e.g. 0,1 or 0-3.")] = "0"
    model: Annotated[str, Parameter(help="Bundled model, folder, or hub id.")] = "tinywan"
    steps: Annotated[int | None, Parameter(help="Denoising steps.")] = None
    guidance: Annotated[float | None, Parameter(help="Guidance scale; 1 or below turns guidance off.")] = None
    height: Annotated[int | None, Parameter(help="Pixels.")] = None
    width: Annotated[int | None, Parameter(help="Pixels.")] = None
    frames: Annotated[int | None, Parameter(help="Video frames.")] = None
    device: Annotated[str | None, Parameter(help="cpu, cuda, cuda:1, …; the GPU if there is one.")] = None
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        Parameter(help="Dtype of the weights; float32 on a CPU, bfloat16 on a GPU."),
    ] = None
    executor: Annotated[
        str, Parameter(help="local, gpus (one process each), dask (processes here) or dask:ADDRESS of a scheduler.")
    ] = "local"
    batch: Annotated[
        int, Parameter(help="Runs that one call of the pipeline makes, where it can; each is kept by itself.")
    ] = 1
    dry_run: Annotated[bool, Parameter(negative="", help="Only say what it would cost.")] = False


Windows = Annotated[str | None, Parameter(help="Step windows, e.g. 0,0-4,5-9: each from its first to its last step.")]
Part = Annotated[
    list[str] | None,
    Parameter(
        negative="", help="What to take of the donor: whole, target, background, text or stranger; repeatable; all."
    ),
]
Keep = Annotated[
    bool, Parameter(help="Keep donors' states with the clean runs; without, they are made again for each changed run.")
]


@experiment_app.command(name="ls")
def experiment_ls(*, json_: Json = False) -> None:
    """List the experiments: what they ask, and the rule of each verdict."""
    from analyses import experiments

    found = [experiments.get(name) for name in experiments.names()]
    rows = [{"experiment": one.name, "claim": one.claim, "rule": one.rule} for one in found]
    if json_:
        _print_json(rows)
    else:
        _print_table(["experiment", "claim", "rule"], [tuple(row.values()) for row in rows])


@experiment_app.command(name="noise")
def experiment_noise(
    *,
    of: Annotated[Generation, Parameter(name="*")],
    at: Annotated[str | None, Parameter(help="Steps to put noise at, e.g. 0,4-6; six of them if not given.")] = None,
    noisy_frames: Annotated[str | None, Parameter(help="Latent frames to put noise in; all if not given.")] = None,
    dose: Annotated[list[float] | None, Parameter(negative="", help="Dose below 1 to test; repeatable.")] = None,
    json_: Json = False,
) -> None:
    """Noise at a step against noise at a frame (E3, E4): plain, σ-matched, by dose; goes on where it was stopped."""
    import interp
    from analyses import experiments

    asked = experiments.Noise(
        at=None if at is None else interp.numbers(at),
        frames=None if noisy_frames is None else interp.numbers(noisy_frames),
        doses=experiments.Noise.doses if dose is None else tuple(dose),
    )
    _experiment(asked, of, json_=json_)


@experiment_app.command(name="propagation")
def experiment_propagation(
    *,
    of: Annotated[Generation, Parameter(name="*")],
    at: Annotated[str | None, Parameter(help="Steps to put noise at, e.g. 0,4-6; six of them if not given.")] = None,
    layers: Annotated[str | None, Parameter(help="Layers that are kept, e.g. 3,11; three if not given.")] = None,
    json_: Json = False,
) -> None:
    """How noise at a step spreads through later steps (E5): injected step by later step, plain and σ-matched."""
    import interp
    from analyses import experiments

    asked = experiments.Propagation(
        at=None if at is None else interp.numbers(at), layers=None if layers is None else interp.numbers(layers)
    )
    _experiment(asked, of, json_=json_)


@experiment_app.command(name="swap")
def experiment_swap(
    *,
    of: Annotated[Generation, Parameter(name="*")],
    layers: Annotated[str | None, Parameter(help="Layers to swap one at a time, e.g. 0,4-6; six if not given.")] = None,
    windows: Windows = None,
    part: Part = None,
    keep: Keep = True,
    json_: Json = False,
) -> None:
    """Layer swaps between twins (E7): layers × step windows, both directions, regions, text, a stranger as control."""
    import interp
    from analyses import experiments

    asked = experiments.Swap(
        layers=None if layers is None else interp.numbers(layers),
        windows=_windows(windows),
        parts=experiments.Swap.parts if part is None else tuple(part),
        keep=keep,
    )
    _experiment(asked, of, json_=json_)


@experiment_app.command(name="windows")
def experiment_windows(
    *,
    of: Annotated[Generation, Parameter(name="*")],
    twins: Annotated[
        bool, Parameter(help="Let twins donate; without, other seeds that ended in another valid answer.")
    ] = False,
    layer_blocks: Annotated[int, Parameter(help="Blocks of layers.")] = 4,
    step_blocks: Annotated[int, Parameter(help="Blocks of steps.")] = 4,
    windows: Windows = None,
    keep: Keep = True,
    json_: Json = False,
) -> None:
    """Which steps and layers decide: a donor's states in blocks of them, and whether the answer follows."""
    from analyses import experiments

    asked = experiments.Windows(
        twins=twins, layer_blocks=layer_blocks, step_blocks=step_blocks, windows=_windows(windows), keep=keep
    )
    _experiment(asked, of, json_=json_)


@experiment_app.command(name="patch")
def experiment_patch(
    *,
    of: Annotated[Generation, Parameter(name="*")],
    site: Annotated[
        list[str] | None, Parameter(negative="", help="Site to patch; repeatable; resid_post, attn_out and mlp_out.")
    ] = None,
    part: Part = None,
    layer_blocks: Annotated[int, Parameter(help="Blocks of layers.")] = 4,
    windows: Windows = None,
    keep: Keep = True,
    json_: Json = False,
) -> None:
    """Activation patching between twins: how much of the answer comes back, by site, layers, steps and region."""
    from analyses import experiments

    asked = experiments.Patch(
        sites=experiments.Patch.sites if site is None else tuple(site),
        parts=experiments.Patch.parts if part is None else tuple(part),
        layer_blocks=layer_blocks,
        windows=_windows(windows),
        keep=keep,
    )
    _experiment(asked, of, json_=json_)


@experiment_app.command(name="ensemble")
def experiment_ensemble(
    *,
    of: Annotated[Generation, Parameter(name="*")],
    sizes: Annotated[str | None, Parameter(help="Numbers of seeds, e.g. 2,3; 2, 3, 5 and 8 if there are.")] = None,
    no_baselines: Annotated[
        bool, Parameter(negative="", help="Leave out the longer and shorter runs of as many forwards.")
    ] = False,
    json_: Json = False,
) -> None:
    """Averaging seeds inside the model (E8), beside what as many forwards buy otherwise; wants 3 --seeds or more."""
    import interp
    from analyses import experiments

    asked = experiments.Ensemble(sizes=None if sizes is None else interp.numbers(sizes), baselines=not no_baselines)
    _experiment(asked, of, json_=json_)


@experiment_app.command(name="frames")
def experiment_frames(
    *,
    of: Annotated[Generation, Parameter(name="*")],
    counts: Annotated[str | None, Parameter(help="Numbers of video frames; 5 to 33 if not given.")] = None,
    json_: Json = False,
) -> None:
    """Success against the number of frames (E9), and the smallest number that is sufficient."""
    import interp
    from analyses import experiments

    asked = experiments.Frames(counts=experiments.Frames.counts if counts is None else interp.numbers(counts))
    _experiment(asked, of, json_=json_)


@experiment_app.command(name="steps")
def experiment_steps(
    *,
    of: Annotated[Generation, Parameter(name="*")],
    numbers: Annotated[str | None, Parameter(help="Numbers of steps; 1 to 50 if not given.")] = None,
    student: Annotated[
        str | None,
        Parameter(help="Distilled model: a name, folder, hub id, or lora:SOURCE; tinywan has one; none: without."),
    ] = None,
    student_numbers: Annotated[str | None, Parameter(help="Its numbers of steps; 1,2,4 if not given.")] = None,
    student_guidance: Annotated[float | None, Parameter(help="Its guidance scale; its own if not given.")] = None,
    json_: Json = False,
) -> None:
    """Success and exploration against the number of steps, and a distilled few-step model beside its teacher (E10)."""
    import interp
    from analyses import experiments

    kind = experiments.Steps
    found = ("tinywan-few-step" if of.model == "tinywan" else "") if student is None else student
    asked = kind(
        numbers=kind.numbers if numbers is None else interp.numbers(numbers),
        student="" if found == "none" else found,
        student_numbers=kind.student_numbers if student_numbers is None else interp.numbers(student_numbers),
        student_guidance=student_guidance,
    )
    _experiment(asked, of, json_=json_)


@experiment_app.command(name="early-selection")
def experiment_early_selection(
    *,
    of: Annotated[Generation, Parameter(name="*")],
    at: Annotated[str | None, Parameter(help="Steps made before the choice, e.g. 2,5; four if not given.")] = None,
    json_: Json = False,
) -> None:
    """Begin several seeds, continue the one whose x̂0 looks most decided, at equal forwards; wants 2 --seeds or more."""
    import interp
    from analyses import experiments

    asked = experiments.EarlySelection(at=None if at is None else interp.numbers(at))
    _experiment(asked, of, json_=json_)


@app.command
def analyze(
    name: Annotated[str, Parameter(help="Which analysis.")],
    *,
    store: Store,
    where: Where = None,
    set_: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set",
            help="An option of the analysis, its value as JSON or plain text, e.g. site=attn_out; repeatable.",
        ),
    ] = (),
    json_: Json = False,
) -> None:
    """Compute one analysis over the runs of a store, once, and keep its result there."""
    import analyses

    result = analyses.run(name, _kept(store), where=where, **_options(set_))
    if json_:
        _print_json({"result_id": result.id, **result.record.model_dump(mode="json")})
    else:
        _say(f"{result.record.verdict}: {result.record.finding}")
        _say(f"n = {result.record.n}, result {result.id}")


@app.command
def report(
    *,
    store: Store,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="The HTML file to write.")],
    where: Where = None,
) -> None:
    """Write one HTML file about the runs of a store; it works offline."""
    _say(f"{_report(_kept(store), out, where=where)}")


@app.command
def sql(
    query: Annotated[
        str, Parameter(help="One SELECT over runs, samples, steps, arrays, token_stats, scores, results.")
    ],
    *,
    store: Store,
    json_: Json = False,
) -> None:
    """Ask a store in SQL (DuckDB); read-only."""
    import duckdb

    import store as store_package

    relation = store_package.open(store).sql(query)
    columns = relation.columns
    try:
        rows = relation.fetchall()
    except duckdb.Error as error:  # relations are lazy: a cast fails when its row is made
        raise store_package.QueryError(str(error)) from error
    if json_:
        _print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        _print_table(columns, rows)


@store_app.command
def ls(
    path: Annotated[Path, Parameter(help="Folder of the store, or s3://bucket/prefix.")], *, json_: Json = False
) -> None:
    """List the runs of a store."""
    sql(
        "SELECT run_id, model, coalesce(family, '') AS family, seed, steps, guidance, frames, "
        "round(seconds, 1) AS seconds, stored AS bytes, started "
        "FROM runs LEFT JOIN samples USING (sample_id) ORDER BY started, run_id",
        store=path,
        json_=json_,
    )


@store_app.command
def info(
    path: Annotated[Path, Parameter(help="Folder of the store, or s3://bucket/prefix.")], *, json_: Json = False
) -> None:
    """Show what a store holds: sizes by site and reduction, compression, what a full read costs, unfinished runs."""
    import store as store_package
    from store import maintenance

    acts = store_package.open(path)
    held = acts.info()
    speed = maintenance.read_speed(acts)
    reading = {
        "bytes": held.stored,
        "bytes_per_second": None if speed is None else round(speed),
        "seconds": None if speed is None else round(held.stored / speed, 3),
    }
    arrays = [
        {
            "site": array.site,
            "reduction": array.reduction,
            "runs": array.runs,
            "dtype": array.dtype,
            "files": array.files,
            "bytes": array.nbytes,
            "stored": array.stored,
            "compression": _ratio(array.nbytes, array.stored),
        }
        for array in sorted(held.arrays)
    ]
    if json_:
        about = {"compression": _ratio(held.nbytes, held.stored), "full_read": reading}
        _print_json({"runs": held.runs, **about, "incomplete": list(held.incomplete), "arrays": arrays})
        return
    _say(repr(acts))
    columns = ["site", "reduction", "runs", "dtype", "files", "bytes", "stored", "compression"]
    _print_table(columns, [tuple(array.values()) for array in arrays])
    if speed is not None:
        _say(
            f"compression {_ratio(held.nbytes, held.stored)}; a full read takes {held.stored / 1e6:.1f} MB, about "
            f"{held.stored / speed:.2f} s at {speed / 1e6:.1f} MB/s (measured now on a little of it)"
        )
    if held.incomplete:
        _say(
            f"{len(held.incomplete)} folders of runs that were never finished, invisible to every query: "
            + ", ".join(held.incomplete)
        )


@store_app.command
def verify(
    path: Annotated[Path, Parameter(help="Folder of the store, or s3://bucket/prefix.")],
    *,
    fresh: Annotated[bool, Parameter(negative="", help="Begin anew where an earlier pass was stopped.")] = False,
    json_: Json = False,
) -> None:
    """Compare every file with its checksum; name each damage in a line, and exit with 1 if there is any."""
    import store as store_package
    from store import maintenance

    found = maintenance.verify(store_package.open(path), fresh=fresh, progress=not json_)
    if json_:
        _print_json({**found._asdict(), "damages": [damage._asdict() for damage in found.damages]})
    else:
        for damage in found.damages:
            _say(str(damage))
        earlier = f", {found.earlier} before" if found.earlier else ""
        _say(f"{found.checked} runs, samples and results checked{earlier}: {found.nbytes / 1e6:.1f} MB")
    if found.damages:
        _fail(f"{len(found.damages)} files are damaged", code=1)


@store_app.command
def gc(
    path: Annotated[Path, Parameter(help="Folder of the store, or s3://bucket/prefix.")],
    *,
    grace_hours: Annotated[float, Parameter(help="Leave alone what was written to within this time.")] = 24.0,
    yes: Annotated[bool, Parameter(negative="", help="Remove; without it, only say what would be removed.")] = False,
    json_: Json = False,
) -> None:
    """Find what crashed writers left, and with --yes remove it."""
    import store as store_package
    from store import maintenance

    acts = store_package.open(path)  # never makes a store
    acts = store_package.open(path, mode="a") if yes else acts
    found = maintenance.collect(acts, grace_s=grace_hours * 3600, remove=yes)
    if json_:
        _print_json({"removed": found.removed, "leftovers": [one._asdict() for one in found.leftovers]})
        return
    for one in found.leftovers:
        _say(f"{one.path}: {one.files} files, {one.nbytes / 1e6:.1f} MB, untouched for {one.age_s / 3600:.1f} h")
    told = "removed" if found.removed else "to be removed; add --yes to remove them"
    _say(f"{len(found.leftovers)} leftovers, {found.nbytes / 1e6:.1f} MB, {told}")
    if found.young:
        _say(f"{len(found.young)} more were written to within {grace_hours:g} h and may be at work")


@store_app.command
def reindex(path: Annotated[Path, Parameter(help="Folder of the store, or s3://bucket/prefix.")]) -> None:
    """Make the cached index anew from the manifests."""
    import store as store_package

    acts = store_package.open(path)
    acts.reindex()
    _say(repr(acts))


@store_app.command
def copy(
    source: Annotated[Path, Parameter(help="Folder of the store, or s3://bucket/prefix.")],
    target: Annotated[Path, Parameter(help="The same; made if it is missing.")],
    *,
    where: Where = None,
    json_: Json = False,
) -> None:
    """Copy runs with their samples and results into another store; goes on where it was stopped."""
    import store as store_package
    from store import maintenance

    opened = store_package.open(source)
    found = maintenance.copy(opened, store_package.open(target, mode="a"), where=where, progress=not json_)
    if json_:
        _print_json(found._asdict())
    else:
        _say(
            f"{found.runs} runs, {found.samples} samples, {found.results} results copied, {found.already} were there: "
            f"{found.nbytes / 1e6:.1f} MB sent"
        )


@store_app.command
def export(
    path: Annotated[Path, Parameter(help="Folder of the store, or s3://bucket/prefix.")],
    array: Annotated[str, Parameter(help="SITE/REDUCTION, e.g. resid_post/energy.")],
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="File to write: .npy, .safetensors or .nc.")],
    where: Where = None,
    step: Annotated[list[int] | None, Parameter(negative="", help="Step to take; repeatable.")] = None,
    layer: Annotated[list[int] | None, Parameter(negative="", help="Layer to take; repeatable.")] = None,
    branch: Annotated[list[str] | None, Parameter(negative="", help="Branch to take; repeatable.")] = None,
    frame: Annotated[list[int] | None, Parameter(negative="", help="Frame to take; repeatable.")] = None,
    by: Annotated[
        list[str] | None,
        Parameter(negative="", help="Column of runs or samples to order and label runs by; repeatable."),
    ] = None,
    overwrite: Annotated[bool, Parameter(negative="", help="Replace OUT if it is there.")] = False,
) -> None:
    """Write one array of the chosen runs to a file that other programs read."""
    import store as store_package
    from store import maintenance

    site, _, reduction = array.partition("/")
    loaded = store_package.open(path).load(
        site, reduction, where=where, step=step, layer=layer, branch=branch, frame=frame, by=by or ()
    )
    found = maintenance.export(loaded, out, overwrite=overwrite)
    shape = " × ".join(f"{size} {name}" for name, size in loaded.sizes.items())
    _say(f"{found.path}: {found.dtype}, {shape}, {found.nbytes / 1e6:.1f} MB")


@worlds_app.command(name="ls")
def worlds_ls(*, json_: Json = False) -> None:
    """List the task families, by what they ask of a model."""
    from interp.families import families

    found = list(families())
    if json_:
        _print_json([{**family._asdict(), "difficulties": list(family.answers)} for family in found])
        return
    columns = ["family", "group", "kind", "k", "difficulties", "summary"]
    _print_table(
        columns, [(row.family, row.group, row.kind, row.k, ", ".join(row.answers), row.summary) for row in found]
    )


@worlds_app.command(name="render")
def worlds_render(
    family: Annotated[str, Parameter(help="Task family.")],
    *,
    out: Annotated[
        Path | None,
        Parameter(name=["--out", "-o"], help="Folder to write to, missing or empty; ./worlds-FAMILY if not given."),
    ] = None,
    n: Annotated[int, Parameter(help="Samples.")] = 3,
    seed: Annotated[int, Parameter(help="Stream of samples to draw from.")] = 0,
    difficulty: Annotated[str | None, Parameter(help="Difficulty of the samples; all in turn if not given.")] = None,
    split: Annotated[str, Parameter(help="in_domain or out_of_domain.")] = "in_domain",
) -> None:
    """Draw samples of a family: a contact sheet with all valid answers (PNG), and a film of each sample (mp4)."""
    from interp.contact_sheet import render

    rendered = render(family, out or Path(f"worlds-{family}"), n=n, seed=seed, difficulty=difficulty, split=split)
    for path in (rendered.sheet, *rendered.films):
        _say(str(path))


@worlds_app.command(name="check")
def worlds_check(
    *families: Annotated[str, Parameter(help="Task families; all of them if none is given.")],
    n: Annotated[
        int, Parameter(help="Samples of each family at least, over both splits and all difficulties, one of each.")
    ] = 102,
    jobs: Annotated[int | None, Parameter(help="Processes; as many as there are cores if not given.")] = None,
    json_: Json = False,
) -> None:
    """Score true videos and videos that solve nothing, and exit with 1 if a family's scorer is out of bounds."""
    from interp import floors

    found = floors.check(families, n=n, jobs=jobs, progress=True)
    if json_:
        _print_json({"passed": all(family.passed for family in found), "families": [f.to_dict() for f in found]})
    else:
        _print_floors(found)
    if bad := [
        f"{family.family} ({', '.join(shown for shown, floor in family.floors.items() if not floor.passed)})"
        for family in found
        if not family.passed
    ]:
        _fail(f"out of bounds: {', '.join(bad)}", code=1)


@models_app.command(name="ls")
def models_ls(
    *,
    refused: Annotated[bool, Parameter(negative="", help="List what cannot be traced, and why, instead.")] = False,
    json_: Json = False,
) -> None:
    """List the video pipelines that can be traced, by family."""
    from interp import catalogue

    if refused:
        columns, rows = ["pipeline", "reason"], [row._asdict() for row in catalogue.refused()]
    else:
        columns = ["family", "pipeline", "guidance", "sites"]
        rows = [{**row._asdict(), "sites": list(row.sites)} for row in catalogue.traceable()]
    if json_:
        _print_json(rows)
        return
    shown = [{**row, "sites": ", ".join(row["sites"])} if "sites" in row else row for row in rows]
    _print_table(columns, [tuple(row.values()) for row in shown])


@models_app.command(name="info")
def models_info(
    model: Annotated[str, Parameter(help="Bundled model, folder, or hub id.")] = "tinywan",
    *,
    revision: Annotated[str | None, Parameter(help="Branch, tag or commit of a hub id.")] = None,
    steps: Annotated[int | None, Parameter(help="Denoising steps.")] = None,
    guidance: Annotated[float | None, Parameter(help="Guidance scale; 1 or below turns guidance off.")] = None,
    height: Annotated[int | None, Parameter(help="Pixels.")] = None,
    width: Annotated[int | None, Parameter(help="Pixels.")] = None,
    frames: Annotated[int | None, Parameter(help="Video frames.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], Parameter(help="Dtype that the weights would have.")
    ] = "bfloat16",
    json_: Json = False,
) -> None:
    """Say from a model's configuration, without its weights, what capturing a run would cost, by site and reduction."""
    import torch

    from interp import catalogue, forecast

    kind: torch.dtype = getattr(torch, dtype)
    loaded = catalogue.skeleton(model, dtype=kind, revision=revision)
    asked = loaded.settings(steps=steps, guidance=guidance, height=height, width=width, frames=frames)
    found = catalogue.cost(loaded, asked)
    speed = forecast.measure(torch.device("cuda" if torch.cuda.is_available() else "cpu"), kind)
    seconds = speed.seconds(found.flops)
    if json_:
        costs = [cost._asdict() for cost in found.costs]
        about = {"settings": found.settings.model_dump(mode="json"), "costs": costs}
        _print_json({**found._asdict(), **about, "time": {"seconds": seconds, **speed._asdict()}})
        return
    _say(str(found))
    _say(f"time of a run: about {forecast.duration(seconds)}; {speed}")
    _print_table(*found.table())
    _say("Bytes of one run, uncompressed: all layers, heads and steps, one branch; of pattern, one query.")


@app.command
def doctor(*, json_: Json = False) -> None:
    """Check versions, GPU, disk, and whether another package shadows one of ours."""
    found = _doctor()
    if json_:
        _print_json(found)
    else:
        _print_table(["check", "finding"], list(found.items()))
    if found["shadowed"]:
        _fail(f"shadowed packages: {found['shadowed']}; uninstall the other package or use a fresh environment")


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script.

    Args:
        arguments: Words of the command line; None takes the process's own.

    Raises:
        SystemExit: with code 2 after one line on standard error, where something cannot be done as asked.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Threads that wait by spinning slow each other down many times over as soon as anything else runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(arguments, print_error=False, exit_on_error=False)
    except KeyboardInterrupt:
        _fail("interrupted; a capture keeps its finished runs, and the same command goes on where it stopped", code=130)
    except CycloptsError as error:
        _fail(str(error))
    except BrokenPipeError:
        # The reader of our output went away (`| head`); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        if not isinstance(error, _expected()):
            raise
        _fail(str(error))


def _expected() -> tuple[type[BaseException], ...]:
    """The error bases of the layers that were imported: what is worth one line and no traceback."""
    bases = {"interp": "InterpError", "store": "StoreError", "analyses": "AnalysisError", "reports": "ReportError"}
    loaded = [(sys.modules[layer], base) for layer, base in bases.items() if layer in sys.modules]
    return tuple(getattr(module, base) for module, base in loaded)


def _capture(
    model: interp.Model,
    samples: list[store.Sample],
    spec: store.CaptureSpec,
    *,
    into: Path,
    seeds: tuple[int, ...],
    settings: store.SamplerSettings | None = None,
    executor: str = "local",
    batch: int = 1,
    dry_run: bool = False,
    changes: tuple[Intervention, ...] = (),
) -> interp.Captured:
    """Say what it costs, then capture with a progress bar: clean runs, and with `changes` their children."""
    import interp
    import store
    from interp import batching

    interp.plan(model.adapter, spec, settings or model.settings())  # refused before a folder is made
    acts = store.open(into, mode="a")
    how: dict[str, Any] = {"into": acts, "seeds": seeds, "settings": settings}
    kinds: list[tuple[Intervention, ...]] = [(), changes] if changes else [()]
    for sample in samples if changes else ():  # one may donate to another
        acts.put_sample(sample)
    found = [interp.sweep(model, samples, spec, **how, interventions=kind) for kind in kinds]  # refused before any runs
    for todo, kind in zip(found, kinds, strict=True):
        told = _to_make(len(todo.runs), len(todo.missing), steps=todo.steps, plan=todo.plan)
        _say(f"with {', '.join(change.kind for change in kind)}: {told}" if kind else told)
        if batch > 1:
            _say(batching.told(model, len(todo.missing), size=batch))
    if dry_run:
        return interp.Captured(tuple(run.id for _, run in found[-1].runs), 0, 0)
    done = [
        interp.capture(model, samples, spec, **how, interventions=kind, executor=executor, batch=batch, progress=True)
        for kind in kinds
    ]
    return done[-1]


def _windows(text: str | None) -> tuple[tuple[int, int], ...] | None:
    """Windows as `0,0-4`."""
    import interp

    if text is None:
        return None
    numbers = [interp.numbers(item) for item in text.split(",")]
    return tuple((found[0], found[-1]) for found in numbers)


def _experiment(asked: Experiment, of: Generation, *, json_: bool) -> None:
    """Plan an experiment, say what it costs, make its runs, compare them."""
    import torch

    import interp
    import store
    from analyses.experiments import Frame
    from interp import batching, conditions, executors, experimenting

    drawn: Any = {"seed": of.world_seed, "difficulty": of.difficulty, "split": of.split}
    if asked.twins:
        samples = [one for pair in interp.worlds[of.world].pairs(of.n, **drawn) for one in pair]
    else:
        samples = interp.worlds[of.world].generate(of.n, **drawn)
    executors.check(of.executor)
    batching.check(of.batch)
    model = interp.load(
        of.model,
        dtype=getattr(torch, of.dtype or "bfloat16") if of.dtype or of.executor == "gpus" else None,
        device=of.device if of.executor == "local" else "cpu",
        scheduler="euler",
    )
    if model.recipe and of.executor != "local":
        model.recipe |= {"device": of.device}
    settings = model.settings(steps=of.steps, guidance=of.guidance, height=of.height, width=of.width, frames=of.frames)
    seeds = interp.numbers(of.seeds)
    frame = Frame(**experimenting.shape(model, settings), seeds=tuple(seeds))
    arms = asked.plan(frame)
    variants = {arm.variant: conditions.variant_of(model, arm.variant) for arm in arms if arm.variant}
    clean, child = asked.keeps(frame)
    acts = store.open(of.into, mode="a")
    programme = partial(
        experimenting.programme,
        model,
        samples,
        clean=clean,
        child=child,
        into=acts,
        seeds=seeds,
        settings=settings,
        variants=variants,
    )
    how: Any = {"executor": of.executor, "batch": of.batch, "progress": True, "variants": variants}
    conduct = partial(experimenting.conduct, model, into=acts, **how)
    first = programme(arms=[])
    given = asked.given(acts, first.clean.runs, frame)
    todo = programme(arms=_conditions(arms, given))
    sys.stderr.write(f"{todo}; sampled with {settings.scheduler}\n")
    if of.batch > 1:
        calls = experimenting.calls(model, todo, batch=of.batch)
        sys.stderr.write(f"{batching.told(model, len(todo.missing), size=of.batch, calls=calls)}\n")
    if of.dry_run:
        return
    if given is not None and first.missing:  # who donates to whom may depend on how clean runs end
        conduct(first)
        given = asked.given(acts, first.clean.runs, frame)
        assert given is not None
        todo = programme(arms=_conditions(arms, given))
    conduct(todo)
    result = asked.compare(acts, runs=todo.run_ids)
    if json_:
        _print_json({"result_id": result.id, **result.record.model_dump(mode="json")})
        return
    _say(f"{result.verdict}: {result.finding}")
    _say(f"Rule: {asked.rule}")
    _say(f"n = {result.record.n}, result {result.id}")


def _conditions(arms: Sequence[Arm], given: Given | None) -> list[Condition]:
    """Arms as `interp` takes them."""
    from interp import conditions

    return [
        conditions.Condition(
            arm.interventions if given is None else partial(given, arm), arm.settings, arm.variant, arm.seeds
        )
        for arm in arms
    ]


def _to_make(runs: int, missing: int, *, steps: int, plan: interp.Plan) -> str:
    """One line: what a sweep makes and writes."""
    return (
        f"{runs} runs, {runs - missing} of them in the store already; {missing} to make: {steps} steps, "
        f"{plan.nbytes * missing / 1e6:.1f} MB ({plan.nbytes / 1e6:.2f} MB a run)"
    )


def _print_forecast(foreseen: interp.Forecast, *, into: Path, runs_on: torch.device, dtype: torch.dtype) -> None:
    """What a sweep would take: the model, bytes by array, disk, and time on this device."""
    from interp.forecast import duration, measure

    speed = measure(runs_on, dtype)
    each = speed.seconds(foreseen.costs.flops)
    steps = foreseen.missing * foreseen.costs.settings.steps
    free = "unknown" if foreseen.free is None else f"{foreseen.free / 1e9:.1f} GB"
    _say(str(foreseen.costs))
    _print_table(*foreseen.table())
    _say(_to_make(foreseen.runs, foreseen.missing, steps=steps, plan=foreseen.plan))
    _say(f"free at {into}: {free}")
    _say(f"time: about {duration(each * foreseen.missing)}, {duration(each)} a run; {speed}")


def _samples(
    *,
    world: str | None,
    n: int,
    seed: int,
    difficulty: str | None,
    split: str,
    image: Path | None,
    prompt: str,
    negative_prompt: str,
) -> list[store.Sample]:
    """The samples that the options of `capture` ask for."""
    import interp

    if (world is None) == (image is None):
        raise interp.BadInput(
            "capture needs samples: give either --world "
            f"({', '.join(interp.worlds.names())}) or --image FILE with --prompt"
        )
    if world is not None:
        return interp.worlds[world].generate(n, seed=seed, difficulty=difficulty, split=split)
    assert image is not None
    return [interp.custom_sample(image, prompt=prompt, negative_prompt=negative_prompt)]


def _kept(path: Path) -> store.ActivationStore:
    """An existing store in which results can be kept; for reading only where its folder is."""
    import store

    acts = store.open(path)
    try:
        return store.open(path, mode="a")
    except store.ReadOnlyStore:
        return acts


def _options(assigned: tuple[str, ...]) -> dict[str, Any]:
    """`name=value` as a mapping; what is no JSON is text."""
    import analyses

    found: dict[str, Any] = {}
    for one in assigned:
        name, equals, value = one.partition("=")
        if not equals:
            raise analyses.UnknownOption(f"--set {one} has no value; write --set {one}=VALUE")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def _report(
    acts: store.ActivationStore, out: Path, *, runs: tuple[str, ...] | None = None, where: str | None = None
) -> Path:
    """Every analysis that the chosen runs allow, the stored results of experiments, and the page about them."""
    import analyses
    import reports
    from analyses import experiments

    refused: list[Exception] = []
    stored = [] if runs else [analyses.load(acts, id) for name in experiments.names() for id in acts.result_ids(name)]
    results: list[analyses.Result] = []
    mixed = (analyses.MixedRuns,) if stored else ()  # the arms of an experiment, which no analysis averages
    for name in analyses.names():
        try:
            results.append(analyses.run(name, acts, runs=runs, where=where))
        except (analyses.NoRuns, analyses.UnknownProbeLabel, *mixed) as error:  # it needs what these runs did not keep
            refused.append(error)
            _say(f"{name}: left out. {error}")
        else:
            _say(f"{name}: {results[-1].record.finding}")
    shown = results[0].record.run_ids if results else ()
    if not (stored or runs or where):
        changed = _changed(acts)
        results += changed
        shown = (*shown, *(run_id for result in changed for run_id in result.record.run_ids))
    results += stored
    if not results:
        raise refused[0]
    return reports.write(acts, out, results=results, runs=shown or results[0].record.run_ids)


def _changed(acts: store.ActivationStore) -> list[analyses.Result]:
    """What x̂0 of changed runs shows, of a few conditions: a report sets them beside the clean ones."""
    import analyses

    arms = analyses.changed(acts, arrays=["x0_hat/pixels"])
    if len(arms) > MOST_CHANGES:
        _say(f"{len(arms)} kinds of changed runs, none drawn beside the clean ones: choose one with --where")
        return []
    return [analyses.run(name, acts, runs=arm) for arm in arms for name in ("exploration", "trajectory")]


MOST_CHANGES = 4
"""Kinds of changed runs that a report of a whole store sets beside the clean ones."""


def _print_floors(found: list[floors.Floors]) -> None:
    """Mean overall scores by family and what was shown, and the worst sample's in brackets."""
    from interp import floors

    shown = [name for name in floors.BOUNDS if any(name in family.floors for family in found)]
    rows = [
        (
            family.family,
            family.samples,
            *(str(family.floors[name]) for name in shown),
            "pass" if family.passed else "FAIL",
        )
        for family in found
    ]
    _print_table(["family", "n", *(f"{name} {floors.BOUNDS[name]}" for name in shown), "verdict"], rows)
    _say("Overall scores: mean over samples (worst sample, which must be within the bound).")
    if "vae" not in shown:
        _say(f"The VAE's round trip was left out: there is no VAE at {floors.VAE}.")


def _doctor() -> dict[str, Any]:
    import shutil

    import torch

    home = Path(__file__).resolve().parent
    shadowed: list[str] = []
    for layer in LAYERS:
        spec = util.find_spec(layer)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or origin.parent.parent != home:
            shadowed.append(f"{layer} is {origin or 'missing'}")
    packages = ("stepscope", "torch", "diffusers", "transformers", "nnsight", "zarr", "xarray", "duckdb", "pyarrow")
    return {
        "python": sys.version.split()[0],
        **{package: _version(package) for package in packages},
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads",
        "disk": f"{shutil.disk_usage(Path.cwd()).free / 1e9:.1f} GB free here",
        "shadowed": "; ".join(shadowed),
    }


def _ratio(nbytes: int, stored: int) -> float:
    """How much smaller values are on disk."""
    return round(nbytes / max(stored, 1), 2)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _fail(text: str, *, code: int = 2) -> None:
    line = " ".join(text.split())
    sys.stderr.write(f"stepscope: {line}\n")
    raise SystemExit(code)


def _print_json(value: Any) -> None:
    _say(json.dumps(value, indent=2, default=str))


def _print_table(columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns)
    for row in rows:
        # Text, not markup: what is stored may hold square brackets and control sequences.
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


if __name__ == "__main__":
    main()
