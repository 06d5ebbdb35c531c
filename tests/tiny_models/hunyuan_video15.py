"""Tiny pipelines of HunyuanVideo 1.5."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo15,
    ClassifierFreeGuidance,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
)

from tests import tiny
from tests.tiny_models import parts

LATENT = 4


def vae() -> AutoencoderKLHunyuanVideo15:
    """Sixteen pixels and four frames a latent cell."""
    torch.manual_seed(1)
    return AutoencoderKLHunyuanVideo15(
        latent_channels=LATENT,
        block_out_channels=(8, 8, 16, 16, 16),
        layers_per_block=1,
        spatial_compression_ratio=16,
        temporal_compression_ratio=4,
    ).eval()


def transformer() -> HunyuanVideo15Transformer3DModel:
    """Three blocks, width 32."""
    torch.manual_seed(0)
    return HunyuanVideo15Transformer3DModel(
        in_channels=2 * LATENT + 1,
        out_channels=LATENT,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=3,
        num_refiner_layers=1,
        text_embed_dim=parts.TEXT,
        text_embed_2_dim=parts.TEXT,
        image_embed_dim=parts.SEEN,
        rope_axes_dim=(4, 6, 6),
        target_size=64,
    ).eval()


def pipeline(*, image: bool = False) -> Any:
    """With a short message before the prompt."""
    more = {"image_encoder": parts.siglip(), "feature_extractor": parts.siglip_pictures()} if image else {}
    pipe: Any = (HunyuanVideo15ImageToVideoPipeline if image else HunyuanVideo15Pipeline)(
        transformer=transformer(),
        vae=vae(),
        text_encoder=parts.qwen_text(),
        tokenizer=parts.message_tokenizer(),
        text_encoder_2=parts.t5(),
        tokenizer_2=tiny.tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        guider=ClassifierFreeGuidance(guidance_scale=3.0),
        **more,
    )
    pipe.system_message = "describe"
    pipe.prompt_template_encode_start_idx = 10
    pipe.tokenizer_max_length = 24
    pipe.tokenizer_2_max_length = 8
    pipe.vision_num_semantic_tokens = 4
    return pipe
