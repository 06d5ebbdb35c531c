"""Tiny pipelines of CogVideoX."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)

from tests import tiny
from tests.tiny_models import parts

LATENT = 4


def vae() -> AutoencoderKLCogVideoX:
    """Eight pixels and four frames a latent cell."""
    torch.manual_seed(1)
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=LATENT,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    ).eval()


def transformer(*, channels: int = LATENT, deep: int | None = None, rotary: bool = True) -> CogVideoXTransformer3DModel:
    """Three blocks, width 32, patches of `deep`×2×2 cells."""
    torch.manual_seed(0)
    return CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=channels,
        out_channels=LATENT,
        time_embed_dim=8,
        text_embed_dim=parts.TEXT,
        num_layers=3,
        sample_width=12,
        sample_height=8,
        sample_frames=9,
        patch_size=2,
        patch_size_t=deep,
        patch_bias=deep is None,
        max_text_seq_length=8,
        use_rotary_positional_embeddings=rotary,
    ).eval()


def pipeline(*, image: bool = False, deep: int | None = None, rotary: bool = True, scheduler: Any = None) -> Any:
    """In the manner of CogVideoX-2b (`rotary=False`), 5b, or 1.5 (`deep=2`)."""
    kind = CogVideoXImageToVideoPipeline if image else CogVideoXPipeline
    return kind(
        transformer=transformer(channels=2 * LATENT if image else LATENT, deep=deep, rotary=rotary),
        vae=vae(),
        text_encoder=parts.t5(),
        tokenizer=tiny.tokenizer(),
        scheduler=(scheduler or CogVideoXDDIMScheduler)(
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            snr_shift_scale=1.0,
        ),
    )
