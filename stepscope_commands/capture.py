"""`stepscope capture`: generate videos and keep what happens at each denoising step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from stepscope_commands._making import make, print_forecast
from stepscope_commands._options import (
    Batch,
    Device,
    DeviceMap,
    Difficulty,
    Dtype,
    Executor,
    Frames,
    Guidance,
    Into,
    Lora,
    Model,
    Offload,
    Pixels,
    Revision,
    Samples,
    Seeds,
    Split,
    Steps,
    World,
    WorldSeed,
)
from stepscope_commands._printing import say

if TYPE_CHECKING:
    import torch

    import store


def capture(
    *,
    into: Into,
    model: Model = "tinywan",
    world: World = None,
    samples: Samples = None,
    n: Annotated[int, Parameter(help="Samples to draw from the world, or to take from the folder.")] = 1,
    world_seed: WorldSeed = 0,
    difficulty: Difficulty = None,
    split: Split = "in_domain",
    image: Annotated[Path | None, Parameter(help="First frame of your own, instead of a world.")] = None,
    prompt: Annotated[str, Parameter(help="Prompt that goes with --image.")] = "",
    negative_prompt: Annotated[str, Parameter(help="Negative prompt that goes with --image.")] = "",
    seeds: Seeds = "0",
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
        Parameter(help="euler: no solver's memory, for runs whose x_s is changed (of CogVideoX, DDIM)."),
    ] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    guidance_2: Annotated[float | None, Parameter(help="Guidance scale of the low-noise expert.")] = None,
    height: Pixels = None,
    width: Pixels = None,
    frames: Frames = None,
    device: Device = None,
    dtype: Dtype = None,
    lora: Lora = None,
    revision: Revision = None,
    variant: Annotated[str | None, Parameter(help="Of the weight files, e.g. fp16.")] = None,
    transformer: Annotated[Path | None, Parameter(help="File with other weights of the transformer.")] = None,
    offload: Offload = None,
    device_map: DeviceMap = None,
    vae_tiling: Annotated[bool, Parameter(negative="", help="Encode and decode in tiles, in less memory.")] = False,
    executor: Executor = "local",
    batch: Batch = 1,
    dry_run: Annotated[
        bool, Parameter(negative="", help="Only say what it would take: bytes, disk and time; loads no weights.")
    ] = False,
) -> None:
    """Generate videos and keep what happens at each denoising step; goes on where it was stopped."""
    import torch

    import interp
    from interp import batching, catalogue, executors, intervening

    questions = _samples(
        world=world,
        folder=samples,
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
    executors.check(executor, device_map=device_map)
    batching.check(batch)
    elsewhere = executor != "local"  # here the weights are only compared, so they stay off the GPU
    runs_on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    on_gpu = executor == "gpus" or (not elsewhere and runs_on.type != "cpu")
    kind: torch.dtype = getattr(torch, dtype or ("bfloat16" if on_gpu else "float32"))
    asked = {"steps": steps, "guidance": guidance, "guidance_2": guidance_2}
    asked |= {"height": height, "width": width, "frames": frames}
    sketch = catalogue.skeleton(model, dtype=kind, revision=revision)
    foreseen = interp.foresee(
        sketch, questions, wanted, into=into, seeds=chosen, settings=sketch.settings(**asked), count=dry_run
    )
    if dry_run and not changes:  # whether a change has a place, its donors say, for whom the weights are compared
        print_forecast(foreseen, into=into, runs_on=runs_on, dtype=kind)
        say(batching.told(sketch, foreseen.missing, size=batch))
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
        device_map=None if elsewhere else device_map,
        vae_tiling=vae_tiling,
        scheduler=scheduler,
    )
    if loaded.recipe and elsewhere:
        loaded.recipe |= {"offload": offload, "device_map": device_map, "device": device}
    settings = loaded.settings(**asked)
    how: dict[str, Any] = {"into": into, "seeds": chosen, "settings": settings, "executor": executor, "batch": batch}
    make(loaded, questions, wanted, **how, dry_run=dry_run, changes=changes)


def _samples(
    *,
    world: str | None,
    folder: Path | None,
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
    from interp import vbvr

    if sum(one is not None for one in (world, folder, image)) != 1:
        raise interp.BadInput(
            "capture needs samples: give either --world "
            f"({', '.join(interp.worlds.names())}), --samples FOLDER, or --image FILE with --prompt"
        )
    if folder is not None:
        return list(vbvr.samples(folder, n=n))
    if world is not None:
        return interp.worlds[world].generate(n, seed=seed, difficulty=difficulty, split=split)
    assert image is not None
    return [interp.custom_sample(image, prompt=prompt, negative_prompt=negative_prompt)]
