"""LTX-Video, text to video and image to video: one forward with both branches, latents packed as tokens."""

from __future__ import annotations

from collections.abc import Mapping
from math import lcm
from typing import Any, ClassVar

from interp.adapters import adapters
from interp.adapters._base import (
    Forward,
    Layout,
    ModelAdapter,
    Tensor,
    block_sites,
    held_first,
    picture,
    pixels,
    question,
)
from interp.geometry import Geometry
from store.records import Sample, SamplerSettings

IMAGE = "LTXImageToVideoPipeline"


class LTX(ModelAdapter):
    """`LTXPipeline` and `LTXImageToVideoPipeline`.

    The sampler holds latents packed, `[b, n, c]`, one row a token. Image to video holds latent frame 0 fixed and shows
    the scheduler the others only: there x_s is the picture and the guided velocity 0, so that x̂0 is the picture, too.
    A VAE with timestep conditioning decodes at timestep 0, the pipeline's default, where it adds no noise.
    """

    pipelines: ClassVar[tuple[str, ...]] = (IMAGE, "LTXPipeline")
    hiding: ClassVar[str] = IMAGE
    """Which of them hides latent frame 0 from the scheduler."""
    modules: ClassVar[Mapping[str, str]] = block_sites(cross="attn2")
    layout: ClassVar[Layout] = "batch"

    def defaults(self) -> dict[str, Any]:
        """The pipeline's own defaults (512×704, 161 frames, 50 steps, guidance 3)."""
        return {
            "steps": 50,
            "guidance": 3.0,
            "height": 512,
            "width": 704,
            "frames": 161,
            "max_sequence_length": 128,
        }

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        kwargs = question(sample, settings)
        if self._image:
            kwargs["image"] = picture(sample)
        return kwargs

    def latent(self, latent: Tensor, geometry: Geometry) -> Tensor:
        """See `ModelAdapter.latent`; `latent` is packed, or unpacked as the scheduler of image to video sees it."""
        if latent.ndim == 3:
            latent = self.pipeline._unpack_latents(latent, *geometry.tokens, *self.patch[1::-1])
        return super().latent(latent, geometry)

    def given(self, sample: Tensor, guided: Tensor, geometry: Geometry, forward: Forward) -> tuple[Tensor, Tensor]:
        """See `ModelAdapter.given`."""
        latent, velocity = super().given(sample, guided, geometry, forward)
        if not self._image:
            return latent, velocity
        held = self.latent(forward.inputs["hidden_states"], geometry)[: len(latent), :1]
        return held_first(held, latent, velocity)

    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`."""
        pipeline, vae = self.pipeline, self.pipeline.vae
        scaled = pipeline._denormalize_latents(
            latent_bfyxc.to(vae.device).permute(0, 4, 1, 2, 3),
            vae.latents_mean,
            vae.latents_std,
            vae.config.scaling_factor,
        ).to(vae.dtype)
        timestep = scaled.new_zeros(1) if vae.config.timestep_conditioning else None
        video = vae.decode(scaled, timestep, return_dict=False)[0]
        return pixels(pipeline, video)

    @property
    def held(self) -> int:
        """See `ModelAdapter.held`."""
        return int(self._image)

    @property
    def patch(self) -> tuple[int, int, int]:
        """See `ModelAdapter.patch`."""
        return self._config.patch_size_t, self._config.patch_size, self._config.patch_size

    @property
    def space(self) -> int:
        """See `ModelAdapter.space`."""
        return self.pipeline.vae_spatial_compression_ratio

    @property
    def time(self) -> int:
        """See `ModelAdapter.time`."""
        return self.pipeline.vae_temporal_compression_ratio

    @property
    def multiple(self) -> int:
        """See `ModelAdapter.multiple`; the pipeline itself asks for 32."""
        return lcm(32, super().multiple)

    @property
    def _image(self) -> bool:
        return type(self.pipeline).__name__ == self.hiding


adapters.add("ltx", LTX)
