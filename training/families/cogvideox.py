"""CogVideoX, image to video: v-prediction on a variance-preserving path, text and video in one attention.

Of what makes tinywan, tinycog shares the worlds and the words alone: autoencoder, text encoder, denoiser, objective and
sampler are of other kinds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXTransformer3DModel,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

from interp.worlds import FRAMES, SIZE
from training.config import CogVideoXConfig, ModelConfig
from training.families._base import Family, Parts, text_options
from training.process import Preserving, Process

PLACED = ("attention_head_dim", "patch_size", "patch_size_t", "sample_height", "sample_width")
"""What of a denoiser's config decides how its tokens' places are told."""
CERTAIN = -30.0
"""Log-variance of a posterior that has no width; the lowest that the class allows."""


class JointAttention:
    """What `CogVideoXAttnProcessor2_0` computes, to be compiled for training: it writes into no slice."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Outputs for the video `[n, tokens, channels]` and for the text before it."""
        assert image_rotary_emb is not None
        cos, sin = (turn[..., 0::2] for turn in image_rotary_emb)
        length = encoder_hidden_states.shape[1]
        joint = torch.cat([encoder_hidden_states, hidden_states], dim=1)

        def heads(x: Tensor) -> Tensor:
            return x.unflatten(2, (attn.heads, -1)).transpose(1, 2)

        def turned(x: Tensor) -> Tensor:
            first, second = x[:, :, length:].float().unflatten(-1, (-1, 2)).unbind(-1)
            pairs = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1)
            return torch.cat([x[:, :, :length], pairs.flatten(-2).type_as(x)], dim=2)

        q, k = turned(attn.norm_q(heads(attn.to_q(joint)))), turned(attn.norm_k(heads(attn.to_k(joint))))
        found = nn.functional.scaled_dot_product_attention(q, k, heads(attn.to_v(joint)))
        text, video = attn.to_out[0](found.transpose(1, 2).flatten(2)).tensor_split([length], dim=1)
        return video, text


