"""Tiny pipelines of LTX-2."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    FlowMatchEulerDiscreteScheduler,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

from tests import tiny
from tests.tiny_models import parts

LATENT = 8
SOUND = 2
"""Channels of the sound's latents."""
MEL = 8
"""Rows of a spectrogram."""


def _video_vae() -> AutoencoderKLLTX2Video:
    """Sixteen pixels and four frames a latent cell."""
    torch.manual_seed(1)
    model = AutoencoderKLLTX2Video(
        latent_channels=LATENT,
        block_out_channels=(8, 8),
        down_block_types=("LTX2VideoDownBlock3D",) * 2,
        decoder_block_out_channels=(8, 8),
        layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        spatio_temporal_scaling=(True, True),
        decoder_spatio_temporal_scaling=(True, True),
        decoder_inject_noise=(False, False, False),
        downsample_type=("spatiotemporal", "spatiotemporal"),
        upsample_type=("spatiotemporal", "spatiotemporal"),
        upsample_residual=(False, False),
        upsample_factor=(1, 1),
        decoder_causal=False,
    ).eval()
    model.latents_mean.copy_(torch.linspace(-0.3, 0.3, LATENT))
    model.latents_std.copy_(torch.linspace(0.5, 2.0, LATENT))
    return model


def _sound() -> dict[str, Any]:
    torch.manual_seed(2)
    vae = AutoencoderKLLTX2Audio(
        base_channels=4, ch_mult=(1,), num_res_blocks=1, resolution=32, latent_channels=SOUND, mel_bins=MEL
    )
    vocoder = LTX2Vocoder(
        in_channels=2 * MEL,
        hidden_channels=8,
        upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3, 5]],
    )
    return {"audio_vae": vae.eval(), "vocoder": vocoder.eval()}


def _connectors() -> LTX2TextConnectors:
    torch.manual_seed(3)
    heads = {
        f"{kind}_connector_{name}": value
        for kind in ("video", "audio")
        for name, value in {
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "num_layers": 1,
            "num_learnable_registers": None,
        }.items()
    }
    return LTX2TextConnectors(
        caption_channels=parts.TEXT, text_proj_in_factor=3, connector_rope_base_seq_len=32, **heads
    ).eval()


def pipeline(*, kind: type = LTX2Pipeline) -> Any:
    """Three blocks, width 32 beside sound of width 16."""
    torch.manual_seed(0)
    sound = _sound()
    mel = MEL // sound["audio_vae"].mel_compression_ratio
    denoiser = LTX2VideoTransformer3DModel(
        in_channels=LATENT,
        out_channels=LATENT,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        audio_in_channels=SOUND * mel,
        audio_out_channels=SOUND * mel,
        audio_num_attention_heads=2,
        audio_attention_head_dim=8,
        audio_cross_attention_dim=16,
        num_layers=3,
        caption_channels=parts.TEXT,
    ).eval()
    return kind(
        transformer=denoiser,
        vae=_video_vae(),
        text_encoder=parts.gemma3(),
        tokenizer=tiny.tokenizer(),
        connectors=_connectors(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        **sound,
    )
