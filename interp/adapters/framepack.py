"""FramePack on HunyuanVideo: the first of the windows that make a video, behind the picture."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch

from interp.adapters import adapters
from interp.adapters._base import Forward, ModelAdapter, Place, Tensor, held_first, picture
from interp.adapters.hunyuan_video import HunyuanVideo
from interp.errors import BadInput
from interp.geometry import Geometry, Grid
from store.records import Sample, SamplerSettings

HISTORY = ((16, (4, 8, 8)), (2, (2, 4, 4)))
"""Frames of the history that lie before the picture, oldest first, and the latent cells of one of their tokens."""


class Framepack(HunyuanVideo):
    """`HunyuanVideoFramepackPipeline`, one window long, under its default order of sampling.

    Longer videos are made window by window, each denoised from the start behind what the others left; one of a single
    window is the picture and `(frames − 1) / time` latent frames, nine for the released weights. The picture is a frame
    of the history, in the same stream as the noise: it is captured as latent frame 0, where x_s is the picture and the
    velocity 0. The rest of the history, which is empty, is left out, and attention
    to it counts as attention to the text.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("HunyuanVideoFramepackPipeline",)

    def defaults(self) -> dict[str, Any]:
        """The pipeline's own defaults (720×1280, 50 steps, guidance 6), and the 37 frames of a window of nine."""
        return {**super().defaults(), "frames": 37}

    def check(self, settings: SamplerSettings) -> None:
        """See `ModelAdapter.check`."""
        super().check(settings)
        if settings.frames <= self.time:
            raise BadInput(f"{settings.frames} frames do not fit: this model needs at least {self.time + 1}")

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        window = (settings.frames - 1) // self.time
        return {
            **super().inputs(sample, settings),
            "image": picture(sample),
            "num_frames": (window - 1) * self.time + 1,
            "latent_window_size": window,
        }

    def tokens(self, hidden: Tensor, geometry: Geometry, place: Place) -> Tensor:
        """See `ModelAdapter.tokens`; the picture's tokens and the window's, without the empty frame between them."""
        grid = super().tokens(hidden[:, self._before(geometry) :], self._longer(geometry), place)
        return torch.cat([grid[:, :1], grid[:, 2:]], dim=1)

    def text_tokens(self, hidden: Tensor, geometry: Geometry) -> Tensor:
        """See `ModelAdapter.text_tokens`; the history is none of it."""
        return super().text_tokens(hidden[:, self._before(geometry) :], self._longer(geometry))

    def predicted(self, output: Any, geometry: Geometry, forward: Forward) -> Tensor:
        """See `ModelAdapter.predicted`; 0 in the picture."""
        velocity = super().predicted(output, geometry, forward)
        return torch.cat([torch.zeros_like(velocity[:, :1]), velocity], dim=1)

    def given(self, sample: Tensor, guided: Tensor, geometry: Geometry, forward: Forward) -> tuple[Tensor, Tensor]:
        """See `ModelAdapter.given`."""
        latent, velocity = ModelAdapter.given(self, sample, guided, geometry, forward)
        held = self.latent(forward.inputs["latents_clean"], geometry)[: len(latent), :1]
        return held_first(held, latent, velocity)

    @property
    def held(self) -> int:
        """See `ModelAdapter.held`."""
        return 1

    def _before(self, geometry: Geometry) -> int:
        """Tokens of the history before the picture."""
        older = [zip((frames, *geometry.latent[1:]), size, strict=True) for frames, size in HISTORY]
        return sum(math.prod(-(-cells // cell) for cells, cell in axes) for axes in older)

    def _longer(self, geometry: Geometry) -> Geometry:
        """With the empty frame behind the picture."""
        return geometry._replace(tokens=Grid(geometry.tokens.frames + 1, *geometry.tokens[1:]))


adapters.add("framepack", Framepack)
