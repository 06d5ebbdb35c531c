"""Stage `transformer`: denoiser and text encoder, jointly, by flow matching on a pool of latents.

x_s = (1-s)·x0 + s·noise, and the model learns the velocity noise - x0, conditioned exactly as
`WanImageToVideoPipeline` conditions it when it samples.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from training import checkpoint, data
from training.config import Config
from training.model import Parts
from training.progress import Progress

CHECKPOINTS = 12
TRAINED = ("transformer", "text_encoder")


def path(config: Config) -> Path:
    """The stage's checkpoint."""
    return config.out / "transformer.safetensors"


def load(config: Config, parts: Parts) -> None:
    """Put the averaged weights into `parts`."""
    tensors, _ = checkpoint.load(path(config), config.device)
    for name in TRAINED:
        module = getattr(parts, name)
        module.load_state_dict(checkpoint.under(f"ema.{name}", tensors), strict=name == "transformer")


def embed(parts: Parts, ids: Tensor) -> Tensor:
    """Prompt embeddings as the pipeline makes them: zero where the prompt has ended."""
    mask = (ids != parts.tokenizer.pad_token_id).long()
    return parts.text_encoder(ids, mask).last_hidden_state * mask[:, :, None]


def loss(config: Config, parts: Parts, batch: tuple[Tensor, Tensor, Tensor], generator: torch.Generator) -> Tensor:
    """Mean squared error of the velocity."""
    latents, condition, ids = batch
    n, device = len(latents), latents.device
    sigma = torch.sigmoid(torch.randn(n, 1, 1, 1, 1, generator=generator, device=device))
    sigma = config.model.shift * sigma / (1 + (config.model.shift - 1) * sigma)
    noise = torch.randn(latents.shape, generator=generator, device=device)
    noisy = (1 - sigma) * latents + sigma * noise
    inputs = torch.cat([noisy, data.mask_channels(latents), condition], dim=1)
    with torch.autocast(config.device, dtype=torch.bfloat16, enabled=config.device != "cpu"):
        velocity = parts.transformer(
            hidden_states=inputs,
            timestep=1000 * sigma.flatten(),
            encoder_hidden_states=embed(parts, ids),
            return_dict=False,
        )[0]
    return (velocity.float() - (noise - latents)).pow(2).mean()


def train(config: Config, parts: Parts) -> None:
    """Train and write the checkpoint; continues where an earlier try stopped."""
    options, file = config.transformer, path(config)
    if checkpoint.record(file).get("step", 0) >= options.steps:
        return
    model = nn.ModuleDict({name: getattr(parts, name) for name in TRAINED})
    names, weights = checkpoint.trainable(model)
    ema = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.AdamW(
        weights, lr=options.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=config.device != "cpu"
    )
    done, seconds = _resume(config, dict(zip(names, weights, strict=True)), ema, optimizer)
    progress = Progress("transformer", options.steps, done=done, seconds=seconds)
    pool = _pool(config, parts, done)
    if config.compile:
        parts.transformer.compile_repeated_blocks(fullgraph=True)
    generator = torch.Generator(config.device)
    recent: list[Tensor] = []
    for step in range(done, options.steps):
        if step and step % options.refresh_every == 0:
            for _ in pool.fill(options.pool + (step // options.refresh_every - 1) * options.refresh, options.refresh):
                pass
        generator.manual_seed(config.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = options.rate * _schedule(step, options.warmup, options.steps)
        value = loss(config, parts, pool.batch(options.batch, generator), generator)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        decay = min(options.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(ema, [weight.detach() for weight in weights], 1 - decay)
        recent.append(value.detach())
        if progress.due(step + 1):
            progress.log(step + 1, f"loss {torch.stack(recent).mean():.4f}")
            recent.clear()
        if (step + 1) % max(1, options.steps // CHECKPOINTS) == 0 or step + 1 == options.steps:
            tensors = checkpoint.named("model", dict(zip(names, weights, strict=True)))
            tensors |= checkpoint.named("ema", dict(zip(names, ema, strict=True)))
            tensors |= checkpoint.named("optimizer", checkpoint.optimizer_state(optimizer, names))
            checkpoint.save(file, tensors, {"step": step + 1, "seconds": progress.seconds})


def _resume(
    config: Config, weights: dict[str, nn.Parameter], ema: list[Tensor], optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Steps and seconds that an earlier try did; its weights, averages and moments are put in place."""
    file = path(config)
    if not file.exists():
        return 0, 0.0
    tensors, record = checkpoint.load(file, config.device)
    with torch.no_grad():
        for name, average in zip(weights, ema, strict=True):
            weights[name].copy_(tensors[f"model.{name}"])
            average.copy_(tensors[f"ema.{name}"])
    checkpoint.restore_optimizer(optimizer, list(weights), checkpoint.under("optimizer", tensors))
    return record["step"], record["seconds"]


def _pool(config: Config, parts: Parts, done: int) -> data.LatentPool:
    """The pool as it is before step `done`, up to where the stream had come."""
    options = config.transformer
    pool = data.LatentPool(config, parts.vae, parts.tokenizer)
    start = max(0, (done - 1) // options.refresh_every) * options.refresh if done else 0
    progress = Progress("pool", options.pool)
    for filled in pool.fill(start, options.pool):
        if progress.due(filled) or filled % (options.pool // 8 or 1) < data.CHUNK:
            progress.log(filled, "samples encoded")
    return pool


def _schedule(step: int, warmup: int, steps: int) -> float:
    """Rate relative to its peak: a linear rise, then half a cosine down to 2 %."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
