"""SkyReels V2 with diffusion forcing, text to video and image to video, all frames at one noise level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch

from interp.adapters import adapters
from interp.adapters._base import Forward, ModelAdapter, Tensor, held_first, picture
from interp.adapters.wan import Wan
from interp.geometry import Geometry
from store.records import Sample, SamplerSettings

IMAGE = "SkyReelsV2DiffusionForcingImageToVideoPipeline"


class SkyReelsV2Forcing(Wan):
    """`SkyReelsV2DiffusionForcingPipeline` and `SkyReelsV2DiffusionForcingImageToVideoPipeline` in one piece.

    They can give each latent frame a noise level of its own (`ar_step` > 0) and make long videos in windows: then a
    step has no sigma, and it is not asked for here. As they are by default, all frames step together, each by a copy of
    the scheduler. Image to video holds the first latent frame fixed: there x_s is the picture and the velocity 0.
    """

    pipelines: ClassVar[tuple[str, ...]] = (IMAGE, "SkyReelsV2DiffusionForcingPipeline")
    singles: ClassVar[Mapping[str, str]] = {
        IMAGE: "its timesteps, one for each latent frame, are those of one video",
        "SkyReelsV2DiffusionForcingPipeline": "its timesteps, one for each latent frame, are those of one video",
    }
    restarts: ClassVar[bool] = False
    schedulers: ClassVar[Literal["one", "copies"]] = "copies"

    def defaults(self) -> dict[str, Any]:
        """The pipelines' own defaults (544×960, 97 frames, 50 steps, guidance 6, or 5 with a picture)."""
        guidance = 5.0 if type(self.pipeline).__name__ == IMAGE else 6.0
        return {**super().defaults(), "guidance": guidance, "height": 544, "width": 960, "frames": 97}

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        kwargs = {**super().inputs(sample, settings), "ar_step": 0, "base_num_frames": settings.frames}
        return {**kwargs, "image": picture(sample)} if type(self.pipeline).__name__ == IMAGE else kwargs

    def whole_step(self, calls: Sequence[Mapping[str, Any]], forward: Forward) -> Mapping[str, Any] | None:
        """See `ModelAdapter.whole_step`; one call for each frame that is not held, frame after frame."""
        if len(calls) < torch.count_nonzero(forward.inputs["timestep"][0]):
            return None
        joined = {name: torch.stack([call[name] for call in calls], dim=2) for name in ("sample", "model_output")}
        return {**calls[-1], **joined}

    def given(self, sample: Tensor, guided: Tensor, geometry: Geometry, forward: Forward) -> tuple[Tensor, Tensor]:
        """See `ModelAdapter.given`."""
        latent, velocity = ModelAdapter.given(self, sample, guided, geometry, forward)
        imposed = self.latent(forward.inputs["hidden_states"], geometry)[: len(latent), : self.held]
        return held_first(imposed, latent, velocity)

    @property
    def held(self) -> int:
        """See `ModelAdapter.held`."""
        return int(type(self.pipeline).__name__ == IMAGE)


adapters.add("skyreels_v2_forcing", SkyReelsV2Forcing)
