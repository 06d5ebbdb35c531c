"""Tiny pipelines of families with one or two classes: Kandinsky 5, Latte, Mochi, Sana-Video."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLMochi,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    Kandinsky5I2VPipeline,
    Kandinsky5T2VPipeline,
    Kandinsky5Transformer3DModel,
    LattePipeline,
    LatteTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
    SanaImageToVideoPipeline,
    SanaVideoPipeline,
    SanaVideoTransformer3DModel,
)
from transformers import Gemma2Config, Gemma2Model

from tests import tiny
from tests.tiny_models import hunyuan_video, parts, wan

LATENT = 4


def kandinsky5(*, image: bool = False, attention: str = "regular") -> Any:
    """Three blocks, width 32, the picture and its mask beside the noise."""
    torch.manual_seed(0)
    denoiser = Kandinsky5Transformer3DModel(
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
        visual_cond=True,
        attention_type=attention,
    ).eval()
    for weight in denoiser.parameters():
        if not weight.any():  # modulation begins at zero, where the prompt has no effect
            torch.nn.init.normal_(weight, std=0.1)
    pipe: Any = (Kandinsky5I2VPipeline if image else Kandinsky5T2VPipeline)(
        transformer=denoiser,
        vae=hunyuan_video.vae(),
        text_encoder=parts.qwen_text(),
        tokenizer=tiny.tokenizer(),
        text_encoder_2=parts.clip_text(),
        tokenizer_2=tiny.tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
    )
    pipe.prompt_template = "describe {}."
    pipe.prompt_template_encode_start_idx = 9
    return pipe


def latte() -> LattePipeline:
    """Two blocks within frames and two along time, three frames; the variance is predicted beside the noise."""
    torch.manual_seed(0)
    denoiser = LatteTransformer3DModel(
        in_channels=LATENT,
        out_channels=2 * LATENT,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=16,
        sample_size=8,
        patch_size=2,
        caption_channels=parts.TEXT,
        cross_attention_dim=32,
        attention_bias=True,
        activation_fn="gelu-approximate",
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        num_embeds_ada_norm=1000,
        video_length=3,
    ).eval()
    torch.manual_seed(1)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=LATENT,
        norm_num_groups=4,
    ).eval()
    return LattePipeline(
        transformer=denoiser,
        vae=vae,
        text_encoder=parts.t5(),
        tokenizer=tiny.tokenizer(),
        scheduler=DDIMScheduler(clip_sample=False, timestep_spacing="trailing", set_alpha_to_one=True),
    )


def sana_video(*, image: bool = False) -> Any:
    """Three blocks, width 32."""
    torch.manual_seed(0)
    denoiser = SanaVideoTransformer3DModel(
        in_channels=LATENT,
        out_channels=LATENT,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=3,
        num_cross_attention_heads=2,
        cross_attention_head_dim=16,
        cross_attention_dim=32,
        caption_channels=parts.TEXT,
        mlp_ratio=2.0,
        patch_size=(1, 2, 2),
    ).eval()
    torch.manual_seed(0)
    gemma = Gemma2Model(
        Gemma2Config(
            vocab_size=32,
            hidden_size=parts.TEXT,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=8,
            max_position_embeddings=2048,
            pad_token_id=0,
            bos_token_id=0,
            eos_token_id=1,
        )
    ).eval()
    return (SanaImageToVideoPipeline if image else SanaVideoPipeline)(
        transformer=denoiser,
        vae=wan.vae(),
        text_encoder=gemma,
        tokenizer=tiny.tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=8.0),
    )


def mochi() -> MochiPipeline:
    """Three blocks, width 32."""
    torch.manual_seed(0)
    denoiser = MochiTransformer3DModel(
        patch_size=2,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=3,
        pooled_projection_dim=16,
        in_channels=12,
        text_embed_dim=parts.TEXT,
        time_embed_dim=4,
        max_sequence_length=8,
    ).eval()
    torch.manual_seed(1)
    vae = AutoencoderKLMochi(
        latent_channels=12,
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        layers_per_block=(1, 1, 1, 1, 1),
    ).eval()
    return MochiPipeline(
        transformer=denoiser,
        vae=vae,
        text_encoder=parts.t5(),
        tokenizer=tiny.tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
    )
