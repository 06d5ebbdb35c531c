"""Stage `vae`: the autoencoder, on videos of every family and split."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from training import checkpoint, data, onepass
from training.config import Config
from training.model import Parts
from training.progress import Progress

POOL = 8192
"""Videos that training draws from."""
CHECKPOINTS = 8


def path(config: Config) -> Path:
    """The stage's checkpoint."""
    return config.out / "vae.safetensors"


def load(config: Config, parts: Parts) -> None:
    """Put the finished weights into `parts.vae`, with the mean and spread of its latents."""
    tensors, record = checkpoint.load(path(config), config.device)
    parts.vae.load_state_dict(checkpoint.under("model", tensors))
    parts.vae.register_to_config(latents_mean=record["latents_mean"], latents_std=record["latents_std"])


def train(config: Config, parts: Parts) -> None:
    """Train `parts.vae` and write its checkpoint; continues where an earlier try stopped."""
    vae, options, file = parts.vae, config.vae, path(config)
    if checkpoint.record(file).get("step", 0) >= options.steps:
        return
    done, seconds = 0, 0.0
    names, weights = checkpoint.trainable(vae)
    optimizer = torch.optim.AdamW(weights, lr=options.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    if file.exists():
        tensors, record = checkpoint.load(file, config.device)
        vae.load_state_dict(checkpoint.under("model", tensors))
        checkpoint.restore_optimizer(optimizer, names, checkpoint.under("optimizer", tensors))
        done, seconds = record["step"], record["seconds"]
    channels_last(vae)
    autoencode = torch.compile(_autoencode, dynamic=False) if config.compile else _autoencode
    videos, rarity = _videos(config)
    generator = torch.Generator(config.device)
    progress = Progress("vae", options.steps, done=done, seconds=seconds)
    recent: list[Tensor] = []
    for step in range(done, options.steps):
        generator.manual_seed(config.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = options.rate * min(1, (step + 1) / 200) * _cosine(step / options.steps)
        rows = torch.randint(len(videos), (options.batch,), generator=generator, device=config.device)
        video = data.to_model(videos[rows]).contiguous(memory_format=torch.channels_last_3d)
        shape = (options.batch, config.model.latent_channels, *data.latent_grid(config))
        noise = torch.randn(shape, generator=generator, device=config.device)
        with torch.autocast(config.device, dtype=torch.bfloat16, enabled=config.device != "cpu"):
            decoded, mean, logvar = autoencode(vae, video, noise)
        error = decoded.float() - video
        weighted = (rarity[rows].float()[:, None] * (error.abs() + error.pow(2))).mean()
        kl = 0.5 * (mean.float().pow(2) + logvar.float().exp() - 1 - logvar.float()).mean()
        optimizer.zero_grad(set_to_none=True)
        (weighted + options.kl * kl).backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        recent.append(torch.stack([error.detach().abs().mean(), weighted.detach()]))
        if progress.due(step + 1):
            plain, heavy = torch.stack(recent).mean(dim=0).tolist()
            progress.log(step + 1, f"error {plain:.5f}, weighted loss {heavy:.5f}")
            recent.clear()
        if (step + 1) % max(1, options.steps // CHECKPOINTS) == 0 or step + 1 == options.steps:
            tensors = checkpoint.named("model", vae.state_dict())
            tensors |= checkpoint.named("optimizer", checkpoint.optimizer_state(optimizer, names))
            mean_std = _moments(vae, data.to_model(videos[:512]))
            checkpoint.save(file, tensors, {"step": step + 1, "seconds": progress.seconds, **mean_std})


def _cosine(done: float) -> float:
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def channels_last(module: nn.Module) -> None:
    """Store the kernels of 3-D convolutions channels last, which is what the GPU computes with."""
    for weight in module.parameters():
        if weight.dim() == 5:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)


def _autoencode(vae: AutoencoderKLWan, video: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Video, mean and log-variance of the posterior for `video`, with `noise` in place of a random draw."""
    mean, logvar = onepass.encode(vae, video)
    return onepass.decode(vae, mean + (0.5 * logvar).exp() * noise), mean, logvar


def _videos(config: Config) -> tuple[Tensor, Tensor]:
    """Videos uint8 `[n, F, H, W, 3]` and the weight of each pixel, float16 `[n, F, H, W]`."""
    mix = data.Mix(
        families=config.families,
        seed=data.RESERVED + config.seed + 1,
        device=config.device,
        splits=("in_domain", "out_of_domain"),
    )
    n = min(POOL, config.vae.steps * config.vae.batch)
    parts = [mix.draw(start, min(data.CHUNK, n - start))[0] for start in range(0, n, data.CHUNK)]
    return torch.cat(parts), torch.cat([rarity(part) for video in parts for part in video.split(128)])


def rarity(video: Tensor) -> Tensor:
    """Weight of each pixel, so that a small thing in a big picture is learned too.

    Args:
        video: uint8 `[n, F, H, W, 3]`.

    Returns:
        float16 `[n, F, H, W]`: one over the root of the colour's share of the video, over its mean; three times
        as much in the first frame, which has a latent frame of its own where others have a quarter.
    """
    red, green, blue = (video >> 4).long().unbind(dim=-1)
    colour = (red * 256 + green * 16 + blue).flatten(1)
    count = torch.zeros(len(video), 4096, device=video.device).scatter_add_(1, colour, torch.ones_like(colour).float())
    weight = (count.gather(1, colour) / colour.shape[1]).rsqrt()
    weight = (weight / weight.mean(dim=1, keepdim=True)).view(video.shape[:-1])
    weight[:, 0] *= 3
    return weight.half()


@torch.no_grad()
def _moments(vae: AutoencoderKLWan, video: Tensor) -> dict[str, list[float]]:
    """Mean and standard deviation of each latent channel."""
    latents = torch.cat([onepass.encode(vae, part)[0] for part in video.split(data.ENCODE)])
    std, mean = torch.std_mean(latents, dim=(0, 2, 3, 4))
    return {"latents_mean": mean.tolist(), "latents_std": std.tolist()}
