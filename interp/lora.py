"""LoRAs on a loaded pipeline, through its own loader, and how they are named in a run's record."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from interp.errors import BadInput, first_line
from store.records import Adapter

SECOND = "transformer_2"


class Lora(NamedTuple):
    """One LoRA to apply."""

    source: str
    """A safetensors file, a folder that holds one, or a hub id."""
    component: str = "transformer"
    """Which denoiser it changes: `transformer` or `transformer_2`."""
    scale: float = 1.0
    """Strength."""

    @classmethod
    def parse(cls, text: str) -> Lora:
        """From `SOURCE`, `SOURCE*0.8`, `transformer_2=SOURCE` or `transformer_2=SOURCE*0.8`.

        Raises:
            BadInput: if the strength is not a number.
        """
        component, found, rest = text.partition("=")
        if not found or component not in ("transformer", SECOND):
            component, rest = "transformer", text
        source, found, scale = rest.rpartition("*")
        if not found:
            return cls(rest, component)
        try:
            return cls(source, component, float(scale))
        except ValueError:
            raise BadInput(f"--lora {text!r}: {scale!r} is no strength; write SOURCE or SOURCE*0.8") from None

    def resolved(self) -> Lora:
        """The same for a process in another folder."""
        path = Path(self.source)
        return self._replace(source=str(path.resolve())) if path.exists() else self


def apply(pipeline: Any, loras: list[Lora], *, names: list[str] | None = None) -> tuple[Adapter, ...]:
    """Apply `loras` in order; they stay unfused, so that the pipeline's own weights are as they were.

    Args:
        pipeline: A diffusers pipeline with a LoRA loader.
        loras: What to apply.
        names: What the records call them; the sources' last parts where not given.

    Returns:
        Their records, with the SHA-256 of the LoRA's weights.

    Raises:
        BadInput: if the pipeline takes none, has no such denoiser, or a LoRA does not load or fit.
    """
    if not loras:
        return ()
    if not hasattr(pipeline, "load_lora_weights"):
        raise BadInput(f"{type(pipeline).__name__} has no loader for LoRAs; fuse the weights into a checkpoint instead")
    records: list[Adapter] = []
    placed: dict[str, tuple[list[str], list[float]]] = {}
    for number, lora in enumerate(loras):
        module = getattr(pipeline, lora.component, None)
        if module is None:
            raise BadInput(f"{type(pipeline).__name__} has no {lora.component} for the LoRA {lora.source}")
        name = f"lora_{number}"
        _load(pipeline, lora, name)
        keys, scales = placed.setdefault(lora.component, ([], []))
        keys.append(name)
        scales.append(lora.scale)
        shown = names[number] if names else Path(lora.source).name if Path(lora.source).exists() else lora.source
        record = Adapter(path=shown, weight_hash=_hash(module, name), scale=lora.scale, component=lora.component)
        records.append(record)
    for component, (keys, scales) in placed.items():
        getattr(pipeline, component).set_adapters(keys, scales)
    return tuple(records)


def own_weights(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A module's weights without what LoRAs added, under the names that they had before."""
    return {key.replace(".base_layer.", "."): value for key, value in state.items() if ".lora_" not in key}


def as_diffusers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A LoRA's weights under names that a pipeline's loader knows.

    DiffSynth-Studio, with which Wan is tuned, writes `blocks.0.self_attn.q.lora_A.default.weight`: Wan's own names
    without the prefix by which diffusers tells them. All others are left as they are.

    Example:
        >>> list(as_diffusers({"blocks.0.ffn.0.lora_B.default.weight": torch.zeros(4, 1)}))
        ['diffusion_model.blocks.0.ffn.0.lora_B.weight']
    """
    if not all(key.startswith("blocks.") and ".lora_" in key for key in state):
        return state
    return {"diffusion_model." + key.replace(".default.weight", ".weight"): value for key, value in state.items()}


def _source(lora: Lora) -> tuple[Any, dict[str, Any]]:
    """What a pipeline's loader is given for a LoRA, and the name of its file where it needs one."""
    path = Path(lora.source)
    if not path.is_file():
        return lora.source, {}
    state = load_file(path) if path.suffix == ".safetensors" else {}
    renamed = as_diffusers(state)
    return (str(path.parent), {"weight_name": path.name}) if renamed is state else (renamed, {})


def _load(pipeline: Any, lora: Lora, name: str) -> None:
    options: dict[str, Any] = {"load_into_transformer_2": True} if lora.component == SECOND else {}
    try:
        source, file = _source(lora)
        options |= file
        pipeline.load_lora_weights(source, adapter_name=name, **options)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        raise BadInput(f"cannot apply the LoRA {lora.source} to {lora.component}: {first_line(error)}") from error
    if name not in getattr(getattr(pipeline, lora.component), "peft_config", {}):
        raise BadInput(f"the LoRA {lora.source} has no weights for {lora.component} of {type(pipeline).__name__}")


def _hash(module: torch.nn.Module, name: str) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of the LoRA `name` in `module`."""
    sha = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        if ".lora_" in key and f".{name}." in key:
            sha.update(f"{key.replace(f'.{name}.', '.')} {value.dtype} {tuple(value.shape)}\n".encode())
            sha.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
