"""`stepscope experiment …`: one command for each experiment; it names its options and hands them on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import App, Parameter

from stepscope_commands._conducting import Generation, conduct
from stepscope_commands._options import Json
from stepscope_commands._printing import print_json, print_table
from stepscope_commands._version import version

if TYPE_CHECKING:
    from analyses.experiments import Patch

P = TypeVar("P", bound="Patch")

app = App(name="experiment", version=version)

Windows = Annotated[str | None, Parameter(help="Step windows, e.g. 0,0-4,5-9: each from its first to its last step.")]
Part = Annotated[
    list[str] | None,
    Parameter(
        negative="", help="What to take of the donor: whole, target, background, text or stranger; repeatable; all."
    ),
]
Sites = Annotated[
    list[str] | None, Parameter(negative="", help="Site to patch; repeatable; resid_post, attn_out and mlp_out.")
]
LayerBlocks = Annotated[int, Parameter(help="Blocks of layers.")]
Keep = Annotated[
    bool, Parameter(help="Keep donors' states with the clean runs; without, they are made again for each changed run.")
]


@app.command
def ls(*, json_: Json = False) -> None:
    """List the experiments: what they ask, and the rule of each verdict."""
    from analyses import experiments

    found = [experiments.get(name) for name in experiments.names()]
    rows = [{"experiment": one.name, "claim": one.claim, "rule": one.rule} for one in found]
    if json_:
        print_json(rows)
    else:
        print_table(["experiment", "claim", "rule"], [tuple(row.values()) for row in rows])


@app.command
def noise(
    *,
    of: Generation,
    at: Annotated[str | None, Parameter(help="Steps to put noise at, e.g. 0,4-6; six of them if not given.")] = None,
    noisy_frames: Annotated[str | None, Parameter(help="Latent frames to put noise in; all if not given.")] = None,
    dose: Annotated[list[float] | None, Parameter(negative="", help="Dose below 1 to test; repeatable.")] = None,
    json_: Json = False,
) -> None:
    """Noise at a step against noise at a frame (E3, E4): plain, σ-matched, by dose; goes on where it was stopped."""
    from analyses import experiments

    asked = experiments.Noise(
        at=_numbers(at),
        frames=_numbers(noisy_frames),
        doses=experiments.Noise.doses if dose is None else tuple(dose),
    )
    conduct(asked, of, json_=json_)


@app.command
def propagation(
    *,
    of: Generation,
    at: Annotated[str | None, Parameter(help="Steps to put noise at, e.g. 0,4-6; six of them if not given.")] = None,
    layers: Annotated[str | None, Parameter(help="Layers that are kept, e.g. 3,11; three if not given.")] = None,
    json_: Json = False,
) -> None:
    """How noise at a step spreads through later steps (E5): injected step by later step, plain and σ-matched."""
    from analyses import experiments

    asked = experiments.Propagation(at=_numbers(at), layers=_numbers(layers))
    conduct(asked, of, json_=json_)


@app.command
def swap(
    *,
    of: Generation,
    layers: Annotated[str | None, Parameter(help="Layers to swap one at a time, e.g. 0,4-6; six if not given.")] = None,
    windows: Windows = None,
    part: Part = None,
    inner_controls: Annotated[
        bool,
        Parameter(
            negative="",
            help="Take parts other than whole at inner layers alone, where the verdict reads them.",
        ),
    ] = False,
    keep: Keep = True,
    json_: Json = False,
) -> None:
    """Layer swaps between twins (E7): layers × step windows, both directions, regions, text, a stranger as control."""
    from analyses import experiments

    asked = experiments.Swap(
        layers=_numbers(layers),
        windows=_windows(windows),
        parts=None if part is None else tuple(part),
        inner_controls=inner_controls,
        keep=keep,
    )
    conduct(asked, of, json_=json_)


@app.command
def windows(
    *,
    of: Generation,
    twins: Annotated[
        bool, Parameter(help="Let twins donate; without, other seeds that ended in another valid answer.")
    ] = False,
    layer_blocks: LayerBlocks = 4,
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
    conduct(asked, of, json_=json_)


@app.command
def patch(
    *,
    of: Generation,
    site: Sites = None,
    part: Part = None,
    layer_blocks: LayerBlocks = 4,
    windows: Windows = None,
    keep: Keep = True,
    json_: Json = False,
) -> None:
    """Activation patching between twins: how much of the answer comes back, by site, layers, steps and region."""
    from analyses import experiments

    kind = experiments.Patch
    asked = _patching(kind, site=site, part=part, layer_blocks=layer_blocks, windows=windows, keep=keep)
    conduct(asked, of, json_=json_)


@app.command
def attribution(
    *,
    of: Generation,
    site: Sites = None,
    part: Annotated[
        list[str] | None, Parameter(negative="", help="Region: whole, target or background; repeatable; all.")
    ] = None,
    layer_blocks: LayerBlocks = 4,
    windows: Windows = None,
    points: Annotated[
        int, Parameter(help="Points between both runs' states at which gradients are taken; 0: at the run's own.")
    ] = 0,
    keep: Keep = True,
    json_: Json = False,
) -> None:
    """The cheap version of `patch`: gradients foretell what each patch recovers; held against the real patches."""
    from analyses import experiments

    kind = experiments.Attribution
    asked = _patching(kind, site=site, part=part, layer_blocks=layer_blocks, windows=windows, keep=keep)
    conduct(replace(asked, points=points), of, json_=json_)


@app.command
def ensemble(
    *,
    of: Generation,
    sizes: Annotated[str | None, Parameter(help="Numbers of seeds, e.g. 2,3; 2, 3, 5 and 8 if there are.")] = None,
    no_baselines: Annotated[
        bool, Parameter(negative="", help="Leave out the longer and shorter runs of as many forwards.")
    ] = False,
    grid: Annotated[bool, Parameter(help="Vary layers, steps and weights beside the number of seeds.")] = True,
    json_: Json = False,
) -> None:
    """Averaging seeds inside the model (E8), beside what as many forwards buy otherwise; wants 3 --seeds or more."""
    from analyses import experiments

    asked = experiments.Ensemble(sizes=_numbers(sizes), baselines=not no_baselines, grid=grid)
    conduct(asked, of, json_=json_)


@app.command
def frames(
    *,
    of: Generation,
    counts: Annotated[str | None, Parameter(help="Numbers of video frames; 5 to 33 if not given.")] = None,
    json_: Json = False,
) -> None:
    """Success against the number of frames (E9), and the smallest number that is sufficient."""
    import interp
    from analyses import experiments

    asked = experiments.Frames(counts=experiments.Frames.counts if counts is None else interp.numbers(counts))
    conduct(asked, of, json_=json_)


@app.command
def steps(
    *,
    of: Generation,
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
    asked = kind(
        numbers=kind.numbers if numbers is None else interp.numbers(numbers),
        student=of.student_of(student),
        student_numbers=kind.student_numbers if student_numbers is None else interp.numbers(student_numbers),
        student_guidance=student_guidance,
    )
    conduct(asked, of, json_=json_)


@app.command
def early_selection(
    *,
    of: Generation,
    at: Annotated[str | None, Parameter(help="Steps made before the choice, e.g. 2,5; four if not given.")] = None,
    json_: Json = False,
) -> None:
    """Begin several seeds, continue the one whose x̂0 looks most decided, at equal forwards; wants 2 --seeds or more."""
    from analyses import experiments

    asked = experiments.EarlySelection(at=_numbers(at))
    conduct(asked, of, json_=json_)


def _patching(
    kind: type[P],
    *,
    site: list[str] | None,
    part: list[str] | None,
    layer_blocks: int,
    windows: str | None,
    keep: bool,
) -> P:
    """`patch`, or what has its arms."""
    return kind(
        sites=kind.sites if site is None else tuple(site),
        parts=kind.parts if part is None else tuple(part),
        layer_blocks=layer_blocks,
        windows=_windows(windows),
        keep=keep,
    )


def _numbers(text: str | None) -> tuple[int, ...] | None:
    """Numbers as `0,4-6`."""
    import interp

    return None if text is None else interp.numbers(text)


def _windows(text: str | None) -> tuple[tuple[int, int], ...] | None:
    """Windows as `0,0-4`."""
    import interp

    if text is None:
        return None
    numbers = [interp.numbers(item) for item in text.split(",")]
    return tuple((found[0], found[-1]) for found in numbers)
