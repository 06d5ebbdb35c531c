"""Cosmos 1, text to video and first frame to video: a variance-exploding process, every step asked for twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from interp import noise
from interp.adapters import adapters
from interp.adapters._base import Forward, ModelAdapter, Tensor, picture, pixels, question
from interp.adapters.cosmos2 import Cosmos2, guarded
from interp.errors import BadInput
from interp.geometry import Geometry
from store.records import Sample, SamplerSettings

VIDEO = "CosmosVideoToWorldPipeline"


class Cosmos(Cosmos2):
    """`CosmosTextToWorldPipeline` and `CosmosVideoToWorldPipeline` with the picture as the first frame.

    The pipelines call the scheduler twice a step: for x̂0 of each branch, and then, told the guided x̂0, to go on. The
    second call is the step. With a picture, the denoiser is given latent frame 0 with a little new noise each time, and
    x̂0 of it is the picture: there x_s is the picture, too, and the guided velocity 0.

    The scale in force and the safety checker are as in Cosmos 2.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("CosmosTextToWorldPipeline", VIDEO)
    singles: ClassVar[Mapping[str, str]] = {VIDEO: "it takes one video or picture a call"}

    def defaults(self) -> dict[str, Any]:
        """The pipelines' own defaults (704×1280, 121 frames, 36 steps, guidance 7)."""
        return {**super().defaults(), "steps": 36, "frames": 121}

    def check(self, settings: SamplerSettings) -> None:
        """See `ModelAdapter.check`."""
        super().check(settings)
        mean = self.pipeline.vae.config.latents_mean
        known = len(mean) // self.channels if mean is not None else 1
        if known > 1 and (settings.frames - 1) // self.time >= known:
            most = (known - 1) * self.time + 1
            raise BadInput(f"{settings.frames} frames do not fit: this model's VAE knows the scale of at most {most}")

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        kwargs = question(sample, settings)
        return {**kwargs, "video": [picture(sample)]} if self._seen else kwargs

    def whole_step(self, calls: Sequence[Mapping[str, Any]], forward: Forward) -> Mapping[str, Any] | None:
        """See `ModelAdapter.whole_step`."""
        return calls[-1] if calls[-1].get("pred_original_sample") is not None else None

    def predicted(self, output: Any, geometry: Geometry, forward: Forward) -> Tensor:
        """See `ModelAdapter.predicted`."""
        return ModelAdapter.predicted(self, output, geometry, forward)

    def given(self, sample: Tensor, guided: Tensor, geometry: Geometry, forward: Forward) -> tuple[Tensor, Tensor]:
        """See `ModelAdapter.given`; the prediction is the one that x̂0 would follow from."""
        latent, x0_hat = ModelAdapter.given(self, sample, guided, geometry, forward)
        if self._seen:
            latent = torch.cat([x0_hat[:, :1], latent[:, 1:]], dim=1)
        level = noise.level(self.pipeline.scheduler, 0.0)
        velocity = (latent - x0_hat) / level.sigma
        return latent, (velocity - level.of_sample * latent) / level.of_prediction

    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`; mean and spread of latents are those of each frame."""
        vae = self.pipeline.vae
        latent = latent_bfyxc.to(vae.device).permute(0, 4, 1, 2, 3)
        data = self.pipeline.scheduler.config.sigma_data
        if vae.config.latents_mean is None:
            scaled = latent / data
        else:
            mean, std = (
                torch.tensor(values).view(1, self.channels, -1, 1, 1)[:, :, : latent.shape[2]].to(latent)
                for values in (vae.config.latents_mean, vae.config.latents_std)
            )
            scaled = latent * std / data + mean
        return pixels(self.pipeline, guarded(self.pipeline, vae.decode(scaled.to(vae.dtype), return_dict=False)[0]))

    @property
    def held(self) -> int:
        """See `ModelAdapter.held`."""
        return int(self._seen)

    @property
    def channels(self) -> int:
        """See `ModelAdapter.channels`."""
        return self.pipeline.vae.config.latent_channels

    @property
    def _seen(self) -> bool:
        return type(self.pipeline).__name__ == VIDEO


adapters.add("cosmos", Cosmos)
