"""What tiny pipelines of all families are put together from: tokenizers, text encoders, picture encoders."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

TEXT = 16
"""Width of the text encoders."""


def t5(*, seed: int = 0, multilingual: bool = False) -> Any:
    """A T5 encoder, one layer, width `TEXT`."""
    torch.manual_seed(seed)
    sizes = {"vocab_size": 32, "d_model": TEXT, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    return UMT5EncoderModel(UMT5Config(**sizes)).eval() if multilingual else T5EncoderModel(T5Config(**sizes)).eval()


def clip_text(*, seed: int = 0, width: int = TEXT) -> CLIPTextModel:
    """A CLIP text encoder, one layer."""
    torch.manual_seed(seed)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=32,
            hidden_size=width,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=77,
            projection_dim=width,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=0,
        )
    ).eval()


def clip_vision(*, seed: int = 0, width: int = 4, layers: int = 2) -> CLIPVisionModelWithProjection:
    """A CLIP picture encoder for 4×4 pixels."""
    torch.manual_seed(seed)
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=width,
            projection_dim=width,
            num_hidden_layers=layers,
            num_attention_heads=2,
            image_size=4,
            intermediate_size=16,
            patch_size=1,
        )
    ).eval()


def clip_pictures() -> CLIPImageProcessor:
    """The processor of `clip_vision`."""
    return CLIPImageProcessor(crop_size=4, size=4)
