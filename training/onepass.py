"""The VAE in one pass over all frames, equal to `AutoencoderKLWan`'s own frame-by-frame pass, and faster.

diffusers feeds the causal VAE chunk by chunk and carries the last frames along, which bounds memory but makes
thousands of small kernels. Causal convolutions over the whole video with zeros before it give the same numbers;
only the resampling in time treats the first latent frame on its own. The clamp at the end of decoding, which
would stop gradients, is left out.

Shapes: n videos, F video frames, T latent frames, C latent channels.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResample, patchify, unpatchify
from torch import Tensor


def encode(vae: AutoencoderKLWan, video: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the posterior, each `[n, C, T, h, w]`, for `[n, 3, F, H, W]` in -1…1."""
    encoder = vae.encoder
    x = encoder.conv_in(patchify(video, vae.config["patch_size"]))
    for layer in encoder.down_blocks:
        x = _down(layer, x) if isinstance(layer, WanResample) else layer(x)
    x = encoder.conv_out(encoder.nonlinearity(encoder.norm_out(encoder.mid_block(x))))
    mean, logvar = vae.quant_conv(x).chunk(2, dim=1)
    return mean, logvar.clamp(-30.0, 20.0)


def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Video `[n, 3, F, H, W]`, not clamped, for latents `[n, C, T, h, w]` (not normalised)."""
    decoder = vae.decoder
    x = decoder.mid_block(decoder.conv_in(vae.post_quant_conv(latents)))
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            x = resnet(x)
        if block.upsamplers is not None:
            x = _up(block.upsamplers[0], x)
    x = decoder.conv_out(decoder.nonlinearity(decoder.norm_out(x)))
    return unpatchify(x, vae.config["patch_size"])


def _spatial(layer: WanResample, x: Tensor) -> Tensor:
    """The layer's resampling in y and x, frame by frame."""
    n, channels, frames, height, width = x.shape
    flat = x.permute(0, 2, 1, 3, 4).reshape(n * frames, channels, height, width)
    return layer.resample(flat).unflatten(0, (n, frames)).permute(0, 2, 1, 3, 4)


def _down(layer: WanResample, x: Tensor) -> Tensor:
    x = _spatial(layer, x)
    return torch.cat([x[:, :, :1], layer.time_conv(x)], dim=2) if layer.mode == "downsample3d" else x


def _up(layer: WanResample, x: Tensor) -> Tensor:
    if layer.mode == "upsample3d":
        twice = layer.time_conv(x[:, :, 1:]).unflatten(1, (2, -1))  # [n, 2, channels, T-1, y, x]
        x = torch.cat([x[:, :, :1], twice.permute(0, 2, 3, 1, 4, 5).flatten(2, 3)], dim=2)
    return _spatial(layer, x)
