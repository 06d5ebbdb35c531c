"""Wan, image to video: flow matching, the prompt by cross-attention, the picture on the denoiser's channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from diffusers.models.transformers.transformer_wan import WanAttention
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn
from transformers import UMT5Config, UMT5EncoderModel

from training import onepass
from training.config import ModelConfig, WanConfig
from training.families._base import Family, Parts, text_options
from training.process import Flow, Process

MASK_CHANNELS = 4
"""First-frame mask beside the image condition, one channel for each video frame of a latent frame."""
KEPT = "_keep_in_fp32_modules"


class SelfAttention:
    """What `WanAttnProcessor` computes in self-attention, to be compiled for training.

    The original writes the turned pairs into two slices of an empty tensor, of which the compiler makes a kernel that
    took 43 of the 154 ms of a training step on one H200.
    """

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: None = None,
        attention_mask: None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Output of the layer, as `hidden_states` `[n, tokens, channels]`."""
        assert rotary_emb is not None
        cos, sin = rotary_emb[0][..., 0::2], rotary_emb[1][..., 1::2]

        def heads(x: Tensor) -> Tensor:
            return x.unflatten(2, (attn.heads, -1))

        def turned(x: Tensor) -> Tensor:
            first, second = heads(x).unflatten(-1, (-1, 2)).unbind(-1)
            pairs = torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1)
            return pairs.flatten(-2).type_as(x)

        q, k = turned(attn.norm_q(attn.to_q(hidden_states))), turned(attn.norm_k(attn.to_k(hidden_states)))
        v = heads(attn.to_v(hidden_states))
        found = nn.functional.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return attn.to_out[0](found.transpose(1, 2).flatten(2).type_as(q))


