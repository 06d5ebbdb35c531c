"""Tiny pipelines of Cosmos."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLCosmos,
    Cosmos2_5_PredictBasePipeline,
    Cosmos2VideoToWorldPipeline,
    Cosmos3OmniPipeline,
    Cosmos3OmniTransformer,
    CosmosTextToWorldPipeline,
    CosmosTransformer3DModel,
    CosmosVideoToWorldPipeline,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from tests import tiny
from tests.tiny_models import parts, wan

LATENT = wan.LATENT


class Checker(torch.nn.Module):
    """A safety checker that paints the first row of every frame black, so that a test sees that it was asked."""

    device = torch.device("cpu")
    dtype = torch.float32

    def check_text_safety(self, prompt: str) -> bool:
        """Every prompt is safe."""
        return True

    def check_video_safety(self, frames: np.ndarray) -> np.ndarray:
        """The frames `[f, y, x, 3]` with a black row."""
        checked = frames.copy()
        checked[:, 0] = 0
        return checked


def transformer(**options: Any) -> CosmosTransformer3DModel:
    """Three blocks, width 32, without the padding mask, which needs torchvision."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 3,
        "mlp_ratio": 2.0,
        "text_embed_dim": parts.TEXT,
        "adaln_lora_dim": 4,
        "max_size": (8, 32, 32),
        "concat_padding_mask": False,
        "extra_pos_embed_type": None,
    }
    return CosmosTransformer3DModel(**{**shape, **options}).eval()


def cosmos2(*, padding: bool = False) -> Cosmos2VideoToWorldPipeline:
    """As released, but for `padding`."""
    return Cosmos2VideoToWorldPipeline(
        transformer=transformer(in_channels=LATENT + 1, out_channels=LATENT, concat_padding_mask=padding),
        vae=wan.vae(),
        text_encoder=parts.t5(),
        tokenizer=tiny.tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True),
        safety_checker=Checker(),
    )


def cosmos2_5() -> Cosmos2_5_PredictBasePipeline:
    """As released, with a text encoder of two layers."""
    encoder = parts.qwen_text()
    return Cosmos2_5_PredictBasePipeline(
        transformer=transformer(
            in_channels=LATENT + 1,
            out_channels=LATENT,
            use_crossattn_projection=True,
            crossattn_proj_in_channels=parts.TEXT * encoder.config.num_hidden_layers,
            encoder_hidden_states_channels=parts.TEXT,
        ),
        vae=wan.vae(),
        text_encoder=encoder,
        tokenizer=parts.message_tokenizer(),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0),
        safety_checker=Checker(),
    )


FRAMES = 3
"""Latent frames that the VAE knows mean and spread of."""


def vae() -> AutoencoderKLCosmos:
    """Eight pixels and four frames a latent cell."""
    torch.manual_seed(1)
    return AutoencoderKLCosmos(
        encoder_block_out_channels=(8, 8, 8, 8),
        decode_block_out_channels=(8, 8, 8, 8),
        attention_resolutions=(8,),
        resolution=64,
        num_layers=1,
        latent_channels=LATENT,
        temporal_compression_ratio=4,
        latents_mean=torch.linspace(-0.3, 0.3, LATENT * FRAMES).tolist(),
        latents_std=torch.linspace(0.5, 2.0, LATENT * FRAMES).tolist(),
    ).eval()


def cosmos(*, video: bool = False) -> Any:
    """With learnt positions, as released."""
    return (CosmosVideoToWorldPipeline if video else CosmosTextToWorldPipeline)(
        transformer=transformer(in_channels=LATENT + video, out_channels=LATENT, extra_pos_embed_type="learnable"),
        vae=vae(),
        text_encoder=parts.t5(),
        tokenizer=tiny.tokenizer(),
        scheduler=EDMEulerScheduler(sigma_max=80.0, sigma_min=0.002, sigma_data=0.5, final_sigmas_type="sigma_min"),
        safety_checker=Checker(),
    )


def cosmos3(*, heads: int = 4) -> Cosmos3OmniPipeline:
    """Heads that share keys and values; not without a system message, as released."""
    torch.manual_seed(0)
    denoiser = Cosmos3OmniTransformer(
        head_dim=8,
        hidden_size=32,
        intermediate_size=48,
        latent_channel=LATENT,
        patch_latent_dim=4 * LATENT,
        num_attention_heads=heads,
        num_hidden_layers=3,
        num_key_value_heads=heads // 2,
        vocab_size=48,
        rope_axes_dim=(2, 1, 1),
    ).eval()
    return Cosmos3OmniPipeline(
        transformer=denoiser,
        text_tokenizer=parts.message_tokenizer(),
        vae=wan.vae(),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0),
        safety_checker=Checker(),
    )
