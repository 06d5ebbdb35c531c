"""Tiny pipelines of EasyAnimate."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLMagvit,
    EasyAnimatePipeline,
    EasyAnimateTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
)

from tests.tiny_models import parts

LATENT = 4


def pipeline(*, kind: type = EasyAnimatePipeline, beside: int = 0, two_streams: int = 2) -> Any:
    """Three blocks, width 32, `beside` channels beside the noise."""
    torch.manual_seed(0)
    denoiser = EasyAnimateTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=LATENT + beside,
        out_channels=LATENT,
        patch_size=2,
        num_layers=3,
        mmdit_layers=two_streams,
        time_embed_dim=16,
        text_embed_dim=parts.TEXT,
    ).eval()
    torch.manual_seed(1)
    vae = AutoencoderKLMagvit(
        latent_channels=LATENT, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    ).eval()
    vae.register_to_config(cache_mag_vae=True)  # as in the released configurations
    return kind(
        transformer=denoiser,
        vae=vae,
        text_encoder=parts.qwen2_vl(),
        tokenizer=parts.message_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )
