"""Videos from the real pipeline: many samples in one call, and the variants that are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers import WanImageToVideoPipeline
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from torch import Tensor, nn

from training import data, few_step, lora, model
from training.config import Config
from training.session import Session

Videos = NDArray[np.uint8]
VARIANTS = ("shipped", "as trained", "few-step", "two experts")
KEPT = "_keep_in_fp32_modules"


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
        condition = data.encode(self.vae, still.to(self.vae.dtype)).to(device, dtype)
        return torch.cat(noise), torch.cat([data.mask_channels(condition), condition], dim=1)


class Sampler:
    """Loads each variant when it is first asked for, and samples from it.

    Args:
        session: Of the run; its model is exported.
    """

    def __init__(self, session: Session) -> None:
        self._session, self.config = session, session.config
        self._pipes: dict[str, BatchedPipeline] = {}

    def pipe(self, variant: str) -> BatchedPipeline:
        """One of `VARIANTS`: the exported folder, the same before rounding to 16 bits, or one with its LoRAs."""
        if variant not in self._pipes:
            pipe = self._load(variant)
            pipe.set_progress_bar_config(disable=True)
            if variant != "as trained":
                for part in (pipe.transformer, pipe.components.get("transformer_2")):
                    if part is not None:
                        cast(part, getattr(torch, self.config.evaluation.dtype))
            self._pipes[variant] = pipe.to(self.config.device)
        return self._pipes[variant]

    def _load(self, variant: str) -> Any:
        folder = self.config.model_folder
        if variant == "two experts":
            return model.two_experts(folder, pipeline=BatchedPipeline)
        if variant == "as trained":
            return BatchedPipeline(**self._session.parts().components())
        pipe = BatchedPipeline.from_pretrained(folder)
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
    pipe: WanImageToVideoPipeline,
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
def watched(pipe: WanImageToVideoPipeline, see: Callable[[Tensor], None]) -> Iterator[None]:
    """Within the block, `see` is given x̂0 = x_s - σ·v (guided) of every step, float32 `[n, C, T, h, w]`."""
    scheduler: Any = pipe.scheduler
    original = scheduler.step

    def step(velocity: Tensor, timestep: Tensor, x: Tensor, **options: Any) -> Any:
        see(x.float() - float(timestep) / scheduler.config.num_train_timesteps * velocity.float())
        return original(velocity, timestep, x, **options)

    scheduler.step = step
    try:
        yield
    finally:
        del scheduler.step


def cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Cast in place, as `from_pretrained` does: what the class keeps in float32 stays so."""
    kept = set(getattr(module, KEPT, None) or ())
    for name, weight in module.named_parameters():
        if not kept & set(name.split(".")):
            weight.data = weight.data.to(dtype)