class BatchedPipeline(WanImageToVideoPipeline):
    """The pipeline for several first frames at once, which the original repeats instead of pairing."""

    def prepare_latents(
        self, image, batch_size, channels, height, width, frames, dtype, device, generator, latents, last_image
    ):
        """The original's result for each picture with its own generator, stacked."""
        shape = (1, channels, (frames - 1) // 4 + 1, height // 8, width // 8)
        noise = [randn_tensor(shape, generator=one, device=device, dtype=dtype) for one in generator]
        still = image.new_zeros(batch_size, image.shape[1], frames, height, width)
        still[:, :, 0] = image
        condition = Wan().encode(self.vae, still.to(self.vae.dtype)).to(device, dtype)
        return torch.cat(noise), torch.cat([mask_channels(condition), condition], dim=1)


class Wan(Family):
    """`WanImageToVideoPipeline` with flow-matching Euler."""

    name: ClassVar[str] = "wan"
    pipeline: ClassVar[type[Any]] = WanImageToVideoPipeline
    batched: ClassVar[type[Any]] = BatchedPipeline
    autoencoder: ClassVar[type[nn.Module]] = AutoencoderKLWan
    denoiser: ClassVar[type[nn.Module]] = WanTransformer3DModel
    what: ClassVar[str] = "the small video diffusion transformer"
    sampler: ClassVar[str] = "flow-matching Euler"
    levels: ClassVar[str] = "flow matching at logit-normal noise levels"
    measures: ClassVar[tuple[str, ...]] = ("latents_mean", "latents_std")
    variants: ClassVar[bool] = True

    def vae(self, config: WanConfig) -> AutoencoderKLWan:
        """8×8 pixels and 4 frames to a latent cell, the first frame alone."""
        channels = 3 * config.vae_patch**2
        return AutoencoderKLWan(
            base_dim=config.vae_dim,
            decoder_base_dim=config.vae_decoder_dim,
            z_dim=config.latent_channels,
            dim_mult=list(config.vae_mult),
            num_res_blocks=1,
            temperal_downsample=[True] * (len(config.vae_mult) - 1),
            latents_mean=[0.0] * config.latent_channels,
            latents_std=[1.0] * config.latent_channels,
            in_channels=channels,
            out_channels=channels,
            patch_size=config.vae_patch,
            scale_factor_temporal=4,
            scale_factor_spatial=config.cell,
        )

    def text_encoder(self, config: WanConfig) -> UMT5EncoderModel:
        """See `Family.text_encoder`."""
        return UMT5EncoderModel(UMT5Config(**text_options(config)))

    def transformer(self, config: WanConfig) -> WanTransformer3DModel:
        """The denoiser, which sees noisy latents, mask and image condition on its channels."""
        return WanTransformer3DModel(
            patch_size=(1, 1, 1),
            num_attention_heads=config.heads,
            attention_head_dim=config.head_dim,
            in_channels=2 * config.latent_channels + MASK_CHANNELS,
            out_channels=config.latent_channels,
            text_dim=config.text_dim,
            freq_dim=256,
            ffn_dim=config.ffn_dim,
            num_layers=config.layers,
            rope_max_seq_len=64,
        )

    def scheduler(self, config: ModelConfig) -> FlowMatchEulerDiscreteScheduler:
        """See `Family.scheduler`."""
        return FlowMatchEulerDiscreteScheduler(shift=config.shift)

    def process(self, scheduler: FlowMatchEulerDiscreteScheduler) -> Process:
        """See `Family.process`."""
        return Flow(scheduler.config["shift"])

    def posterior(self, vae: AutoencoderKLWan, video: Tensor) -> tuple[Tensor, Tensor]:
        """See `Family.posterior`."""
        return onepass.encode(vae, video)

    def decoded(self, vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
        """See `Family.decoded`."""
        return onepass.decode(vae, latents)

    def moments(self, latents: Tensor) -> dict[str, Any]:
        """Mean and standard deviation of each channel."""
        std, mean = torch.std_mean(latents, dim=(0, 2, 3, 4))
        return {"latents_mean": mean.tolist(), "latents_std": std.tolist()}

    def spread(self, vae: AutoencoderKLWan, like: Tensor) -> tuple[Tensor, Tensor]:
        """See `Family.spread`."""
        mean, std = (
            torch.tensor(values, device=like.device, dtype=like.dtype).view(1, -1, 1, 1, 1)
            for values in (vae.config["latents_mean"], vae.config["latents_std"])
        )
        return mean, std

    def condition(self, video: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """See `Family.condition`: the first frame, then zeros (mid grey)."""
        still = torch.zeros_like(video)
        still[:, :, 0] = video[:, :, 0]
        return encode(still)

    def embed(self, parts: Parts, ids: Tensor) -> Tensor:
        """See `Family.embed`: zero where the prompt has ended."""
        mask = (ids != parts.tokenizer.pad_token_id).long()
        return parts.text_encoder(ids, mask).last_hidden_state * mask[:, :, None]

    def predict(self, parts: Parts, noisy: Tensor, condition: Tensor, level: Tensor, text: Tensor) -> Tensor:
        """See `Family.predict`."""
        inputs = torch.cat([noisy, mask_channels(noisy), condition], dim=1)
        return parts.transformer(
            hidden_states=inputs, timestep=1000 * level, encoder_hidden_states=text, return_dict=False
        )[0]

    def compile(self, transformer: WanTransformer3DModel) -> None:
        """See `Family.compile`."""
        for block in transformer.blocks:
            block.attn1.set_processor(SelfAttention())
        transformer.compile_repeated_blocks(fullgraph=True)

    def lower(self, pipe: Any, dtype: torch.dtype) -> None:
        """See `Family.lower`."""
        for part in (pipe.transformer, pipe.components.get("transformer_2")):
            if part is not None:
                cast(part, dtype)


def mask_channels(like: Tensor) -> Tensor:
    """The pipeline's first-frame mask for latents `like`: one in the first latent frame, `[n, 4, T, h, w]`."""
    mask = like.new_zeros(like.shape[0], MASK_CHANNELS, *like.shape[2:])
    mask[:, :, 0] = 1
    return mask


def cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Cast in place, as `from_pretrained` does: what the class keeps in float32 stays so."""
    kept = set(getattr(module, KEPT, None) or ())
    for name, weight in module.named_parameters():
        if not kept & set(name.split(".")):
            weight.data = weight.data.to(dtype)
