"""Stage `few_step`: a LoRA that samples in 4 steps without guidance, distilled from the model's own trajectories.

The teacher follows its guided velocity from one of the student's noise levels to the next in several small Euler
steps; the student learns, from where the teacher started, the mean velocity of the whole stretch. In a second
round the starts are where the student itself would be, so that it learns to mend its own errors.

Shapes: n samples, C latent channels, T latent frames, h×w latent cells, K student steps.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, NamedTuple

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from training import loop, lora, parallel
from training.config import Config
from training.data import LatentPool
from training.families import Parts
from training.model import settings
from training.transformer import embed, velocity

if TYPE_CHECKING:
    from training.session import Session

FOLDER, WEIGHTS = "few_step", "pytorch_lora_weights.safetensors"
LAST = 0.1
"""Share of the batch for the last step, which is a short one."""
PART = 512
"""Trajectories made at once."""


class Trajectories(NamedTuple):
    """What the student learns from."""

    starts: Tensor
    """float16 `[K, n, C, T, h, w]`: where each of its steps begins."""
    means: Tensor
    """float16, alike: the teacher's mean velocity from there to where the step ends."""
    condition: Tensor
    """float16 `[n, C, T, h, w]`."""
    ids: Tensor
    """int64 `[n, length]`."""


def levels(steps: int, *, shift: float) -> list[float]:
    """Noise levels of the pipeline's schedule with `steps` steps, from 1 to 0.

    Example:
        >>> [round(sigma, 3) for sigma in levels(4, shift=3.0)]
        [1.0, 0.858, 0.602, 0.009, 0.0]
    """
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    return torch.as_tensor(scheduler.sigmas).tolist()


def grids(steps: int, substeps: int, *, shift: float) -> list[list[float]]:
    """The teacher's noise levels within each of the student's steps, ends included.

    They are evenly spaced before the shift, as the schedule's own are; the short last step is not divided.
    """
    coarse = levels(steps, shift=shift)
    result: list[list[float]] = []
    for start, end in itertools.pairwise(coarse[:-1]):
        high, low = (s / (shift - (shift - 1) * s) for s in (start, end))
        plain = torch.linspace(high, low, substeps + 1).tolist()
        inner = [shift * u / (1 + (shift - 1) * u) for u in plain[1:-1]]
        result.append([start, *inner, end])
    return [*result, coarse[-2:]]


def train(session: Session) -> None:
    """Distil, and write the LoRA into the exported folder; continues where an earlier try stopped.

    A try that is continued within a later round makes that round's trajectories anew, with the student as it is then.
    """
    config = session.config
    options = config.few_step
    parts = session.parts(shipped=True)
    parts.text_encoder.requires_grad_(False)
    weights = lora.add(parts.transformer, rank=options.rank, seed=config.seed)
    if config.compile:
        parts.transformer.compile_repeated_blocks()
    guidance = settings(config)["guidance"]
    stretches = grids(options.sampler_steps, options.substeps, shift=config.model.shift)
    sigmas = torch.tensor([grid[0] for grid in stretches], device=config.device)
    made: dict[int, Trajectories] = {}

    def loss(step: loop.Step) -> tuple[Tensor, dict[str, Tensor]]:
        turn = int(step.fraction * options.rounds)
        if turn not in made:
            made.clear()
            made[turn] = trajectories(
                config, parts, session.pool(parts), stretches, guidance=guidance, seed=turn, own_starts=turn > 0
            )
        known, n, device = made[turn], options.batch, config.device
        rows = torch.randint(known.starts.shape[1], (n,), generator=step.generator, device=device)
        share = torch.full((len(stretches),), (1 - LAST) / (len(stretches) - 1), device=device)
        share[-1] = LAST
        number = torch.multinomial(share, n, replacement=True, generator=step.generator)
        start, mean = known.starts[number, rows].float(), known.means[number, rows].float()
        predicted = velocity(
            config, parts, start, known.condition[rows].float(), sigmas[number], _text(parts, known.ids[rows])
        )
        value = (predicted - mean).pow(2).mean()
        return value, {"loss": value.detach()}

    loop.run(config, options, stage="few_step", file=config.checkpoint("few_step"), weights=weights, loss=loss)
    if parallel.first():
        folder = config.model_folder / FOLDER
        lora.save(parts.transformer, folder / WEIGHTS, config.checkpoint("few_step"))
        sampler = {"steps": options.sampler_steps, "guidance": 1.0}
        (folder / "stepscope.json").write_text(json.dumps(sampler, indent=2) + "\n")
    parallel.barrier()


@torch.no_grad()
def trajectories(
    config: Config,
    parts: Parts,
    pool: LatentPool,
    stretches: list[list[float]],
    *,
    guidance: float,
    seed: int,
    own_starts: bool,
) -> Trajectories:
    """The teacher's trajectories for samples of `pool`: this rank's share of `config.few_step.prompts`.

    Args:
        config: Of the run.
        parts: Transformer with the student's LoRA; without it, it is the teacher.
        pool: Gives conditions and prompts.
        stretches: Noise levels, see `grids`.
        guidance: The teacher's.
        seed: Tells rounds apart.
        own_starts: Whether each stretch begins where the student's step before it has led, not the teacher's.
    """
    n = max(1, config.few_step.prompts // parallel.size())
    generator = torch.Generator(config.device).manual_seed(loop.seed(config, seed))
    _, condition, ids = pool.batch(n, generator)
    condition = condition.half()
    starts: list[Tensor] = []
    means: list[Tensor] = []
    empty = _text(parts, pool.empty[None])
    for known, tokens in zip(condition.split(PART), ids.split(PART), strict=True):
        still, text = known.float(), _text(parts, tokens)
        x = torch.randn(still.shape, generator=generator, device=config.device)
        begun: list[Tensor] = []
        passed: list[Tensor] = []
        for grid in stretches:
            begin = x
            parts.transformer.disable_adapters()
            for sigma, following in itertools.pairwise(grid):
                x = x + (following - sigma) * _guided(config, parts, x, still, sigma, text, empty, guidance)
            parts.transformer.enable_adapters()
            length = grid[-1] - grid[0]
            begun.append(begin.half())
            passed.append(((x - begin) / length).half())
            if own_starts:
                level = torch.full((len(x),), grid[0], device=config.device)
                x = begin + length * velocity(config, parts, begin, still, level, text)
        starts.append(torch.stack(begun))
        means.append(torch.stack(passed))
    return Trajectories(torch.cat(starts, dim=1), torch.cat(means, dim=1), condition, ids)


def _text(parts: Parts, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return embed(parts, ids)


def _guided(
    config: Config, parts: Parts, x: Tensor, still: Tensor, sigma: float, text: Tensor, empty: Tensor, guidance: float
) -> Tensor:
    """The velocity that the pipeline follows: both branches in one pass."""
    level = torch.full((2 * len(x),), sigma, device=x.device)
    both = torch.cat([text, empty.expand_as(text)])
    cond, uncond = velocity(config, parts, x.repeat(2, 1, 1, 1, 1), still.repeat(2, 1, 1, 1, 1), level, both).chunk(2)
    return uncond + guidance * (cond - uncond)
