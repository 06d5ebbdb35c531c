"""Allegro: one forward with both branches, a VAE that works in tiles only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from interp.adapters import adapters
from interp.adapters._base import Layout, ModelAdapter, Tensor, block_sites, check_single, check_size, pixels, question
from interp.errors import BadInput
from store.records import Sample, SamplerSettings


class Allegro(ModelAdapter):
    """`AllegroPipeline`; every `time` frames of the video are a latent frame, the first ones, too.

    The VAE decodes in overlapping tiles of one size, and what no whole tile covers stays black: only videos that tiles
    cover are taken, whose frames are multiples of `time`.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("AllegroPipeline",)
    singles: ClassVar[Mapping[str, str]] = {"AllegroPipeline": "its VAE decodes one video at a time"}
    modules: ClassVar[Mapping[str, str]] = block_sites(cross="attn2", q="to_q", k="to_k")
    layout: ClassVar[Layout] = "batch"

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        super().__init__(pipeline)
        self.pipeline.vae.enable_tiling()  # without, it neither encodes nor decodes

    def defaults(self) -> dict[str, Any]:
        """The pipeline's own defaults: the size that the transformer was made for, 100 steps, guidance 7.5."""
        config = self._config
        return {
            "steps": 100,
            "guidance": 7.5,
            "height": config.sample_height * self.space,
            "width": config.sample_width * self.space,
            "frames": config.sample_frames * self.time,
            "max_sequence_length": 512,
        }

    def check(self, settings: SamplerSettings) -> None:
        """See `ModelAdapter.check`."""
        check_size(settings, self.multiple)
        vae, asked = self.pipeline.vae, (settings.frames, settings.height, settings.width)
        for name, value, tile, step in zip(("frames", "height", "width"), asked, vae.kernel, vae.stride, strict=True):
            if value < tile or (value - tile) % step:
                raise BadInput(
                    f"{name} {value} does not fit: the tiles of this model's VAE need {tile} + a multiple of {step}"
                )
        check_single(settings)

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        return question(sample, settings)

    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`."""
        pipeline, vae = self.pipeline, self.pipeline.vae
        video = pipeline.decode_latents(latent_bfyxc.to(vae.device, vae.dtype).permute(0, 4, 1, 2, 3))
        return pixels(pipeline, video)

    @property
    def patch(self) -> tuple[int, int, int]:
        """See `ModelAdapter.patch`."""
        return self._config.patch_size_t, self._config.patch_size, self._config.patch_size


adapters.add("allegro", Allegro)
