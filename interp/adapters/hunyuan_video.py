"""HunyuanVideo, text to video and image to video, and SkyReels V1: blocks of two kinds, guidance built in or true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

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
    without,
)
from interp.errors import BadInput
from interp.geometry import Geometry
from interp.sites import LayerSite
from store.records import Sample, SamplerSettings

TEXT = "HunyuanVideoPipeline"
IMAGE = "HunyuanVideoImageToVideoPipeline"
SKYREELS = "HunyuanSkyreelsImageToVideoPipeline"


class HunyuanVideo(ModelAdapter):
    """`HunyuanVideoPipeline`, `HunyuanVideoImageToVideoPipeline` and `HunyuanSkyreelsImageToVideoPipeline`.

    Layers are the blocks of two streams and then those of one. A block of one stream has no `mlp_out`: its attention
    and its MLP share one output projection, so its `attn_out` is what attention hands to that, the same as its `z`.
    There q, k and v hold text behind video.

    Where the transformer takes the guidance scale as an input (`guidance_embeds`), only the cond branch runs and the
    scale in force is 1. Otherwise, and always with SkyReels, guidance is a second forward under the negative prompt.

    Image to video comes in two kinds. With `token_replace` latent frame 0 is held fixed and the scheduler sees the
    others: there x_s is the picture and the guided velocity 0. With `latent_concat` the pipeline throws the first four
    frames of the decoded video away, so the video is four frames shorter than asked.
    """

    pipelines: ClassVar[tuple[str, ...]] = (IMAGE, TEXT, SKYREELS)
    singles: ClassVar[Mapping[str, str]] = {IMAGE: "it reads one picture a call, together with the prompt"}
    modules: ClassVar[Mapping[str, str]] = block_sites("attn")
    layout: ClassVar[Layout] = "order"
    joint: ClassVar[bool] = True
    text: ClassVar[Literal["none", "first", "last"]] = "last"

    def blocks(self, denoiser: Any) -> Sequence[torch.nn.Module]:
        """See `ModelAdapter.blocks`."""
        return [*denoiser.transformer_blocks, *denoiser.single_transformer_blocks]

    def module(self, block: torch.nn.Module, site: str) -> torch.nn.Module | None:
        """See `ModelAdapter.module`."""
        if hasattr(block, "ff") or site not in ("mlp_out", "z"):
            return super().module(block, site)
        return super().module(block, "attn_out") if site == "z" else None

    def slot(self, block: torch.nn.Module, site: LayerSite) -> str:
        """See `ModelAdapter.slot`."""
        return "output" if site.name == "z" and not hasattr(block, "ff") else super().slot(block, site)

    def text_layers(self, site: str) -> tuple[int, ...]:
        """See `ModelAdapter.text_layers`."""
        first = len(next(iter(self.denoisers().values())).transformer_blocks)  # pyright: ignore[reportArgumentType]
        return tuple(layer for layer in self.layers(site) if layer >= first) if site in ("q", "k", "v") else ()

    def defaults(self) -> dict[str, Any]:
        """The pipelines' own defaults, but for guidance where theirs is none."""
        size = {"height": 544, "width": 960, "frames": 97} if self._kind == SKYREELS else {}
        return {
            "steps": 50,
            "guidance": 6.0,
            "height": 720,
            "width": 1280,
            "frames": 129,
            "max_sequence_length": 256,
            **size,
        }

    def check(self, settings: SamplerSettings) -> None:
        """See `ModelAdapter.check`."""
        super().check(settings)
        if self._cut and settings.frames <= self._cut:
            raise BadInput(f"{settings.frames} frames do not fit: this model needs at least {self._cut + 1}")

    def geometry(self, settings: SamplerSettings) -> Geometry:
        """See `ModelAdapter.geometry`."""
        plain = super().geometry(settings)
        return plain._replace(video=plain.video._replace(frames=settings.frames - self._cut))

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        kwargs = without(question(sample, settings), ["guidance_scale"])
        kwargs |= {
            "guidance_scale": settings.guidance if self._built_in else 1.0,
            "true_cfg_scale": 1.0 if self._built_in else settings.guidance,
        }
        return kwargs if self._kind == TEXT else {**kwargs, "image": picture(sample)}

    def guidance(self, settings: SamplerSettings, expert: str) -> float:
        """See `ModelAdapter.guidance`."""
        return 1.0 if self._built_in else max(settings.guidance, 1.0)

    def given(self, sample: Tensor, guided: Tensor, geometry: Geometry, forward: Forward) -> tuple[Tensor, Tensor]:
        """See `ModelAdapter.given`."""
        latent, velocity = super().given(sample, guided, geometry, forward)
        if not self.held:
            return latent, velocity
        held = self.latent(forward.inputs["hidden_states"], geometry)[: len(latent), :1]
        return held_first(held, latent, velocity)

    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`."""
        vae = self.pipeline.vae
        latent = latent_bfyxc.to(vae.device, vae.dtype).permute(0, 4, 1, 2, 3)
        video = vae.decode(latent / vae.config.scaling_factor, return_dict=False)[0][:, :, self._cut :]
        return pixels(self.pipeline, video)

    @property
    def held(self) -> int:
        """See `ModelAdapter.held`."""
        return int(self._condition == "token_replace")

    @property
    def patch(self) -> tuple[int, int, int]:
        """See `ModelAdapter.patch`."""
        return self._config.patch_size_t, self._config.patch_size, self._config.patch_size

    @property
    def _kind(self) -> str:
        return type(self.pipeline).__name__

    @property
    def _condition(self) -> str | None:
        return self._config.image_condition_type if self._kind == IMAGE else None

    @property
    def _cut(self) -> int:
        """Video frames that the pipeline throws away."""
        return 4 if self._condition == "latent_concat" else 0

    @property
    def _built_in(self) -> bool:
        """Whether the guidance scale is an input of the transformer."""
        return self._config.guidance_embeds and self._kind != SKYREELS


adapters.add("hunyuan_video", HunyuanVideo)
