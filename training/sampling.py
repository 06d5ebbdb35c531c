"""Videos from the real pipeline: many samples in one call, and the variants that are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp import noise
from training import families, few_step, lora, model
from training.config import Config
from training.session import Session

Videos = NDArray[np.uint8]
VARIANTS = ("shipped", "as trained", "few-step", "two experts")


class Sampler:
    """Loads each variant when it is first asked for, and samples from it.

    Args:
        session: Of the run; its model is exported.
    """

    def __init__(self, session: Session) -> None:
        self._session, self.config = session, session.config
        self._family = families.named(session.config.model)
        self._pipes: dict[str, Any] = {}

    def pipe(self, variant: str) -> Any:
        """One of `VARIANTS`: the exported folder, the same before rounding to 16 bits, or one with its LoRAs."""
        if variant not in self._pipes:
            pipe = self._load(variant)
            pipe.set_progress_bar_config(disable=True)
            if variant != "as trained":
                self._family.lower(pipe, getattr(torch, self.config.evaluation.dtype))
            self._pipes[variant] = pipe.to(self.config.device)
        return self._pipes[variant]

    def _load(self, variant: str) -> Any:
        folder = self.config.model_folder
        if variant == "two experts":
            return model.two_experts(folder, pipeline=self._family.batched)
        if variant == "as trained":
            return self._family.batched(**self._session.parts().components())
        pipe = self._family.batched.from_pretrained(folder)
        if variant == "few-step":
            lora.fuse(pipe, folder / few_step.FOLDER / few_step.WEIGHTS)
        return pipe

    def videos(
        self,
        first_frames: Videos,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        steps: int,
        guidance: float,
        variant: str = "shipped",
    ) -> Videos:
        """One video for each first frame, uint8 `[n, F, H, W, 3]`."""
        pipe, config = self.pipe(variant), self.config
        return sample(pipe, first_frames, prompts, config, seeds=seeds, steps=steps, guidance=guidance)


def sample(
    pipe: Any,
    first_frames: Videos,
    prompts: Sequence[str],
    config: Config,
    *,
    seeds: Sequence[int],
    steps: int,
    guidance: float,
) -> Videos:
    """One video for each first frame, uint8 `[n, F, H, W, 3]`; noise from a CPU generator for each of `seeds`."""
    pictures = torch.from_numpy(np.ascontiguousarray(first_frames)).permute(0, 3, 1, 2) / 255
    videos = pipe(
        image=pictures,
        prompt=list(prompts),
        negative_prompt=[""] * len(prompts),
        height=config.height,
        width=config.width,
        num_frames=config.frames,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        max_sequence_length=config.model.max_sequence_length,
        output_type="pt",
    ).frames
    return (videos * 255).round().byte().permute(0, 1, 3, 4, 2).cpu().numpy()


@contextmanager
def watched(pipe: Any, see: Callable[[Tensor], None]) -> Iterator[None]:
    """Within the block, `see` is given x̂0 (guided) of every step, float32 `[n, C, T, h, w]`."""
    scheduler, family = pipe.scheduler, families.of(pipe.transformer)
    original = scheduler.step

    def step(velocity: Tensor, timestep: Tensor, x: Tensor, **options: Any) -> Any:
        result = original(velocity, timestep, x, **options)
        level = noise.level(scheduler, float(timestep))
        see(family.latents(level.signal * x.float() - level.sigma * velocity.float()))
        return result

    scheduler.step = step
    try:
        yield
    finally:
        del scheduler.step
