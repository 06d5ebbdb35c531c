"""Sana-Video, text to video and image to video: linear attention, one forward with both branches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import lcm
from typing import Any, ClassVar

from interp.adapters import adapters
from interp.adapters._base import (
    Forward,
    Layout,
    ModelAdapter,
    Place,
    Tensor,
    block_sites,
    held_first,
    picture,
    question,
    without,
)
from interp.adapters.wan import decode_wan, encoded_once
from interp.errors import BadInput
from interp.geometry import Geometry
from store.records import Sample, SamplerSettings

IMAGE = "SanaImageToVideoPipeline"


class SanaVideo(ModelAdapter):
    """`SanaVideoPipeline` and `SanaImageToVideoPipeline` with the VAE of Wan, at exactly the size that is asked for.

    Image to video holds latent frame 0 fixed and shows the scheduler the others only: there x_s is the picture and the
    guided velocity 0. Attention is linear, so that q and k are what goes into its kernel, before rotation, and there is
    no `pattern`.
    """

    pipelines: ClassVar[tuple[str, ...]] = (IMAGE, "SanaVideoPipeline")
    modules: ClassVar[Mapping[str, str]] = block_sites(cross="attn2", pattern=False)
    layout: ClassVar[Layout] = "batch"

    def defaults(self) -> dict[str, Any]:
        """The pipelines' own defaults (480×832, 81 frames, 50 steps, guidance 6)."""
        return {
            "steps": 50,
            "guidance": 6.0,
            "height": 480,
            "width": 832,
            "frames": 81,
            "max_sequence_length": 300,
        }

    def check(self, settings: SamplerSettings) -> None:
        """See `ModelAdapter.check`."""
        super().check(settings)
        if type(self.pipeline.vae).__name__ != "AutoencoderKLWan":
            raise BadInput(f"latents of {type(self.pipeline.vae).__name__} cannot be read; use AutoencoderKLWan")

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        kwargs = without(question(sample, settings), ["num_frames"])
        kwargs |= {"frames": settings.frames, "use_resolution_binning": False}
        return {**kwargs, "image": picture(sample)} if self._image else kwargs

    def prepare(self, drawn_by: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """See `ModelAdapter.prepare`."""
        return encoded_once(drawn_by, *args, **kwargs)

    def tokens(self, hidden: Tensor, geometry: Geometry, place: Place) -> Tensor:
        """See `ModelAdapter.tokens`; the MLP convolves along time, on the grid."""
        return hidden if hidden.ndim == 5 else super().tokens(hidden, geometry, place)

    def predicted(self, output: Any, geometry: Geometry, forward: Forward) -> Tensor:
        """See `ModelAdapter.predicted`."""
        return self.latent(output[0][:, : self.channels], geometry)

    def given(self, sample: Tensor, guided: Tensor, geometry: Geometry, forward: Forward) -> tuple[Tensor, Tensor]:
        """See `ModelAdapter.given`."""
        latent, velocity = super().given(sample, guided, geometry, forward)
        if not self._image:
            return latent, velocity
        held = self.latent(forward.inputs["hidden_states"], geometry)[: len(latent), :1]
        return held_first(held, latent, velocity)

    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`."""
        return decode_wan(self.pipeline, latent_bfyxc)

    @property
    def held(self) -> int:
        """See `ModelAdapter.held`."""
        return int(self._image)

    @property
    def patch(self) -> tuple[int, int, int]:
        """See `ModelAdapter.patch`."""
        frames, rows, columns = self._config.patch_size
        return frames, rows, columns

    @property
    def channels(self) -> int:
        """See `ModelAdapter.channels`."""
        return self.pipeline.vae.config.z_dim

    @property
    def multiple(self) -> int:
        """See `ModelAdapter.multiple`; the pipeline itself asks for 32."""
        return lcm(32, super().multiple)

    @property
    def _image(self) -> bool:
        return type(self.pipeline).__name__ == IMAGE


adapters.add("sana_video", SanaVideo)
