"""EasyAnimate, text to video, and image to video by its inpainting model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from diffusers.pipelines.easyanimate.pipeline_easyanimate_inpaint import get_image_to_video_latent

from interp.adapters import adapters
from interp.adapters._base import Layout, ModelAdapter, Tensor, block_sites, picture, pixels, question, without
from interp.errors import BadInput
from store.records import Sample, SamplerSettings

INPAINT = "EasyAnimateInpaintPipeline"
TEXT_TOKENS = 256
"""The pipelines pad every prompt to this length."""


class EasyAnimate(ModelAdapter):
    """`EasyAnimatePipeline` and `EasyAnimateInpaintPipeline`, which is given the picture as the first frame.

    Text is a stream of its own in the first `mmdit_layers` layers. In the others q, k and v hold text before video, and
    there is no `mlp_out`: one MLP runs twice, for each of the two.
    """

    pipelines: ClassVar[tuple[str, ...]] = (INPAINT, "EasyAnimatePipeline")
    singles: ClassVar[Mapping[str, str]] = {INPAINT: "it takes one picture and mask a call"}
    modules: ClassVar[Mapping[str, str]] = block_sites()
    layout: ClassVar[Layout] = "batch"
    joint: ClassVar[bool] = True
    text: ClassVar[Literal["none", "first", "last"]] = "first"
    head_axis: ClassVar[int] = 1

    def module(self, block: Any, site: str) -> torch.nn.Module | None:
        """See `ModelAdapter.module`."""
        return None if site == "mlp_out" and block.txt_ff is None else super().module(block, site)

    def text_layers(self, site: str) -> tuple[int, ...]:
        """See `ModelAdapter.text_layers`."""
        joined = range(self._config.mmdit_layers, self._config.num_layers)
        return tuple(joined) if site in ("q", "k", "v") else ()

    def defaults(self) -> dict[str, Any]:
        """The pipelines' own defaults (512×512, 49 frames, 50 steps, guidance 5)."""
        return {
            "steps": 50,
            "guidance": 5.0,
            "height": 512,
            "width": 512,
            "frames": 49,
            "max_sequence_length": TEXT_TOKENS,
        }

    def check(self, settings: SamplerSettings) -> None:
        """See `ModelAdapter.check`."""
        super().check(settings)
        if settings.max_sequence_length != TEXT_TOKENS:
            raise BadInput(
                f"max_sequence_length {settings.max_sequence_length} does not fit: this model needs {TEXT_TOKENS}"
            )

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        kwargs = without(question(sample, settings), ["max_sequence_length"])
        if type(self.pipeline).__name__ != INPAINT:
            return kwargs
        size = settings.height, settings.width
        video, mask = get_image_to_video_latent([picture(sample)], None, settings.frames, size)
        return {**kwargs, "video": video, "mask_video": mask}

    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`."""
        vae = self.pipeline.vae
        latent = latent_bfyxc.to(vae.device, vae.dtype).permute(0, 4, 1, 2, 3)
        video = vae.decode(1 / vae.config.scaling_factor * latent, return_dict=False)[0]
        return pixels(self.pipeline, video)

    @property
    def patch(self) -> tuple[int, int, int]:
        """See `ModelAdapter.patch`."""
        return 1, self._config.patch_size, self._config.patch_size

    @property
    def space(self) -> int:
        """See `ModelAdapter.space`."""
        return self.pipeline.vae_spatial_compression_ratio

    @property
    def time(self) -> int:
        """See `ModelAdapter.time`."""
        return self.pipeline.vae_temporal_compression_ratio


adapters.add("easyanimate", EasyAnimate)
