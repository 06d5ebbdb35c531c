"""Mochi: blocks of two streams, one forward with both branches, noise levels that run upwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from interp.adapters import adapters
from interp.adapters._base import Layout, ModelAdapter, Tensor, block_sites, pixels, question
from interp.errors import BadInput
from store.records import Sample, SamplerSettings


class Mochi(ModelAdapter):
    """`MochiPipeline`; its scheduler counts from 0 to 1 and its denoiser predicts x0 − noise, see `interp.noise`."""

    pipelines: ClassVar[tuple[str, ...]] = ("MochiPipeline",)
    modules: ClassVar[Mapping[str, str]] = block_sites()
    layout: ClassVar[Layout] = "batch"
    joint: ClassVar[bool] = True

    def defaults(self) -> dict[str, Any]:
        """The pipeline's own defaults (480×848, 19 frames, 64 steps, guidance 4.5)."""
        return {
            "steps": 64,
            "guidance": 4.5,
            "height": self.pipeline.default_height,
            "width": self.pipeline.default_width,
            "frames": 19,
            "max_sequence_length": 256,
        }

    def check(self, settings: SamplerSettings) -> None:
        """See `ModelAdapter.check`."""
        super().check(settings)
        if settings.steps < 2:
            raise BadInput(f"{settings.steps} steps do not fit: the schedule of this model needs at least 2")

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        return question(sample, settings)

    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`."""
        vae = self.pipeline.vae
        config = vae.config
        latent = latent_bfyxc.to(vae.device, vae.dtype).permute(0, 4, 1, 2, 3)
        if config.latents_mean is not None and config.latents_std is not None:
            mean, std = (
                torch.tensor(values).view(1, -1, 1, 1, 1).to(latent)
                for values in (config.latents_mean, config.latents_std)
            )
            latent = latent * std / config.scaling_factor + mean
        else:
            latent = latent / config.scaling_factor
        video = vae.decode(latent, return_dict=False)[0]
        return pixels(self.pipeline, video)

    @property
    def patch(self) -> tuple[int, int, int]:
        """See `ModelAdapter.patch`."""
        return 1, self._config.patch_size, self._config.patch_size

    @property
    def space(self) -> int:
        """See `ModelAdapter.space`."""
        return self.pipeline.vae_spatial_scale_factor

    @property
    def time(self) -> int:
        """See `ModelAdapter.time`."""
        return self.pipeline.vae_temporal_scale_factor


adapters.add("mochi", Mochi)
