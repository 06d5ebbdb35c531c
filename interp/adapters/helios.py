"""Helios, the first of the windows that make a video: the architecture of Wan 2.1 behind a history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from interp.adapters import adapters
from interp.adapters._base import picture
from interp.adapters.wan import Wan
from store.records import Sample, SamplerSettings


class Helios(Wan):
    """`HeliosPipeline`, one window long, with the picture as its history.

    Longer videos are made window by window, each denoised from the start behind what the others left; the released
    weights make nine latent frames at a time. Tokens of the history lie before the video's, and are left out; attention
    to them is what `pattern/text` holds.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("HeliosPipeline",)
    singles: ClassVar[Mapping[str, str]] = {"HeliosPipeline": "it draws the noise of its history from one generator"}
    joint: ClassVar[bool] = True
    restarts: ClassVar[bool] = False
    text: ClassVar[Literal["none", "first", "last"]] = "first"

    def defaults(self) -> dict[str, Any]:
        """The pipeline's own defaults (384×640, 50 steps, guidance 5), and the 33 frames of a window of nine."""
        return {**super().defaults(), "height": 384, "width": 640, "frames": 33}

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        return {
            **super().inputs(sample, settings),
            "image": picture(sample),
            "num_latent_frames_per_chunk": (settings.frames - 1) // self.time + 1,
        }


adapters.add("helios", Helios)
