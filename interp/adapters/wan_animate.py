"""Wan Animate: a picture moved by a pose video and a face video."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from interp.adapters import adapters
from interp.adapters._base import Tensor, picture, without
from interp.adapters.wan import Wan, decode_wan
from interp.errors import BadInput
from interp.geometry import Geometry, Grid
from store.records import Sample, SamplerSettings


class WanAnimate(Wan):
    """`WanAnimatePipeline`, one segment long, with the picture held still as the pose and the face video.

    A sample has no driving videos; give your own by calling the pipeline yourself. Latent frame 0 is the reference
    picture, denoised with the others and cut off before decoding: latents and tokens have a frame more than the video.
    Face adapters add to the residual stream after every `inject_face_latents_blocks`-th layer.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("WanAnimatePipeline",)
    singles: ClassVar[Mapping[str, str]] = {"WanAnimatePipeline": "it takes one picture and one pose a call"}

    def defaults(self) -> dict[str, Any]:
        """The pipeline's own defaults (720×1280, 77 frames, 20 steps, no guidance)."""
        return {**super().defaults(), "steps": 20, "guidance": 1.0, "height": 720, "width": 1280, "frames": 77}

    def check(self, settings: SamplerSettings) -> None:
        """See `ModelAdapter.check`."""
        super().check(settings)
        if settings.frames < self.time + 1:
            raise BadInput(f"{settings.frames} frames do not fit: this model needs at least {self.time + 1}")

    def geometry(self, settings: SamplerSettings) -> Geometry:
        """See `ModelAdapter.geometry`."""
        plain = super().geometry(settings)
        longer = {
            name: Grid(grid.frames + 1, *grid[1:]) for name in ("tokens", "latent") for grid in [getattr(plain, name)]
        }
        return plain._replace(**longer)

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        still = [picture(sample)] * settings.frames
        return {
            **without(super().inputs(sample, settings), ["num_frames"]),
            "image": picture(sample),
            "pose_video": still,
            "face_video": still,
            "segment_frame_length": settings.frames,
        }

    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`."""
        return decode_wan(self.pipeline, latent_bfyxc[:, 1:])


adapters.add("wan_animate", WanAnimate)
