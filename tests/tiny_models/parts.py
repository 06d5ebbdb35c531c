"""What tiny pipelines of all families are put together from: tokenizers, text encoders, picture encoders."""

from __future__ import annotations

import string
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaConfig,
    LlamaModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLTextModel,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
    T5Gemma2Encoder,
    T5Gemma2EncoderConfig,
    UMT5Config,
    UMT5EncoderModel,
)

from tests import tiny


@contextmanager
def numpy_of_tensors() -> Iterator[None]:
    """For schedulers that give NumPy a tensor, which warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"__array(_wrap)?__ ", DeprecationWarning)
        yield


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
    return CLIPVisionModelWithProjection(clip_vision_config(width=width, layers=layers)).eval()


def clip_vision_config(*, width: int = 4, layers: int = 2, size: int = 4) -> CLIPVisionConfig:
    """Of a picture encoder with one token a pixel."""
    return CLIPVisionConfig(
        hidden_size=width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        image_size=size,
        intermediate_size=16,
        patch_size=1,
    )


def clip_pictures(*, size: int = 4) -> CLIPImageProcessor:
    """The processor of `clip_vision`."""
    return CLIPImageProcessor(crop_size=size, size=size)


SEEN = 8
"""Width of what SigLIP gives."""


def siglip_config() -> SiglipVisionConfig:
    """Of a picture encoder for 4×4 pixels."""
    return SiglipVisionConfig(
        hidden_size=SEEN,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=4,
        patch_size=2,
    )


def siglip(*, seed: int = 0) -> SiglipVisionModel:
    """A picture encoder for 4×4 pixels."""
    torch.manual_seed(seed)
    return SiglipVisionModel(siglip_config()).eval()


def siglip_pictures() -> SiglipImageProcessor:
    """The processor of `siglip`."""
    return SiglipImageProcessor(size={"height": 4, "width": 4})


def _llama() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=48,
        hidden_size=TEXT,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=1,
    )


def llama(*, seed: int = 0) -> LlamaModel:
    """A Llama text encoder of three layers."""
    torch.manual_seed(seed)
    return LlamaModel(_llama()).eval()


CHAT = ("<s>", "<image>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "system", "\n\n")
"""What the tokenizer of a chat model has as one token, beside letters."""


def chat_tokenizer() -> PreTrainedTokenizerFast:
    """One token a letter and one for each of `CHAT`, behind a token that begins the text."""
    names = ("<pad>", "</s>", "<unk>", *string.ascii_lowercase, *CHAT)
    inner = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"system|\n\n|(?m:.)"), "isolated")
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", names.index("<s>"))])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(CHAT[:5]),
    )


def llava(*, seed: int = 0) -> LlavaForConditionalGeneration:
    """A Llama that sees a picture of 24×24 pixels as 576 tokens."""
    torch.manual_seed(seed)
    vision = clip_vision_config(size=24, layers=2)
    config = LlavaConfig(
        vision_config=vision,
        text_config=_llama(),
        image_token_index=chat_tokenizer().convert_tokens_to_ids("<image>"),
        pad_token_id=0,
        image_seq_length=576,
    )
    return LlavaForConditionalGeneration(config).eval()


def qwen_text(*, seed: int = 0) -> Qwen2_5_VLTextModel:
    """The text half of Qwen 2.5 VL, three layers."""
    torch.manual_seed(seed)
    config = Qwen2_5_VLTextConfig(
        vocab_size=48,
        hidden_size=TEXT,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=1,
    )
    return Qwen2_5_VLTextModel(config).eval()


def qwen2_vl(*, seed: int = 0) -> Qwen2VLForConditionalGeneration:
    """Qwen 2 VL, three layers of text and one of pictures."""
    torch.manual_seed(seed)
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": 48,
            "hidden_size": TEXT,
            "intermediate_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
            "pad_token_id": 0,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
        vision_config={"depth": 1, "embed_dim": 16, "hidden_size": TEXT, "num_heads": 2, "mlp_ratio": 2},
        image_token_id=40,
        video_token_id=41,
        vision_start_token_id=42,
        vision_end_token_id=43,
    )
    return Qwen2VLForConditionalGeneration(config).eval()


def gemma3(*, seed: int = 0) -> Gemma3ForConditionalGeneration:
    """Gemma 3, two layers of text and one of pictures."""
    torch.manual_seed(seed)
    config = Gemma3Config(
        text_config={
            "vocab_size": 48,
            "hidden_size": TEXT,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 2048,
            "pad_token_id": 0,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
        vision_config={
            "hidden_size": TEXT,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 8,
            "patch_size": 4,
        },
        mm_tokens_per_image=4,
        boi_token_index=40,
        eoi_token_index=41,
        image_token_index=42,
    )
    return Gemma3ForConditionalGeneration(config).eval()


def t5gemma2(*, seed: int = 0) -> T5Gemma2Encoder:
    """An encoder of T5Gemma 2, two layers of text and one of pictures of 4×4 pixels."""
    torch.manual_seed(seed)
    config = T5Gemma2EncoderConfig(
        text_config={
            "vocab_size": 48,
            "hidden_size": TEXT,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "dropout_rate": 0.0,
            "pad_token_id": 0,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
        vision_config=siglip_config().to_dict(),
        mm_tokens_per_image=4,
        image_token_index=42,
    )
    return T5Gemma2Encoder(config).eval()


def message_tokenizer() -> PreTrainedTokenizerFast:
    """One token a letter; a chat is the messages one behind the other."""
    tokenizer = tiny.tokenizer()
    content = "message['content'] if message['content'] is string else message['content'][0]['text']"
    tokenizer.chat_template = f"{{% for message in messages %}}{{{{ {content} }}}} {{% endfor %}}"
    return tokenizer
