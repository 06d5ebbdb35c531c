"""The parts of tinywan, built from a `ModelConfig`, and the folder that `from_pretrained` reads."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from torch import nn
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from training import lora
from training import tokenizer as tokens
from training.config import Config, ModelConfig

SETTINGS = "stepscope.json"
"""Sampler settings, beside `model_index.json`."""
MASK_CHANNELS = 4
"""First-frame mask beside the image condition, one channel for each video frame of a latent frame."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a `WanImageToVideoPipeline` is made of."""

    vae: AutoencoderKLWan
    text_encoder: UMT5EncoderModel
    transformer: WanTransformer3DModel
    tokenizer: PreTrainedTokenizerFast
    scheduler: FlowMatchEulerDiscreteScheduler

    def components(self) -> dict[str, Any]:
        """The parts by the names that the pipeline gives them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def vae(config: ModelConfig, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None):
    """The autoencoder: 8×8 pixels and 4 frames to a latent cell, the first frame alone; `latents_*` as given."""
    channels = 3 * config.vae_patch**2
    return AutoencoderKLWan(
        base_dim=config.vae_dim,
        decoder_base_dim=config.vae_decoder_dim,
        z_dim=config.latent_channels,
        dim_mult=list(config.vae_mult),
        num_res_blocks=1,
        temperal_downsample=[True] * (len(config.vae_mult) - 1),
        latents_mean=list(mean or [0.0] * config.latent_channels),
        latents_std=list(std or [1.0] * config.latent_channels),
        in_channels=channels,
        out_channels=channels,
        patch_size=config.vae_patch,
        scale_factor_temporal=4,
        scale_factor_spatial=8,
    )


def transformer(config: ModelConfig) -> WanTransformer3DModel:
    """The denoiser, which sees noisy latents, mask and image condition on its channels."""
    return WanTransformer3DModel(
        patch_size=(1, 1, 1),
        num_attention_heads=config.heads,
        attention_head_dim=config.head_dim,
        in_channels=2 * config.latent_channels + MASK_CHANNELS,
        out_channels=config.latent_channels,
        text_dim=config.text_dim,
        freq_dim=256,
        ffn_dim=config.ffn_dim,
        num_layers=config.layers,
        rope_max_seq_len=64,
    )


def text_encoder(config: ModelConfig) -> UMT5EncoderModel:
    """The prompt's encoder."""
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(tokens.vocabulary()),
            d_model=config.text_dim,
            d_kv=32,
            d_ff=2 * config.text_dim,
            num_layers=config.text_layers,
            num_heads=4,
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
            is_encoder_decoder=False,
            use_cache=False,
        )
    )


def build(config: ModelConfig, *, seed: int) -> Parts:
    """All parts with random weights from `seed`; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Parts(
            vae=vae(config),
            text_encoder=text_encoder(config),
            transformer=transformer(config),
            tokenizer=tokens.build(config.max_sequence_length),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=config.shift),
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
    WanImageToVideoPipeline(**stored.components()).save_pretrained(folder, safe_serialization=True)
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
