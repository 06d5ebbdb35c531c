"""Tiny pipelines of the Wan families beside that of `tests.tiny`."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AnyFlowPipeline,
    AnyFlowTransformer3DModel,
    AutoencoderKLWan,
    ChronoEditPipeline,
    ChronoEditTransformer3DModel,
    FlowMapEulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeliosPipeline,
    HeliosScheduler,
    HeliosTransformer3DModel,
    LucyEditPipeline,
    SkyReelsV2DiffusionForcingImageToVideoPipeline,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2ImageToVideoPipeline,
    SkyReelsV2Pipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
    WanAnimatePipeline,
    WanAnimateTransformer3DModel,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)

from tests import tiny
from tests.tiny_models import parts

LATENT = 4
SHAPE: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "text_dim": parts.TEXT,
    "freq_dim": 16,
    "ffn_dim": 48,
    "num_layers": 3,
}


def vae() -> AutoencoderKLWan:
    """Eight pixels and four frames a latent cell, four channels, latents that are not normalised by 0 and 1."""
    torch.manual_seed(1)
    return AutoencoderKLWan(
        base_dim=4,
        z_dim=LATENT,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.5, 2.0, 1.0],
    ).eval()


def transformer(*, channels: int = LATENT, patch: tuple[int, int, int] = (1, 1, 1), seed: int = 0) -> Any:
    """A denoiser of three blocks and width 32."""
    torch.manual_seed(seed)
    return WanTransformer3DModel(in_channels=channels, out_channels=LATENT, patch_size=patch, **SHAPE).eval()


def _parts() -> dict[str, Any]:
    return {
        "tokenizer": tiny.tokenizer(),
        "text_encoder": parts.t5(multilingual=True),
        "vae": vae(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
    }


def text_to_video(*, experts: int = 1) -> WanPipeline:
    """In the manner of Wan2.1-T2V, or with two experts of Wan2.2."""
    two = {"transformer_2": transformer(seed=5), "boundary_ratio": 0.9} if experts == 2 else {}
    return WanPipeline(transformer=transformer(), **two, **_parts())


def expanded(*, image: bool) -> Any:
    """In the manner of Wan2.2-TI2V-5B: a timestep for each token, the picture held fixed in frame 0."""
    kind = WanImageToVideoPipeline if image else WanPipeline
    return kind(transformer=transformer(patch=(1, 2, 2)), expand_timesteps=True, **_parts())


def vace() -> WanVACEPipeline:
    """Control blocks on layers 0 and 2."""
    torch.manual_seed(0)
    denoiser = WanVACETransformer3DModel(
        in_channels=LATENT,
        out_channels=LATENT,
        patch_size=(1, 1, 1),
        vace_layers=[0, 2],
        vace_in_channels=2 * LATENT + 64,
        **SHAPE,
    ).eval()
    return WanVACEPipeline(transformer=denoiser, **_parts())


def animate() -> WanAnimatePipeline:
    """Face adapters after layers 0 and 2."""
    torch.manual_seed(0)
    denoiser = WanAnimateTransformer3DModel(
        patch_size=(1, 2, 2),
        in_channels=2 * LATENT + 4,
        latent_channels=LATENT,
        out_channels=LATENT,
        image_dim=4,
        motion_encoder_channel_sizes={"4": 16, "8": 16, "16": 16},
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=16,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=2,
        **{**SHAPE, "num_layers": 4},
    ).eval()
    return WanAnimatePipeline(
        transformer=denoiser, image_encoder=parts.clip_vision(), image_processor=parts.clip_pictures(), **_parts()
    )


def _seen() -> dict[str, Any]:
    return {"image_encoder": parts.clip_vision(), "image_processor": parts.clip_pictures()}


BESIDE: dict[str, Any] = {
    "in_channels": 2 * LATENT + 4,
    "out_channels": LATENT,
    "image_dim": 4,
    "added_kv_proj_dim": 32,
}
"""A transformer that is given a picture's latents and a mask beside the noise, and what an encoder saw of it."""


def skyreels_v2(*, image: bool) -> Any:
    """In the manner of SkyReels V2, without diffusion forcing."""
    torch.manual_seed(0)
    shape = {**SHAPE, "patch_size": (1, 1, 1)}
    if image:
        denoiser = SkyReelsV2Transformer3DModel(**shape, **BESIDE).eval()
        return SkyReelsV2ImageToVideoPipeline(transformer=denoiser, **_parts(), **_seen())
    denoiser = SkyReelsV2Transformer3DModel(in_channels=LATENT, out_channels=LATENT, **shape).eval()
    return SkyReelsV2Pipeline(transformer=denoiser, **_parts())


def skyreels_v2_forcing(*, image: bool) -> Any:
    """In the manner of SkyReels V2 with diffusion forcing, under the scheduler that it is released with."""
    torch.manual_seed(0)
    denoiser = SkyReelsV2Transformer3DModel(
        in_channels=LATENT, out_channels=LATENT, patch_size=(1, 1, 1), inject_sample_info=True, **SHAPE
    ).eval()
    kind = SkyReelsV2DiffusionForcingImageToVideoPipeline if image else SkyReelsV2DiffusionForcingPipeline
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0)
    return kind(transformer=denoiser, **{**_parts(), "scheduler": scheduler})


def chronoedit() -> ChronoEditPipeline:
    """Two latent frames, eight apart in position."""
    torch.manual_seed(0)
    denoiser = ChronoEditTransformer3DModel(patch_size=(1, 2, 2), **SHAPE, **BESIDE).eval()
    return ChronoEditPipeline(transformer=denoiser, **_parts(), **_seen())


def lucy_edit() -> LucyEditPipeline:
    """The video's latents beside the noise."""
    return LucyEditPipeline(transformer=transformer(channels=2 * LATENT), **_parts())


def anyflow() -> AnyFlowPipeline:
    """Under the scheduler of flow maps."""
    torch.manual_seed(0)
    denoiser = AnyFlowTransformer3DModel(in_channels=LATENT, out_channels=LATENT, **SHAPE).eval()
    return AnyFlowPipeline(transformer=denoiser, **{**_parts(), "scheduler": FlowMapEulerDiscreteScheduler(shift=5.0)})


def helios() -> HeliosPipeline:
    """One scheduler stage, as in the base model."""
    torch.manual_seed(0)
    denoiser = HeliosTransformer3DModel(in_channels=LATENT, out_channels=LATENT, rope_dim=(4, 6, 6), **SHAPE).eval()
    with parts.numpy_of_tensors():
        scheduler = HeliosScheduler(stages=1, stage_range=[0, 1], use_dynamic_shifting=True)
    return HeliosPipeline(transformer=denoiser, **{**_parts(), "scheduler": scheduler})
