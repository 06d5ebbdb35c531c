"""A tiny pipeline of Allegro."""

from __future__ import annotations

import torch
from diffusers import (
    AllegroPipeline,
    AllegroTransformer3DModel,
    AutoencoderKLAllegro,
    EulerAncestralDiscreteScheduler,
)

from tests import tiny
from tests.tiny_models import parts

LATENT = 4


def pipeline() -> AllegroPipeline:
    """Three blocks, width 48, tiles of 24 frames of 128×128 pixels."""
    torch.manual_seed(0)
    denoiser = AllegroTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        num_layers=3,
        cross_attention_dim=48,
        sample_height=16,
        sample_width=16,
        sample_frames=6,
        caption_channels=parts.TEXT,
    ).eval()
    torch.manual_seed(1)
    vae = AutoencoderKLAllegro(
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2, sample_size=128
    ).eval()
    with parts.numpy_of_tensors():
        scheduler = EulerAncestralDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing"
        )
    return AllegroPipeline(
        transformer=denoiser,
        vae=vae,
        text_encoder=parts.t5(),
        tokenizer=tiny.tokenizer(),
        scheduler=scheduler,
    )
