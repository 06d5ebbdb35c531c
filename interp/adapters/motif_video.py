"""Motif-Video, text to video and image to video: blocks of two streams, of one, and of a decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch

from interp.adapters import adapters
from interp.adapters._base import Tensor, block_sites, picture, pixels, question, without
from interp.adapters._guider import GuidedByGuider
from interp.sites import LayerSite
from store.records import Sample, SamplerSettings

IMAGE = "MotifVideoImage2VideoPipeline"


class MotifVideo(GuidedByGuider):
    """`MotifVideoPipeline` and `MotifVideoImage2VideoPipeline`.

    Layers are the blocks of two streams and then those of one, the last `num_decoder_layers` of which begin anew from
    the latents' patches and attend to what the others made of the video in the place of the text. A block of one stream
    has no `mlp_out`, and its q, k and v hold text (or that video) behind video; its `attn_out` is what attention hands
    to the projection that it shares with the MLP, the same as its `z`. Blocks without attention to the text alone have
    no `cross_attn_out`.
    """

    pipelines: ClassVar[tuple[str, ...]] = (IMAGE, "MotifVideoPipeline")
    singles: ClassVar[Mapping[str, str]] = {IMAGE: "it takes one picture a call"}
    modules: ClassVar[Mapping[str, str]] = block_sites("attn", cross="cross_attn")
    joint: ClassVar[bool] = True
    text: ClassVar[Literal["none", "first", "last"]] = "last"

    def blocks(self, denoiser: Any) -> Sequence[torch.nn.Module]:
        """See `ModelAdapter.blocks`."""
        return [*denoiser.transformer_blocks, *denoiser.single_transformer_blocks]

    def module(self, block: torch.nn.Module, site: str) -> torch.nn.Module | None:
        """See `ModelAdapter.module`."""
        if site in ("cross_attn_out", "mlp_out"):
            return getattr(block, self.modules[site], None)
        return super().module(block, "attn_out" if site == "z" and not hasattr(block, "ff") else site)

    def slot(self, block: torch.nn.Module, site: LayerSite) -> str:
        """See `ModelAdapter.slot`."""
        return "output" if site.name == "z" and not hasattr(block, "ff") else super().slot(block, site)

    def text_layers(self, site: str) -> tuple[int, ...]:
        """See `ModelAdapter.text_layers`."""
        first = self._config.num_layers
        return tuple(layer for layer in self.layers(site) if layer >= first) if site in ("q", "k", "v") else ()

    def defaults(self) -> dict[str, Any]:
        """The pipelines' own defaults (736×1280, 121 frames, 50 steps)."""
        return {
            "steps": 50,
            "guidance": self.scale,
            "height": 736,
            "width": 1280,
            "frames": 121,
            "max_sequence_length": 512,
        }

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        kwargs = without(question(sample, settings), ["guidance_scale"])
        return {**kwargs, "image": picture(sample)} if type(self.pipeline).__name__ == IMAGE else kwargs

    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`."""
        pipeline, vae = self.pipeline, self.pipeline.vae
        latent = latent_bfyxc.to(vae.device, vae.dtype).permute(0, 4, 1, 2, 3)
        scaled = pipeline._denormalize_latents(latent, vae.config.latents_mean, vae.config.latents_std)
        return pixels(pipeline, vae.decode(scaled, return_dict=False)[0])

    @property
    def patch(self) -> tuple[int, int, int]:
        """See `ModelAdapter.patch`."""
        return self._config.patch_size_t, self._config.patch_size, self._config.patch_size

    @property
    def channels(self) -> int:
        """See `ModelAdapter.channels`."""
        return self.pipeline.vae.config.z_dim


adapters.add("motif_video", MotifVideo)
