"""Tiny Wan pipelines with random weights: the real classes, built in a second, for tests of labels and bits."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from interp.memory import keep_pages
from store.records import Sample, SampleRecord

keep_pages()  # as for a model that is loaded by name: a third of the time of these pipelines went into new pages

LATENT = 4
WIDTH = 32


def transformer(
    *, layers: int = 3, seed: int = 0, patch_size: tuple[int, int, int] = (1, 1, 1)
) -> WanTransformer3DModel:
    """A denoiser of `layers` blocks and width 32, with random weights."""
    torch.manual_seed(seed)
    model = WanTransformer3DModel(
        patch_size=patch_size,
        num_attention_heads=2,
        attention_head_dim=WIDTH // 2,
        in_channels=2 * LATENT + 4,
        out_channels=LATENT,
        text_dim=16,
        freq_dim=16,
        ffn_dim=48,
        num_layers=layers,
    )
    return model.eval()


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a letter."""
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {c: i + 3 for i, c in enumerate(string.ascii_lowercase)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def pipeline(
    *, layers: int = 3, experts: int = 1, boundary_ratio: float = 0.9, patch_size: tuple[int, int, int] = (1, 1, 1)
) -> WanImageToVideoPipeline:
    """An image-to-video pipeline in the manner of Wan2.1 (one expert) or Wan2.2-A14B (two)."""
    torch.manual_seed(1)
    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=LATENT,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.5, 2.0, 1.0],
    ).eval()
    text = UMT5EncoderModel(UMT5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)).eval()
    two = experts == 2
    pipe = WanImageToVideoPipeline(
        tokenizer=tokenizer(),
        text_encoder=text,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=transformer(layers=layers, patch_size=patch_size),
        transformer_2=transformer(layers=layers, patch_size=patch_size, seed=5) if two else None,
        boundary_ratio=boundary_ratio if two else None,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


SIZE: dict[str, Any] = {"height": 32, "width": 48, "frames": 9, "max_sequence_length": 8}
"""Four by six cells, three latent frames."""


def sample(*, seed: int = 0, prompt: str = "walk") -> Sample:
    """A picture of noise with a prompt."""
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    return Sample(SampleRecord(family="custom", prompt=prompt), first_frame=pixels)
