"""Stage `transformer`: denoiser and text encoder, jointly, on a pool of latents.

The model learns the velocity of its family's process, conditioned exactly as its pipeline conditions it in sampling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from training import answers, checkpoint, data, families, loop, parallel
from training.config import Config
from training.families import Parts
from training.process import Process

if TYPE_CHECKING:
    from training.session import Session

TRAINED = ("transformer", "text_encoder")


def load(config: Config, parts: Parts) -> None:
    """Put the averaged weights into `parts`."""
    tensors, _ = checkpoint.load(config.checkpoint("transformer"))
    for name in TRAINED:
        module = getattr(parts, name)
        module.load_state_dict(checkpoint.under(f"ema.{name}", tensors), strict=name == "transformer")


def embed(parts: Parts, ids: Tensor) -> Tensor:
    """Prompt embeddings as the pipeline makes them."""
    return families.of(parts.transformer).embed(parts, ids)


def velocity(config: Config, parts: Parts, noisy: Tensor, condition: Tensor, level: Tensor, text: Tensor) -> Tensor:
    """The denoiser's velocity, float32 `[n, C, T, h, w]`, at noise levels `[n]` for embeddings `text`."""
    with torch.autocast(config.device, dtype=torch.bfloat16, enabled=config.device != "cpu"):
        return families.of(parts.transformer).predict(parts, noisy, condition, level, text).float()


def error(
    config: Config,
    parts: Parts,
    batch: tuple[Tensor, Tensor, Tensor],
    generator: torch.Generator,
    *,
    low: float = 0.0,
    high: float = 1.0,
    among: answers.Ambiguous | None = None,
) -> Tensor:
    """Mean squared error of the velocity at noise shares between `low` and `high`.

    Args:
        config: Noise levels.
        parts: The model.
        batch: Latents, condition and ids of samples, one answer each.
        generator: Of noise and noise levels.
        low: Lowest noise share.
        high: Highest noise share.
        among: Ambiguous samples to learn from as well. What is learned of them is the velocity to the mean over their
            answers given x_s, half of the time where these are chosen.
    """
    latents, condition, ids = batch
    process = families.of(parts.transformer).process(parts.scheduler)
    level = _levels(config, process, len(latents), generator, low=low, high=high)
    if among is not None:
        early = 1 - config.transformer.choosing * torch.rand(
            len(among.valid), generator=generator, device=level.device
        ).pow(2)
        anywhere = _levels(config, process, len(early), generator, low=low, high=high)
        half = torch.arange(len(early), device=level.device) % 2 == 0
        level = torch.cat([level, torch.where(half, process.at(early.clamp_min(low)), anywhere)])
        latents, condition, ids = (
            torch.cat(pair) for pair in ((latents, among.latents), (condition, among.condition), (ids, among.ids))
        )
    signal, sigma = (each.view(-1, 1, 1, 1, 1) for each in process.coefficients(level))
    noise = torch.randn(latents.shape, generator=generator, device=latents.device)
    noisy, target = signal * latents + sigma * noise, process.velocity(latents, noise, signal, sigma)
    if among is not None:
        n = len(among.valid)
        mean = answers.expected(among.answers, among.valid, noisy[-n:], signal=signal[-n:], sigma=sigma[-n:])
        target[-n:] += (latents[-n:] - mean) / sigma[-n:].clamp_min(answers.SMALLEST)
    with torch.autocast(config.device, dtype=torch.bfloat16, enabled=config.device != "cpu"):
        text = embed(parts, ids)
    return (velocity(config, parts, noisy, condition, level, text) - target).pow(2).mean()


def _levels(config: Config, process: Process, n: int, generator: torch.Generator, *, low: float, high: float) -> Tensor:
    """Noise levels `[n]`, a share of them at noise alone."""
    level = process.draw(n, generator, low=low, high=high)
    if high < 1:
        return level
    pure = torch.rand(n, generator=generator, device=level.device) < config.transformer.pure_noise
    return torch.where(pure, process.at(torch.ones_like(pure, dtype=torch.float32)), level)


def window(config: Config, step: int) -> int:
    """Samples of the stream that the pool has seen in `step`."""
    options = config.transformer
    return options.pool + step // options.refresh_every * options.refresh


def among(session: Session, pool: data.LatentPool, generator: torch.Generator) -> answers.Ambiguous | None:
    """The ambiguous part of a batch, where there is one."""
    options = session.config.transformer
    known = session.answers(pool) if options.ambiguous else None
    return None if known is None else known.batch(options.ambiguous, generator, drop=options.drop_prompt)


def train(session: Session) -> None:
    """Train and write the checkpoint; continues where an earlier try stopped."""
    config = session.config
    options = config.transformer
    parts = session.parts(trained=False)
    if config.compile:
        families.of(parts.transformer).compile(parts.transformer)
    model = nn.ModuleDict({name: getattr(parts, name) for name in TRAINED})

    def loss(step: loop.Step) -> tuple[Tensor, dict[str, Tensor]]:
        pool = session.pool(parts, window(config, step.number))
        batch = pool.batch(options.batch, step.generator, drop=options.drop_prompt)
        value = error(config, parts, batch, step.generator, among=among(session, pool, step.generator))
        return value, {"loss": value.detach()}

    loop.run(
        config,
        options,
        stage="transformer",
        file=config.checkpoint("transformer"),
        weights=dict(model.named_parameters()),
        loss=loss,
        extra=lambda step: {"window": (seen := window(config, max(0, step - 1))), "samples": seen * parallel.size()},
    )
