"""Latte: blocks that attend within frames and blocks that attend along time, in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from interp.adapters import adapters
from interp.adapters._base import (
    Forward,
    Layout,
    ModelAdapter,
    Place,
    Tensor,
    block_sites,
    check_single,
    check_size,
    pixels,
    question,
    without,
)
from interp.errors import BadInput
from interp.geometry import Geometry
from store.records import Sample, SamplerSettings


class Latte(ModelAdapter):
    """`LattePipeline`; each frame is a latent frame, and the number of frames belongs to the transformer.

    Even layers attend within frames and to the prompt, odd ones along time, and have no `cross_attn_out`. Where the
    transformer predicts the noise's variance too, only the noise is kept. Prompts are always of 120 tokens.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("LattePipeline",)
    singles: ClassVar[Mapping[str, str]] = {
        "LattePipeline": "of several prompts it attends to the padding, too, which it cuts off of one"
    }
    modules: ClassVar[Mapping[str, str]] = block_sites(cross="attn2", q="to_q", k="to_k")
    layout: ClassVar[Layout] = "batch"

    def blocks(self, denoiser: Any) -> Sequence[torch.nn.Module]:
        """See `ModelAdapter.blocks`."""
        pairs = zip(denoiser.transformer_blocks, denoiser.temporal_transformer_blocks, strict=True)
        return [block for pair in pairs for block in pair]

    def module(self, block: Any, site: str) -> torch.nn.Module | None:
        """See `ModelAdapter.module`."""
        return block.attn2 if site == "cross_attn_out" else super().module(block, site)

    def defaults(self) -> dict[str, Any]:
        """The pipeline's own defaults (512×512, 16 frames, 50 steps, guidance 7.5)."""
        return {
            "steps": 50,
            "guidance": 7.5,
            "height": 512,
            "width": 512,
            "frames": self._config.video_length,
            "max_sequence_length": 120,
        }

    def check(self, settings: SamplerSettings) -> None:
        """See `ModelAdapter.check`."""
        check_size(settings, self.multiple)
        if settings.frames != self._config.video_length:
            raise BadInput(f"{settings.frames} frames do not fit: this model makes {self._config.video_length}")
        check_single(settings)

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        kwargs = without(question(sample, settings), ["num_frames", "max_sequence_length"])
        return {**kwargs, "video_length": settings.frames}

    def tokens(self, hidden: Tensor, geometry: Geometry, place: Place) -> Tensor:
        """See `ModelAdapter.tokens`; rows are those of the forward times frames, or times places."""
        frames, rows, columns = geometry.tokens
        if place.layer % 2:
            return hidden.unflatten(0, (-1, rows, columns)).permute(0, 3, 1, 2, 4)
        return hidden.unflatten(1, (rows, columns)).unflatten(0, (-1, frames))

    def predicted(self, output: Any, geometry: Geometry, forward: Forward) -> Tensor:
        """See `ModelAdapter.predicted`."""
        return self.latent(output[0][:, : self.channels], geometry)

    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`."""
        pipeline, vae = self.pipeline, self.pipeline.vae
        latent = latent_bfyxc.to(vae.device, vae.dtype).permute(0, 4, 1, 2, 3)
        video = pipeline.decode_latents(latent, latent.shape[2])
        return pixels(pipeline, video)

    @property
    def patch(self) -> tuple[int, int, int]:
        """See `ModelAdapter.patch`."""
        return 1, self._config.patch_size, self._config.patch_size

    @property
    def space(self) -> int:
        """See `ModelAdapter.space`."""
        return self.pipeline.vae_scale_factor

    @property
    def time(self) -> int:
        """See `ModelAdapter.time`."""
        return 1


adapters.add("latte", Latte)
