"""The parts of a model, built from a `ModelConfig`, and the folder that `from_pretrained` reads."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import WanImageToVideoPipeline
from torch import nn

from training import families, lora
from training import tokenizer as tokens
from training.config import Config, ModelConfig
from training.families import Parts

SETTINGS = "stepscope.json"
"""Sampler settings, beside `model_index.json`."""


def build(config: ModelConfig, *, seed: int) -> Parts:
    """All parts with random weights from `seed`; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        family = families.named(config)
        return Parts(
            vae=family.vae(config),
            text_encoder=family.text_encoder(config),
            transformer=family.transformer(config),
            tokenizer=tokens.build(config.max_sequence_length),
            scheduler=family.scheduler(config),
        )


def parameters(module: nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in module.parameters())


def export(parts: Parts, config: Config, *, guidance: float, weights: torch.dtype = torch.float16) -> Path:
    """Write the pipeline as a plain folder; weights of transformer and VAE are stored as `weights`.

    Returns:
        The folder; what was there is replaced.
    """
    folder = config.model_folder
    shutil.rmtree(folder, ignore_errors=True)
    halves = {name: copy.deepcopy(getattr(parts, name)).to(weights) for name in ("vae", "transformer")}
    stored = replace(parts, **halves)
    families.named(config.model).pipeline(**stored.components()).save_pretrained(folder, safe_serialization=True)
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "PreTrainedTokenizerFast"]  # the name that every version knows
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    defaults = {  # what `stepscope` samples with where nothing else is asked for
        "height": config.height,
        "width": config.width,
        "frames": config.frames,
        "steps": config.evaluation.steps,
        "guidance": guidance,
        "max_sequence_length": config.model.max_sequence_length,
    }
    (folder / SETTINGS).write_text(json.dumps(defaults, indent=2) + "\n")
    return folder


def export_vae(parts: Parts, config: Config, *, weights: torch.dtype = torch.float16) -> None:
    """Put the VAE into the exported folder, where all else stays: what a decoder was trained for further changes."""
    folder = config.model_folder / "vae"
    copy.deepcopy(parts.vae).to(weights).save_pretrained(folder, safe_serialization=True)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)


def settings(config: Config) -> dict[str, Any]:
    """Sampler settings of the exported folder."""
    return json.loads((config.model_folder / SETTINGS).read_text())


def set_guidance(config: Config, guidance: float) -> None:
    """Change the guidance that the exported folder is sampled with."""
    changed = settings(config) | {"guidance": guidance}
    (config.model_folder / SETTINGS).write_text(json.dumps(changed, indent=2) + "\n")


def two_experts(folder: Path, *, pipeline: type[WanImageToVideoPipeline] = WanImageToVideoPipeline) -> Any:
    """The two-expert variant of the exported `folder`, in float32, with its LoRAs added to the weights.

    Returns:
        A `pipeline` whose `transformer` makes the steps of high noise and whose `transformer_2` makes the others.
    """
    single = pipeline.from_pretrained(folder)
    ratio = json.loads((folder / "experts" / SETTINGS).read_text())["boundary_ratio"]
    parts = {name: part for name, part in single.components.items() if part is not None}
    parts["transformer_2"] = copy.deepcopy(single.transformer)
    pipe = pipeline(**parts, boundary_ratio=ratio)
    for name, component in (("high", "transformer"), ("low", "transformer_2")):
        lora.fuse(pipe, folder / "experts" / f"{name}.safetensors", component=component)
    return pipe
