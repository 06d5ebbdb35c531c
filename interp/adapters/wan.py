"""Wan 2.1 and 2.2 image to video: one denoiser or two experts, guidance as two forwards a step."""

from __future__ import annotations

from math import lcm
from typing import Any, ClassVar

import PIL.Image
import torch

from interp.adapters import adapters
from interp.adapters._base import ModelAdapter, Tensor
from interp.errors import BadInput, UnsupportedModel
from interp.geometry import Geometry, Grid
from store.records import Sample, SamplerSettings


class Wan(ModelAdapter):
    """`WanImageToVideoPipeline`: with guidance, the cond and uncond forwards follow each other.

    The pipeline names each forward by `cache_context("cond")` or `("uncond")`, and that name is what
    a value is labelled by. With `boundary_ratio` set, `transformer` runs the high-noise steps and
    `transformer_2` the low-noise ones.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("WanImageToVideoPipeline",)

    def denoisers(self) -> dict[str, torch.nn.Module]:
        """See `ModelAdapter.denoisers`."""
        found = {name: getattr(self.pipeline, name) for name in ("transformer", "transformer_2")}
        return {name: module for name, module in found.items() if module is not None}

    def blocks(self, denoiser: Any) -> torch.nn.ModuleList:
        """See `ModelAdapter.blocks`."""
        return denoiser.blocks

    def defaults(self) -> dict[str, Any]:
        """The pipeline's own defaults (480×832, 81 frames, 50 steps, guidance 5)."""
        return {
            "steps": 50,
            "guidance": 5.0,
            "height": 480,
            "width": 832,
            "frames": 81,
            "max_sequence_length": 512,
        }

    def check(self, settings: SamplerSettings) -> None:
        """See `ModelAdapter.check`."""
        _, patch_y, patch_x = self._patch
        for name, value, multiple in (
            ("height", settings.height, lcm(16, self._space * patch_y)),
            ("width", settings.width, lcm(16, self._space * patch_x)),
        ):
            if value % multiple:
                raise BadInput(f"{name} {value} does not fit: this model needs a multiple of {multiple} pixels")
        if (settings.frames - 1) % self._time:
            near = (settings.frames - 1) // self._time * self._time + 1
            raise BadInput(
                f"{settings.frames} frames do not fit: this model needs 1 + a multiple of {self._time}, "
                f"for example {near} or {near + self._time}"
            )
        if settings.guidance_2 is not None and self.pipeline.config.boundary_ratio is None:
            raise BadInput("guidance_2 was given, but this model has one denoiser; leave it out")

    def geometry(self, settings: SamplerSettings) -> Geometry:
        """See `ModelAdapter.geometry`."""
        denoisers = self.denoisers()
        first: Any = next(iter(denoisers.values()))
        patch_t, patch_y, patch_x = self._patch
        latent = Grid(
            (settings.frames - 1) // self._time + 1,
            settings.height // self._space,
            settings.width // self._space,
        )
        return Geometry(
            layers=len(self.blocks(first)),
            width=first.config.num_attention_heads * first.config.attention_head_dim,
            experts=tuple(denoisers),
            tokens=Grid(latent.frames // patch_t, latent.height // patch_y, latent.width // patch_x),
            latent=latent,
            latent_channels=self.pipeline.vae.config.z_dim,
            video=Grid(settings.frames, settings.height, settings.width),
        )

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        kwargs: dict[str, Any] = {
            "image": PIL.Image.fromarray(sample.first_frame),
            "prompt": sample.record.prompt,
            "negative_prompt": sample.record.negative_prompt,
            "height": settings.height,
            "width": settings.width,
            "num_frames": settings.frames,
            "num_inference_steps": settings.steps,
            "guidance_scale": settings.guidance,
            "max_sequence_length": settings.max_sequence_length,
        }
        if settings.guidance_2 is not None:
            kwargs["guidance_scale_2"] = settings.guidance_2
        return kwargs

    def guidance(self, settings: SamplerSettings, expert: str) -> float:
        """See `ModelAdapter.guidance`."""
        if settings.guidance <= 1:
            return 1.0
        second = settings.guidance if settings.guidance_2 is None else settings.guidance_2
        return second if expert == "transformer_2" else settings.guidance

    def branches(self, context: str | None) -> tuple[str, ...]:
        """See `ModelAdapter.branches`.

        Raises:
            UnsupportedModel: if the pipeline does not name its forwards.
        """
        if context not in ("cond", "uncond"):
            raise UnsupportedModel(
                f"a denoiser ran under the context {context!r}, not 'cond' or 'uncond': "
                "this version of diffusers labels its branches in another way"
            )
        return (context,)

    def tokens(self, hidden_bnc: Tensor, geometry: Geometry) -> Tensor:
        """See `ModelAdapter.tokens`; Wan has video tokens only, frame by frame, row by row."""
        return hidden_bnc.unflatten(1, geometry.tokens)

    def latent(self, latent: Tensor, geometry: Geometry) -> Tensor:
        """See `ModelAdapter.latent`; the sampler keeps channels before frames."""
        return latent.permute(0, 2, 3, 4, 1)

    def decode(self, latent_fyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`."""
        vae = self.pipeline.vae
        config = vae.config
        mean, std = (
            torch.tensor(values, device=vae.device, dtype=vae.dtype)
            for values in (config.latents_mean, config.latents_std)
        )
        # The pipeline divides by the reciprocal, which rounds differently from a product.
        scaled = latent_fyxc.to(vae.device, vae.dtype) / (1.0 / std) + mean
        video = vae.decode(scaled.permute(3, 0, 1, 2)[None], return_dict=False)[0]
        pixels = self.pipeline.video_processor.postprocess_video(video, output_type="pt")
        return pixels[0].permute(0, 2, 3, 1)

    @property
    def _patch(self) -> tuple[int, int, int]:
        first: Any = next(iter(self.denoisers().values()))
        return tuple(first.config.patch_size)

    @property
    def _space(self) -> int:
        return self.pipeline.vae_scale_factor_spatial

    @property
    def _time(self) -> int:
        return self.pipeline.vae_scale_factor_temporal


adapters.add("wan", Wan)
