"""Tiny pipelines of HunyuanVideo and of SkyReels V1."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanSkyreelsImageToVideoPipeline,
    HunyuanVideoFramepackPipeline,
    HunyuanVideoFramepackTransformer3DModel,
    HunyuanVideoImageToVideoPipeline,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)

from tests import tiny
from tests.tiny_models import parts

LATENT = 4


def vae() -> AutoencoderKLHunyuanVideo:
    """Eight pixels and four frames a latent cell."""
    torch.manual_seed(1)
    return AutoencoderKLHunyuanVideo(
        latent_channels=LATENT,
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        norm_num_groups=2,
        mid_block_add_attention=False,
        spatial_compression_ratio=8,
        temporal_compression_ratio=4,
    ).eval()


def transformer(
    *, kind: type = HunyuanVideoTransformer3DModel, channels: int = LATENT, guidance: bool = True, **options: Any
) -> Any:
    """Two blocks of two streams and two of one, width 32, patches of 1×2×2 cells."""
    torch.manual_seed(0)
    return kind(
        in_channels=channels,
        out_channels=LATENT,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=1,
        guidance_embeds=guidance,
        text_embed_dim=parts.TEXT,
        pooled_projection_dim=parts.TEXT,
        rope_axes_dim=(4, 6, 6),
        **options,
    ).eval()


def _parts() -> dict[str, Any]:
    return {
        "text_encoder": parts.llama(),
        "tokenizer": tiny.tokenizer(),
        "text_encoder_2": parts.clip_text(),
        "tokenizer_2": tiny.tokenizer(),
        "vae": vae(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=7.0),
    }


def text_to_video(*, guidance: bool = True) -> HunyuanVideoPipeline:
    """The guidance scale an input of the transformer, or not."""
    return HunyuanVideoPipeline(transformer=transformer(guidance=guidance), **_parts())


def skyreels() -> HunyuanSkyreelsImageToVideoPipeline:
    """The picture's latents beside the noise."""
    return HunyuanSkyreelsImageToVideoPipeline(transformer=transformer(channels=2 * LATENT), **_parts())


def image_to_video(*, condition: str) -> HunyuanVideoImageToVideoPipeline:
    """The picture in latent frame 0 (`token_replace`), or beside the noise (`latent_concat`)."""
    replaced = condition == "token_replace"
    channels = LATENT if replaced else 2 * LATENT + 1
    return HunyuanVideoImageToVideoPipeline(
        transformer=transformer(channels=channels, guidance=replaced, image_condition_type=condition),
        image_processor=parts.clip_pictures(size=24),
        **{**_parts(), "text_encoder": parts.llava(), "tokenizer": parts.chat_tokenizer()},
    )


def framepack() -> HunyuanVideoFramepackPipeline:
    """With the history before the noise, and what an encoder saw of the picture among the text."""
    denoiser = transformer(
        kind=HunyuanVideoFramepackTransformer3DModel,
        has_image_proj=True,
        image_proj_dim=parts.SEEN,
        has_clean_x_embedder=True,
    )
    return HunyuanVideoFramepackPipeline(
        transformer=denoiser,
        image_encoder=parts.siglip(),
        feature_extractor=parts.siglip_pictures(),
        **_parts(),
    )
