"""Cosmos 2, a video from its first frame: a variance-exploding process, every video through a guardrail."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from math import lcm
from typing import Any, ClassVar

import numpy as np
import torch

from interp.adapters import adapters
from interp.adapters._base import (
    Forward,
    Layout,
    ModelAdapter,
    Tensor,
    block_sites,
    held_first,
    picture,
    pixels,
    question,
)
from interp.errors import BadInput
from interp.geometry import Geometry
from store.records import Sample, SamplerSettings


class Cosmos2(ModelAdapter):
    """`Cosmos2VideoToWorldPipeline` with the picture as the first frame.

    The pipeline's scale s adds s times the difference of the branches to cond, so the scale in force is 1 + s. Its
    denoiser sees σ-scaled latents and predicts neither noise nor x0: what is captured as velocity is the noise that
    follows from it, (x_s − x̂0) / σ. Latent frame 0 is given clean to the denoiser: there x_s is the picture and the
    guided velocity 0. The last of the steps changes nothing, since σ ends at its smallest value.

    The pipeline needs a safety checker: `cosmos_guardrail`, if it is not given another one. Everything that is decoded
    goes through it, x̂0 too.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("Cosmos2VideoToWorldPipeline",)
    singles: ClassVar[Mapping[str, str]] = {"Cosmos2VideoToWorldPipeline": "it takes one video or picture a call"}
    modules: ClassVar[Mapping[str, str]] = block_sites(cross="attn2")
    layout: ClassVar[Layout] = "order"
    head_axis: ClassVar[int] = 1
    exploding: ClassVar[bool] = True
    restarts: ClassVar[bool] = False

    def defaults(self) -> dict[str, Any]:
        """The pipeline's own defaults (704×1280, 93 frames, 35 steps, guidance 7)."""
        return {
            "steps": 35,
            "guidance": 7.0,
            "height": 704,
            "width": 1280,
            "frames": 93,
            "max_sequence_length": 512,
        }

    def check(self, settings: SamplerSettings) -> None:
        """See `ModelAdapter.check`."""
        super().check(settings)
        if self._config.concat_padding_mask and find_spec("torchvision") is None:
            raise BadInput("this model needs torchvision, which is not installed: pip install torchvision")

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        return {**question(sample, settings), "video": [picture(sample)]}

    def guidance(self, settings: SamplerSettings, expert: str) -> float:
        """See `ModelAdapter.guidance`."""
        return 1.0 + settings.guidance if settings.guidance > 1 else 1.0

    def predicted(self, output: Any, geometry: Geometry, forward: Forward) -> Tensor:
        """See `ModelAdapter.predicted`; at t = σ / (σ + 1), with h = (1 − t)·x_s, the noise is h + (1 − t)·output."""
        signal = 1 - forward.inputs["timestep"].float()
        noise = forward.inputs["hidden_states"].float() + signal * output[0].float()
        return self.latent(noise, geometry)

    def given(self, sample: Tensor, guided: Tensor, geometry: Geometry, forward: Forward) -> tuple[Tensor, Tensor]:
        """See `ModelAdapter.given`."""
        latent, velocity = super().given(sample, guided, geometry, forward)
        imposed = self.latent(forward.inputs["hidden_states"], geometry)[: len(latent), :1]
        return held_first(imposed, latent[:, 1:], velocity[:, 1:])

    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`."""
        vae = self.pipeline.vae
        latent = latent_bfyxc.to(vae.device).permute(0, 4, 1, 2, 3)
        mean, std = (
            torch.tensor(values).view(1, -1, 1, 1, 1).to(latent)
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        scaled = latent * std / self.pipeline.scheduler.config.sigma_data + mean
        return pixels(self.pipeline, guarded(self.pipeline, vae.decode(scaled.to(vae.dtype), return_dict=False)[0]))

    @property
    def held(self) -> int:
        """See `ModelAdapter.held`."""
        return 1

    @property
    def initial(self) -> float:
        """See `ModelAdapter.initial`."""
        return float(self.pipeline.scheduler.config.sigma_max) if self.exploding else super().initial

    @property
    def patch(self) -> tuple[int, int, int]:
        """See `ModelAdapter.patch`."""
        frames, rows, columns = self._config.patch_size
        return frames, rows, columns

    @property
    def channels(self) -> int:
        """See `ModelAdapter.channels`."""
        return self.pipeline.vae.config.z_dim

    @property
    def multiple(self) -> int:
        """See `ModelAdapter.multiple`; the pipeline itself asks for 16."""
        return lcm(16, super().multiple)


def guarded(pipeline: Any, video: Tensor) -> Tensor:
    """A decoded video `[1, 3, f, y, x]` in −1 to 1 as the pipeline's safety checker leaves it, of 8 bits a channel."""
    frames = (pipeline.video_processor.postprocess_video(video.detach(), output_type="np") * 255).astype(np.uint8)
    checked = [pipeline.safety_checker.check_video_safety(one) for one in frames]
    if any(one is None for one in checked):
        raise BadInput(
            f"{type(pipeline.safety_checker).__name__} refuses a video of this run; use another prompt or seed"
        )
    return torch.from_numpy(np.stack(checked).astype(np.float32) / 255.0 * 2 - 1).permute(0, 4, 1, 2, 3)


adapters.add("cosmos2", Cosmos2)
