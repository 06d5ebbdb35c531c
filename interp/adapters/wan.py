"""Wan 2.1 and 2.2, text to video and image to video: one denoiser or two experts, guidance as two forwards a step."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from math import lcm
from typing import Any, ClassVar

import torch

from interp.adapters import adapters
from interp.adapters._base import (
    Forward,
    Layout,
    ModelAdapter,
    Tensor,
    block_sites,
    check_frames,
    check_single,
    check_size,
    held_first,
    picture,
    pixels,
    question,
)
from interp.geometry import Geometry
from store.records import Sample, SamplerSettings

IMAGE = "WanImageToVideoPipeline"


class Wan(ModelAdapter):
    """With guidance, the cond and uncond forwards follow each other under cache contexts of these names.

    With `boundary_ratio` set, `transformer` runs the high-noise steps and `transformer_2` the low-noise ones. With
    `expand_timesteps` (TI2V-5B) image to video holds the first latent frame fixed: there x_s is the picture and the
    guided velocity 0, so that x̂0 is the picture, too.
    """

    pipelines: ClassVar[tuple[str, ...]] = (IMAGE, "WanPipeline")
    modules: ClassVar[Mapping[str, str]] = block_sites(cross="attn2", mlp="ffn")
    layout: ClassVar[Layout] = "named"

    def denoisers(self) -> dict[str, torch.nn.Module]:
        """See `ModelAdapter.denoisers`."""
        found = {name: getattr(self.pipeline, name, None) for name in ("transformer", "transformer_2")}
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
        check_size(settings, self.multiple)
        check_frames(settings.frames, self.time)
        if self.pipeline.config.get("boundary_ratio") is None:
            check_single(settings)

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        kwargs = question(sample, settings)
        if type(self.pipeline).__name__ == IMAGE:
            kwargs["image"] = picture(sample)
        if settings.guidance_2 is not None:
            kwargs["guidance_scale_2"] = settings.guidance_2
        return kwargs

    @property
    def alone(self) -> str | None:
        """See `ModelAdapter.alone`."""
        sees = getattr(self._config, "image_dim", None) is not None
        return super().alone or ("its image encoder repeats one picture for all videos of a call" if sees else None)

    def prepare(self, drawn_by: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """See `ModelAdapter.prepare`."""
        return encoded_once(drawn_by, *args, **kwargs)

    def guidance(self, settings: SamplerSettings, expert: str) -> float:
        """See `ModelAdapter.guidance`."""
        if settings.guidance <= 1:
            return 1.0
        second = settings.guidance if settings.guidance_2 is None else settings.guidance_2
        return second if expert == "transformer_2" else settings.guidance

    def given(self, sample: Tensor, guided: Tensor, geometry: Geometry, forward: Forward) -> tuple[Tensor, Tensor]:
        """See `ModelAdapter.given`."""
        latent, velocity = super().given(sample, guided, geometry, forward)
        if not self.held:
            return latent, velocity
        imposed = self.latent(forward.inputs["hidden_states"], geometry)[: len(latent), :1]
        return held_first(imposed, latent[:, 1:], velocity[:, 1:])

    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`."""
        return decode_wan(self.pipeline, latent_bfyxc)

    @property
    def held(self) -> int:
        """See `ModelAdapter.held`."""
        return int(type(self.pipeline).__name__ == IMAGE and bool(self.pipeline.config.get("expand_timesteps")))

    @property
    def patch(self) -> tuple[int, int, int]:
        """See `ModelAdapter.patch`."""
        return tuple(self._config.patch_size)

    @property
    def channels(self) -> int:
        """See `ModelAdapter.channels`."""
        return self.pipeline.vae.config.z_dim

    @property
    def multiple(self) -> int:
        """See `ModelAdapter.multiple`; the pipeline itself asks for 16."""
        return lcm(16, super().multiple)


def encoded_once(drawn_by: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`prepare_latents` of pipelines that encode all pictures of a batch again for each of its generators.

    They draw from each generator by its number, and then loop over the generators: b pictures would give b·b rows.
    """
    given = inspect.signature(drawn_by).bind(*args, **kwargs)
    if isinstance(given.arguments.get("generator"), list):
        given.arguments["generator"] = _Once(given.arguments["generator"])
    return drawn_by(*given.args, **given.kwargs)


class _Once(list[torch.Generator]):
    """Generators that a loop sees the first of."""

    def __iter__(self) -> Iterator[torch.Generator]:
        return itertools.islice(super().__iter__(), 1)


def decode_wan(pipeline: Any, latent_bfyxc: Tensor) -> Tensor:
    """Pixels `[b, f, y, x, 3]` of latent videos of `AutoencoderKLWan`, as the pipelines that share it decode them."""
    return pixels(pipeline, pipeline.vae.decode(denormalised(pipeline.vae, latent_bfyxc), return_dict=False)[0])


def denormalised(vae: Any, latent_bfyxc: Tensor) -> Tensor:
    """Latent videos of the sampler as `AutoencoderKLWan` decodes them, `[b, c, f, y, x]`."""
    mean, std = (
        torch.tensor(values, device=vae.device, dtype=vae.dtype)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    # The pipelines divide by the reciprocal, which rounds differently from a product.
    return (latent_bfyxc.to(vae.device, vae.dtype) / (1.0 / std) + mean).permute(0, 4, 1, 2, 3)


adapters.add("wan", Wan)