class BatchedPipeline(CogVideoXImageToVideoPipeline):
    """The pipeline with all pictures encoded at once; the original takes one after the other."""

    def prepare_latents(
        self, image, batch_size, channels, frames, height, width, dtype, device, generator, latents=None
    ):
        """The original's result."""
        posterior = self.vae.encode(image.unsqueeze(2)).latent_dist.parameters
        pictures: list[Tensor] = []
        noise: list[Tensor] = []
        shape = (1, (frames - 1) // 4 + 1, channels, height // self.vae_scale_factor_spatial)
        for row, own in zip(posterior.split(1), generator, strict=True):
            pictures.append(DiagonalGaussianDistribution(row).sample(own))
            size = (*shape, width // self.vae_scale_factor_spatial)
            noise.append(randn_tensor(size, generator=own, device=device, dtype=dtype))
        first = self.vae_scaling_factor_image * torch.cat(pictures).to(dtype)
        return torch.cat(noise) * self.scheduler.init_noise_sigma, nn.functional.pad(
            first, (0, 0, 0, 0, 0, shape[1] - 1)
        ).transpose(1, 2)


class CogVideoX(Family):
    """`CogVideoXImageToVideoPipeline` with DDIM."""

    name: ClassVar[str] = "cogvideox"
    pipeline: ClassVar[type[Any]] = CogVideoXImageToVideoPipeline
    batched: ClassVar[type[Any]] = BatchedPipeline
    autoencoder: ClassVar[type[nn.Module]] = AutoencoderKLCogVideoX
    denoiser: ClassVar[type[nn.Module]] = CogVideoXTransformer3DModel
    what: ClassVar[str] = "a second video diffusion transformer, of other parts and another objective than tinywan,"
    sampler: ClassVar[str] = "DDIM"
    levels: ClassVar[str] = "v-prediction on a variance-preserving path at all timesteps alike"
    measures: ClassVar[tuple[str, ...]] = ("scaling_factor",)

    def vae(self, config: CogVideoXConfig) -> AutoencoderKLCogVideoX:
        """`cell`×`cell` pixels and 4 frames to a latent cell, the first frame alone."""
        widths = tuple(config.vae_dim * times for times in config.vae_mult)
        return AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * len(widths),
            up_block_types=("CogVideoXUpBlock3D",) * len(widths),
            block_out_channels=widths,
            latent_channels=config.latent_channels,
            layers_per_block=1,
            norm_num_groups=config.vae_groups,
            temporal_compression_ratio=4,
            sample_height=SIZE,
            sample_width=SIZE,
            scaling_factor=1.0,
        )

    def text_encoder(self, config: CogVideoXConfig) -> T5EncoderModel:
        """See `Family.text_encoder`."""
        return T5EncoderModel(T5Config(**text_options(config), feed_forward_proj="gated-gelu"))

    def transformer(self, config: CogVideoXConfig) -> CogVideoXTransformer3DModel:
        """The denoiser, which sees noisy latents and the picture on its channels."""
        return CogVideoXTransformer3DModel(
            num_attention_heads=config.heads,
            attention_head_dim=config.head_dim,
            in_channels=2 * config.latent_channels,
            out_channels=config.latent_channels,
            time_embed_dim=config.time_dim,
            text_embed_dim=config.text_dim,
            num_layers=config.layers,
            sample_width=SIZE // config.cell,
            sample_height=SIZE // config.cell,
            sample_frames=FRAMES,
            patch_size=config.patch,
            max_text_seq_length=config.max_sequence_length,
            use_rotary_positional_embeddings=True,
        )

    def scheduler(self, config: ModelConfig) -> CogVideoXDDIMScheduler:
        """See `Family.scheduler`: sampling begins at noise alone, as CogVideoX does."""
        return CogVideoXDDIMScheduler(
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            snr_shift_scale=config.shift,
            clip_sample=False,
        )

    def process(self, scheduler: CogVideoXDDIMScheduler) -> Process:
        """See `Family.process`."""
        return Preserving(scheduler)

    def posterior(self, vae: AutoencoderKLCogVideoX, video: Tensor) -> tuple[Tensor, Tensor]:
        """See `Family.posterior`; in the chunks of frames that the class has, over which its norms reach."""
        found = vae.encode(video).latent_dist
        return found.mean, found.logvar

    def decoded(self, vae: AutoencoderKLCogVideoX, latents: Tensor) -> Tensor:
        """See `Family.decoded`."""
        return vae.decode(latents).sample

    def moments(self, latents: Tensor) -> dict[str, Any]:
        """One factor for all channels."""
        return {"scaling_factor": 1 / float(latents.std())}

    def settle(self, vae: AutoencoderKLCogVideoX, moments: Mapping[str, Any]) -> None:
        """See `Family.settle`. The pipeline draws the picture's latents from the posterior: it is given no width."""
        super().settle(vae, moments)
        last = vae.encoder.conv_out.conv
        channels = last.out_channels // 2
        with torch.no_grad():
            last.weight[channels:] = 0
            last.bias[channels:] = CERTAIN

    def spread(self, vae: AutoencoderKLCogVideoX, like: Tensor) -> tuple[Tensor, Tensor]:
        """See `Family.spread`."""
        return like.new_zeros(()), like.new_tensor(1 / vae.config["scaling_factor"])

    def condition(self, video: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """See `Family.condition`: the first frame as a video of its own, then zeros."""
        first = encode(video[:, :, :1])
        return nn.functional.pad(first, (0, 0, 0, 0, 0, (video.shape[2] - 1) // 4))

    def embed(self, parts: Parts, ids: Tensor) -> Tensor:
        """See `Family.embed`."""
        return parts.text_encoder(ids).last_hidden_state

    def predict(self, parts: Parts, noisy: Tensor, condition: Tensor, level: Tensor, text: Tensor) -> Tensor:
        """See `Family.predict`."""
        inputs = torch.cat([noisy, condition], dim=1).transpose(1, 2)
        return parts.transformer(
            hidden_states=inputs,
            timestep=level,
            encoder_hidden_states=text,
            image_rotary_emb=_positions(
                noisy.shape[2:], noisy.device, **{name: parts.transformer.config[name] for name in PLACED}
            ),
            return_dict=False,
        )[0].transpose(1, 2)

    def compile(self, transformer: CogVideoXTransformer3DModel) -> None:
        """See `Family.compile`; the class has no list of repeated blocks."""
        for block in transformer.transformer_blocks:
            block.attn1.set_processor(JointAttention())
            block.compile(fullgraph=True)

    def latents(self, sampled: Tensor) -> Tensor:
        """See `Family.latents`."""
        return sampled.transpose(1, 2)

    def lower(self, pipe: Any, dtype: torch.dtype) -> None:
        """See `Family.lower`. The pipeline holds x_s in the text's dtype, so weights stay as they are."""
        if dtype is not torch.float32:
            device = "cuda" if torch.cuda.is_available() else "cpu"
            pipe.transformer.forward = torch.autocast(device, dtype=dtype)(pipe.transformer.forward)


@functools.cache
def _positions(grid: tuple[int, int, int], device: torch.device, **config: Any) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the tokens' places by the pipeline's own method, for latents of T×h×w cells."""
    frames, rows, columns = grid
    transformer = SimpleNamespace(config=SimpleNamespace(**config))
    asked = SimpleNamespace(vae_scale_factor_spatial=1, transformer=transformer)
    turn = CogVideoXImageToVideoPipeline._prepare_rotary_positional_embeddings
    return turn(asked, rows, columns, frames, device)  # type: ignore[arg-type]
