"""Stage `experts`: the model split in two as Wan2.2 is, one denoiser for high noise and one for low noise.

Both start from the trained transformer. Each is specialised by a LoRA that is trained by the ordinary loss on its
own noise levels, so that the pair costs a few megabytes on top of the model.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from torch import Tensor

from training import loop, lora, parallel
from training.config import Config
from training.families import Parts
from training.few_step import levels
from training.model import SETTINGS
from training.transformer import among, error

if TYPE_CHECKING:
    from training.session import Session

FOLDER = "experts"
NAMES = ("high", "low")


def high_steps(config: Config) -> int:
    """How many of the sampler's steps the high-noise expert makes.

    Example:
        >>> from pathlib import Path
        >>> high_steps(Config(out=Path()))
        7
    """
    sigmas = levels(config.evaluation.steps, shift=config.model.shift)[:-1]
    return sum(sigma >= config.experts.boundary_ratio for sigma in sigmas)


def noise_range(config: Config, name: str) -> tuple[float, float]:
    """Lowest and highest sigma of an expert."""
    boundary = config.experts.boundary_ratio
    return {"high": (boundary, 1.0), "low": (0.0, boundary)}[name]


def train(session: Session) -> None:
    """Specialise both and write them into the exported folder; continues where an earlier try stopped."""
    config = session.config
    options, folder = config.experts, config.model_folder / FOLDER
    for name in NAMES:
        parts = session.parts(shipped=True)
        parts.text_encoder.requires_grad_(False)
        weights = lora.add(parts.transformer, rank=options.rank, seed=config.seed)
        if config.compile:
            parts.transformer.compile_repeated_blocks()
        file = config.checkpoint(f"expert_{name}")
        loss = _loss(session, parts, name)
        loop.run(config, options, stage=f"expert {name}", file=file, weights=weights, loss=loss)
        if parallel.first():
            lora.save(parts.transformer, folder / f"{name}.safetensors", file)
    if parallel.first():
        (folder / SETTINGS).write_text(json.dumps({"boundary_ratio": options.boundary_ratio}, indent=2) + "\n")
    parallel.barrier()


def _loss(session: Session, parts: Parts, name: str) -> loop.Loss:
    config = session.config
    low, high = noise_range(config, name)

    def loss(step: loop.Step) -> tuple[Tensor, dict[str, Tensor]]:
        pool = session.pool(parts)
        batch = pool.batch(config.experts.batch, step.generator, drop=config.transformer.drop_prompt)
        rivals = among(session, pool, step.generator) if high == 1 else None
        value = error(config, parts, batch, step.generator, low=low, high=high, among=rivals)
        return value, {"loss": value.detach()}

    return loss
