"""A tiny pipeline of Kandinsky 6."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    Kandinsky6TI2VAPipeline,
    Kandinsky6Transformer3DModel,
    MMAudioVAE,
    MMAudioVocoder,
)
from transformers import PreTrainedTokenizerFast

from tests import tiny
from tests.tiny_models import hunyuan_video, parts

LATENT = hunyuan_video.LATENT
SOUND = 3
"""Channels of the sound's latents."""
MEL = 8
"""Rows of a spectrogram."""


class Processor(PreTrainedTokenizerFast):
    """A tokenizer that is called as a processor of text and pictures, without pictures."""

    def __call__(self, *args: Any, images: None = None, videos: None = None, **options: Any) -> Any:
        """Tokens of the text."""
        return super().__call__(*args, **options)


def _sound() -> dict[str, Any]:
    torch.manual_seed(2)
    vae = MMAudioVAE(
        mel_bins=MEL,
        latent_channels=SOUND,
        hidden_channels=8,
        channel_multipliers=(1, 1, 1),
        layers_per_block=1,
        sample_rate=1000,
        n_fft=64,
        hop_length=16,
    )
    vocoder = MMAudioVocoder(
        num_mels=MEL,
        upsample_initial_channel=8,
        upsample_rates=(4, 4),
        upsample_kernel_sizes=(8, 8),
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1, 3, 5),),
    )
    return {"audio_vae": vae.eval(), "vocoder": vocoder.eval()}


def pipeline(*, image: bool = True, sound: bool = True) -> Kandinsky6TI2VAPipeline:
    """Three blocks, width 32 beside sound of width 16; with the options of the released weights."""
    torch.manual_seed(0)
    denoiser = Kandinsky6Transformer3DModel(
        in_visual_dim=LATENT,
        out_visual_dim=LATENT,
        in_text_dim=parts.TEXT,
        in_text_dim2=parts.TEXT,
        time_dim=16,
        model_dim=32,
        ff_dim=48,
        num_text_blocks=1,
        num_visual_blocks=3,
        axes_dims=(4, 6, 6),
        in_audio_dim=SOUND,
        out_audio_dim=SOUND,
        model_dim_a=16,
        ff_dim_a=32,
        axes_dims_a=(4, 6, 6),
        text_token_padding=True,
        visual_token_type_num_embeddings=2 if image else 0,
    ).eval()
    return Kandinsky6TI2VAPipeline(
        transformer=denoiser,
        vae=hunyuan_video.vae(),
        text_encoder=parts.qwen_text(),
        tokenizer=Processor(tokenizer_object=tiny.tokenizer().backend_tokenizer, pad_token="<pad>"),
        text_encoder_2=parts.clip_text(),
        tokenizer_2=tiny.tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        **(_sound() if sound else {}),
    )
