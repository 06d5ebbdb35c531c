"""Tiny pipelines of Motif-Video."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    ClassifierFreeGuidance,
    FlowMatchEulerDiscreteScheduler,
    MotifVideoImage2VideoPipeline,
    MotifVideoPipeline,
    MotifVideoTransformer3DModel,
)

from tests import tiny
from tests.tiny_models import parts, wan

LATENT = wan.LATENT


def pipeline(*, image: bool = False) -> Any:
    """Two blocks of two streams, two of one, the last of them a decoder; width 32."""
    torch.manual_seed(0)
    denoiser = MotifVideoTransformer3DModel(
        in_channels=2 * LATENT + 1,
        out_channels=LATENT,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        num_single_layers=2,
        num_decoder_layers=1,
        mlp_ratio=2.0,
        text_embed_dim=parts.TEXT,
        image_embed_dim=parts.SEEN if image else None,
        rope_axes_dim=(4, 6, 6),
        enable_text_cross_attention_single=True,
    ).eval()
    return (MotifVideoImage2VideoPipeline if image else MotifVideoPipeline)(
        transformer=denoiser,
        vae=wan.vae(),
        text_encoder=parts.t5gemma2(),
        tokenizer=tiny.tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        guider=ClassifierFreeGuidance(guidance_scale=3.0),
        feature_extractor=parts.siglip_pictures() if image else None,
    )
