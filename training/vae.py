"""Stage `vae`: the autoencoder, on videos of every family and split, half of them recoloured."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from training import checkpoint, data
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
    videos = _videos(config)
    generator = torch.Generator(config.device)
    progress = Progress("vae", options.steps, done=done, seconds=seconds)
    recent: list[Tensor] = []
    for step in range(done, options.steps):
        generator.manual_seed(config.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = options.rate * min(1, (step + 1) / 100) * _cosine(step / options.steps)
        rows = torch.randint(len(videos), (options.batch,), generator=generator, device=config.device)
        video = data.recolour(data.to_model(videos[rows]), generator)
        loss, error = _loss(config, vae, video, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        recent.append(error.detach())
        if progress.due(step + 1):
            progress.log(step + 1, f"error {torch.stack(recent).mean():.5f}")
            recent.clear()
        if (step + 1) % max(1, options.steps // CHECKPOINTS) == 0 or step + 1 == options.steps:
            tensors = checkpoint.named("model", vae.state_dict())
            tensors |= checkpoint.named("optimizer", checkpoint.optimizer_state(optimizer, names))
            mean, std = _moments(vae, data.to_model(videos[: min(512, POOL)]))
            record = {"step": step + 1, "seconds": progress.seconds, "latents_mean": mean, "latents_std": std}
            checkpoint.save(file, tensors, record)


def _cosine(done: float) -> float:
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def _videos(config: Config) -> Tensor:
    mix = data.Mix(
        families=config.families,
        seed=data.RESERVED + config.seed + 1,
        device=config.device,
        splits=("in_domain", "out_of_domain"),
    )
    n = min(POOL, config.vae.steps * config.vae.batch)
    videos = [mix.draw(start, min(data.CHUNK, n - start))[0] for start in range(0, n, data.CHUNK)]
    return torch.cat(videos)[torch.randperm(n, generator=torch.Generator().manual_seed(config.seed)).to(config.device)]


def _loss(
    config: Config, vae: AutoencoderKLWan, video: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The loss and the mean absolute error of pixels in -1…1."""
    with torch.autocast(config.device, dtype=torch.bfloat16, enabled=config.device != "cpu"):
        posterior = vae.encode(video).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        # vae.decode clamps, and a clamp has no gradient: decode without it
        decoded = _decode(vae, mean + (0.5 * logvar).exp() * noise).float()
    error = (decoded - video).abs().mean()
    kl = 0.5 * (mean.pow(2) + logvar.exp() - 1 - logvar).mean()
    return error + (decoded - video).pow(2).mean() + config.vae.kl * kl, error


def _decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """`vae.decode` frame by frame, without its final clamp."""
    vae.clear_cache()
    hidden = vae.post_quant_conv(latents)
    frames: list[Tensor] = []
    for frame in range(latents.shape[2]):
        vae._conv_idx = [0]
        first = {"first_chunk": True} if frame == 0 else {}
        frames.append(
            vae.decoder(hidden[:, :, frame : frame + 1], feat_cache=vae._feat_map, feat_idx=vae._conv_idx, **first)
        )
    vae.clear_cache()
    patch = vae.config["patch_size"]
    decoded = torch.cat(frames, dim=2)
    n, _, count, height, width = decoded.shape
    decoded = decoded.view(n, 3, patch, patch, count, height, width)
    return decoded.permute(0, 1, 4, 5, 3, 6, 2).reshape(n, 3, count, height * patch, width * patch)


@torch.no_grad()
def _moments(vae: AutoencoderKLWan, video: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each latent channel."""
    latents = torch.cat([vae.encode(part).latent_dist.mode() for part in video.split(data.ENCODE)])
    std, mean = torch.std_mean(latents, dim=(0, 2, 3, 4))
    return mean.tolist(), std.tolist()
