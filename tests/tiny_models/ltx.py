"""Tiny pipelines of LTX-Video."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)

from tests import tiny
from tests.tiny_models import parts

LATENT = 8


def vae(*, timestep_conditioning: bool = False) -> AutoencoderKLLTXVideo:
    """Sixteen pixels and four frames a latent cell."""
    torch.manual_seed(1)
    model = AutoencoderKLLTXVideo(
        latent_channels=LATENT,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False, False, False, False, False),
        upsample_residual=(False, False, False, False),
        upsample_factor=(1, 1, 1, 1),
        timestep_conditioning=timestep_conditioning,
        patch_size=4,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    ).eval()
    model.latents_mean.copy_(torch.linspace(-0.3, 0.3, LATENT))
    model.latents_std.copy_(torch.linspace(0.5, 2.0, LATENT))
    return model


def pipeline(*, kind: type = LTXPipeline, timestep_conditioning: bool = False) -> Any:
    """Three blocks, width 32."""
    torch.manual_seed(0)
    denoiser = LTXVideoTransformer3DModel(
        in_channels=LATENT,
        out_channels=LATENT,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        num_layers=3,
        caption_channels=parts.TEXT,
    ).eval()
    return kind(
        transformer=denoiser,
        vae=vae(timestep_conditioning=timestep_conditioning),
        text_encoder=parts.t5(),
        tokenizer=tiny.tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )
