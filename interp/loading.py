"""Loading a model by name: a bundled one, a folder, a hub id, or a pipeline that is in memory already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from interp import bundled, onednn
from interp.errors import BadInput, UnknownModel, first_line
from interp.lora import Lora, apply
from interp.memory import keep_pages
from interp.model import Model
from interp.schedulers import use_euler
from interp.sources import source_of

Offload = Literal["model", "group", "sequential"]
"""What waits in the host's memory until it is needed: whole parts of the pipeline, blocks, or single layers."""
DeviceMap = Literal["balanced", "cuda", "cpu"]
"""Where the parts of a pipeline lie from the start: divided among all GPUs, or all on one device."""


def load(
    name_or_path: str | Path | DiffusionPipeline,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    loras: Sequence[Lora | str] = (),
    revision: str | None = None,
    variant: str | None = None,
    transformer: str | Path | None = None,
    offload: Offload | None = None,
    device_map: DeviceMap | None = None,
    vae_tiling: bool = False,
    scheduler: Literal["euler"] | None = None,
) -> Model:
    """Load a model.

    Args:
        name_or_path: A bundled model (`tinywan`, `tinywan-few-step`, `tinywan-experts`), a folder as
            `save_pretrained` writes it, a hub id, or a pipeline that is loaded already (which is left where it is).
        dtype: Of the weights; float32 on a CPU and bfloat16 on a GPU where not given.
        device: The GPU if there is one, where not given.
        loras: LoRAs to apply, in order, as `Lora` or as text, see `Lora.parse`.
        revision: Branch, tag or commit of a hub id.
        variant: Of the weight files, such as `fp16`.
        transformer: A single safetensors file with the weights of `transformer`, instead of the model's own.
        offload: Keep weights in the host's memory and bring them to the GPU when they are needed, as diffusers does it.
        device_map: Load each part to where it stays, as diffusers does it: `balanced` divides them among all GPUs, so
            that two experts lie on one each; a device has them all, without a stay in the host's memory.
        vae_tiling: Encode and decode in tiles, which takes less memory.
        scheduler: `euler` samples a flow model with flow-matching Euler instead of its own solver, and CogVideoX with
            DDIM (a pipeline that was loaded already is given it, too).

    Raises:
        UnknownModel: if there is no such model.
        BadInput: if a LoRA or a file of weights does not load or fit, or an option does not go with the model.
        UnsupportedModel: if no adapter knows its pipeline.
    """
    wanted = [Lora.parse(lora) if isinstance(lora, str) else lora for lora in loras]
    if isinstance(name_or_path, DiffusionPipeline):
        options = {"revision": revision, "variant": variant, "transformer": transformer}
        options |= {"offload": offload, "device_map": device_map}
        if given := [name for name, value in options.items() if value is not None]:
            raise BadInput(f"{', '.join(given)}: not for a pipeline that is loaded already; give its name or folder")
        if vae_tiling:
            _tile(name_or_path)
        if scheduler == "euler":
            use_euler(name_or_path)
        return Model(name_or_path, id=name_of(name_or_path), loras=apply(name_or_path, wanted))
    if device_map and (offload or device):
        other = "--device" if device else "--offload"
        raise BadInput(
            f"--device-map {device_map} says where each part lies, and so does {other}: leave one of them out"
        )
    if device_map in ("balanced", "cuda") and not torch.cuda.is_available():
        raise BadInput(f"--device-map {device_map}: this machine has no GPU; leave it out")
    there = {"balanced": "cuda", None: device}.get(device_map, device_map)
    where = torch.device(there or ("cuda" if torch.cuda.is_available() else "cpu"))
    if offload and where.type == "cpu":
        raise BadInput(f"--offload {offload}: there is no GPU to bring weights to; on a CPU leave it out")
    if where.type == "cpu":
        keep_pages()
    kind = dtype or (torch.float32 if where.type == "cpu" else torch.bfloat16)
    source = source_of(name_or_path)
    parts: dict[str, Any] = {}
    try:
        loader: Any = DiffusionPipeline
        if transformer is not None:
            index: Any = DiffusionPipeline.load_config(source.where, revision=revision)
            loader = getattr(diffusers, index["_class_name"])  # the base class overlooks parts that it is given
            parts["transformer"] = _single_file(Path(transformer), source.where, index, kind, revision)
        with _quiet() if source.bundled else nullcontext():
            placing: Any = {"device_map": device_map} if device_map else {}
            pipeline = loader.from_pretrained(
                source.where, dtype=kind, revision=revision, variant=variant, **parts, **placing
            )
    except BadInput:
        raise
    except (OSError, ValueError, AttributeError, ImportError) as error:
        raise UnknownModel(f"cannot load {str(name_or_path)!r}: {first_line(error)}") from error
    defaults = source.defaults
    bundled.add_expert(pipeline, defaults)
    applied = bundled.apply_loras(pipeline, source.variant) if source.variant else ()
    applied += apply(pipeline, wanted)
    if where.type == "cpu":
        onednn.by_onednn(pipeline)
    if vae_tiling:
        _tile(pipeline)
    if scheduler == "euler":
        use_euler(pipeline)
    commit = "" if source.folder else str(pipeline.config.get("_commit_hash") or revision or "")
    placed = pipeline if offload or device_map else pipeline.to(where)
    model = Model(placed, id=source.id, revision=commit, defaults=defaults, loras=applied)
    model.recipe = {
        "name_or_path": source.id if source.variant else source.where,
        "dtype": str(kind).removeprefix("torch."),
        "loras": [lora.resolved() for lora in wanted],
        "revision": revision,
        "variant": variant,
        "transformer": str(Path(transformer).resolve()) if transformer is not None else None,
        "offload": offload,
        "device_map": device_map,
        "vae_tiling": vae_tiling,
        "scheduler": scheduler,
    }
    if offload:
        _ = model.ref  # hashed while the weights are all here
        _offload(pipeline, offload, where)
    return model


def _single_file(
    file: Path, source: str, index: dict[str, Any], dtype: torch.dtype, revision: str | None
) -> torch.nn.Module:
    """The model's `transformer` with the weights of `file`, by the loader that its class has in diffusers."""
    if not file.is_file():
        raise BadInput(f"--transformer {file}: no such file; give a safetensors file of the transformer's weights")
    name = str(index.get("transformer", [None, None])[1])
    kind = getattr(diffusers, name, None)
    if not hasattr(kind, "from_single_file"):
        raise BadInput(f"--transformer: diffusers cannot load a {name} from a single file")
    try:
        return kind.from_single_file(  # pyright: ignore[reportOptionalMemberAccess]
            str(file), config=source, subfolder="transformer", torch_dtype=dtype, revision=revision
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise BadInput(f"--transformer {file}: {first_line(error)}") from error


def _tile(pipeline: Any) -> None:
    vae: Any = getattr(pipeline, "vae", None)
    if not hasattr(vae, "enable_tiling"):
        raise BadInput(f"--vae-tiling: the {type(vae).__name__} of {type(pipeline).__name__} has no tiles")
    vae.enable_tiling()


def _offload(pipeline: Any, kind: Offload, where: torch.device) -> None:
    if kind == "model":
        pipeline.enable_model_cpu_offload(device=where)
    elif kind == "sequential":
        pipeline.enable_sequential_cpu_offload(device=where)
    else:
        pipeline.enable_group_offload(onload_device=where, offload_type="block_level", num_blocks_per_group=1)


def name_of(pipeline: DiffusionPipeline) -> str:
    """What the records call a pipeline that was loaded elsewhere: its hub id, or its folder's name."""
    name = str(getattr(pipeline, "config", {}).get("_name_or_path") or "")
    if not name:
        return type(pipeline).__name__
    return Path(name).name if Path(name).exists() else name


@contextmanager
def _quiet() -> Iterator[None]:
    """No loading bars: a bundled model is there in a second."""
    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in (diffusers_logging, transformers_logging):
            library.enable_progress_bar()
