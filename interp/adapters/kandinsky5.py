"""Kandinsky 5, text to video and image to video: cond and uncond one after the other, channels last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

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
from interp.errors import BadInput
from interp.geometry import Geometry
from store.records import Sample, SamplerSettings

IMAGE = "Kandinsky5I2VPipeline"
FITTED = 4
"""Latent frames that image to video fits to those behind them before it decodes."""


class Kandinsky5(ModelAdapter):
    """`Kandinsky5T2VPipeline` and `Kandinsky5I2VPipeline`, with regular attention.

    The sampler holds latents as `[b, f, y, x, c]` and writes each step's result into them. Image to video holds latent
    frame 0 fixed and shows the scheduler the others only: there x_s is the picture and the guided velocity 0. Sparse
    attention (`nabla`) orders tokens in another way and is refused.
    """

    pipelines: ClassVar[tuple[str, ...]] = (IMAGE, "Kandinsky5T2VPipeline")
    singles: ClassVar[Mapping[str, str]] = {
        IMAGE: "it pads prompts to the longest of a call, and the video attends to the padding",
        "Kandinsky5T2VPipeline": "it pads prompts to the longest of a call, and the video attends to the padding",
    }
    modules: ClassVar[Mapping[str, str]] = block_sites(
        "self_attention",
        cross="cross_attention",
        mlp="feed_forward",
        q="query_norm",
        k="key_norm",
        v="to_value",
        z="out_layer",
    )
    layout: ClassVar[Layout] = "order"

    def blocks(self, denoiser: Any) -> Sequence[torch.nn.Module]:
        """See `ModelAdapter.blocks`."""
        return denoiser.visual_transformer_blocks

    def defaults(self) -> dict[str, Any]:
        """The pipelines' own defaults (512×768, 121 frames, 50 steps, guidance 5)."""
        return {
            "steps": 50,
            "guidance": 5.0,
            "height": 512,
            "width": 768,
            "frames": 121,
            "max_sequence_length": 512,
        }

    def check(self, settings: SamplerSettings) -> None:
        """See `ModelAdapter.check`."""
        super().check(settings)
        if self._config.attention_type != "regular":
            raise BadInput(
                f"this model's attention is {self._config.attention_type!r}, whose tokens lie in an order of its own; "
                "only models with regular attention can be traced"
            )
        fewest = FITTED * self.time + 1
        if self._image and settings.frames < fewest:
            raise BadInput(f"{settings.frames} frames do not fit: with a picture, this model needs at least {fewest}")

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        kwargs = question(sample, settings)
        return {**kwargs, "image": picture(sample)} if self._image else kwargs

    def given(self, sample: Tensor, guided: Tensor, geometry: Geometry, forward: Forward) -> tuple[Tensor, Tensor]:
        """See `ModelAdapter.given`."""
        latent, velocity = super().given(sample, guided, geometry, forward)
        if not self._image:
            return latent.clone(), velocity  # the pipeline is about to write into it
        held = self.latent(forward.inputs["hidden_states"], geometry)[: len(latent), :1, ..., : self.channels]
        return held_first(held, latent, velocity)

    def latent(self, latent: Tensor, geometry: Geometry) -> Tensor:
        """See `ModelAdapter.latent`."""
        return latent

    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`; image to video first fits four frames to the mean and spread of the next."""
        pipeline, vae = self.pipeline, self.pipeline.vae
        latent = latent_bfyxc.to(vae.device)
        if self._image:
            latent = pipeline.normalize_first_frame(latent)
        latent = latent.to(vae.dtype).permute(0, 4, 1, 2, 3)
        video = vae.decode(latent / vae.config.scaling_factor).sample
        return pixels(pipeline, video)

    @property
    def width(self) -> int:
        """See `ModelAdapter.width`."""
        return self._config.model_dim

    @property
    def heads(self) -> int:
        """See `ModelAdapter.heads`."""
        return self.width // sum(self._config.axes_dims)

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
    def _image(self) -> bool:
        return type(self.pipeline).__name__ == IMAGE


adapters.add("kandinsky5", Kandinsky5)
