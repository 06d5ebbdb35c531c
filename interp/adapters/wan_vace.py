"""Wan VACE: the picture is the first frame of a video to be filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import PIL.Image

from interp.adapters import adapters
from interp.adapters._base import picture
from interp.adapters.wan import Wan
from store.records import Sample, SamplerSettings

GREY = (128, 128, 128)


class WanVACE(Wan):
    """`WanVACEPipeline` as image to video: the first frame is given, the others are grey and masked to be made.

    The control blocks add their hints to the residual stream after the layers of `vace_layers`, so `resid_pre` of the
    next layer is `resid_post` and the hint.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("WanVACEPipeline",)
    singles: ClassVar[Mapping[str, str]] = {"WanVACEPipeline": "it takes one prompt a call"}

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        first = picture(sample).resize((settings.width, settings.height), PIL.Image.Resampling.LANCZOS)
        size, unknown = first.size, settings.frames - 1
        keep, make = PIL.Image.new("L", size, 0), PIL.Image.new("L", size, 255)
        return {
            **super().inputs(sample, settings),
            "video": [first, *[PIL.Image.new("RGB", size, GREY)] * unknown],
            "mask": [keep, *[make] * unknown],
        }


adapters.add("wan_vace", WanVACE)
