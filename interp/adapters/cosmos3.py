"""Cosmos 3, a video from its first frame: one sequence of text and video tokens, each with weights of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers.pipelines.cosmos import pipeline_cosmos3_omni

from interp.adapters import adapters
from interp.adapters._base import Forward, Layout, ModelAdapter, Tensor, picture, question, without
from interp.adapters.wan import denormalised
from interp.geometry import Geometry
from store.records import Sample, SamplerSettings


class Cosmos3(ModelAdapter):
    """`Cosmos3OmniPipeline` with the picture as the first frame, without sound and without actions.

    Values have no batch: a forward is one branch. Text runs through the same blocks on weights of its own, and every
    site holds the video alone. Several heads share keys and values, which are therefore narrower than the stream and
    left out; so are `q` and `z`, where all heads together are not as wide as the stream. There is no `pattern`: text
    has an attention of its own, and the keys that the video looks at are more than its queries.

    Latent frame 0 is the picture from the start, and its velocity is 0. A checker that is not that of
    `cosmos_guardrail` is not asked.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("Cosmos3OmniPipeline",)
    singles: ClassVar[Mapping[str, str]] = {"Cosmos3OmniPipeline": "its forwards have no batch"}
    modules: ClassVar[Mapping[str, str]] = {
        "resid_pre": "",
        "resid_post": "",
        "attn_out": "self_attn",
        "mlp_out": "mlp_moe_gen",
        "q": "self_attn.norm_added_q",
        "z": "self_attn.to_add_out",
    }
    layout: ClassVar[Layout] = "named"

    def blocks(self, denoiser: Any) -> Sequence[torch.nn.Module]:
        """See `ModelAdapter.blocks`."""
        return denoiser.layers

    def module(self, block: torch.nn.Module, site: str) -> torch.nn.Module | None:
        """See `ModelAdapter.module`."""
        config = self._config
        narrow = config.num_attention_heads * config.head_dim != config.hidden_size
        return None if site in ("q", "z") and narrow else super().module(block, site)

    def rows(self, given: Mapping[str, Any]) -> int:
        """See `ModelAdapter.rows`."""
        return len(given["vision_tokens"])

    def hidden(self, value: Any, slot: str) -> Tensor:
        """See `ModelAdapter.hidden`; text comes first, then video, and neither has a batch."""
        if slot == "input":
            return value[0][:2][-1][None]  # some modules are given the video alone
        return (value[1] if isinstance(value, tuple) else value)[None]

    def replaced(self, value: Any, slot: str, hidden: Tensor) -> Any:
        """See `ModelAdapter.replaced`."""
        if slot == "input":
            args, kwargs = value
            return (*args[:1], hidden[0], *args[2:]) if len(args) > 1 else (hidden[0],), kwargs
        return (value[0], hidden[0], *value[2:]) if isinstance(value, tuple) else hidden[0]

    def moving(self, latent: Tensor, geometry: Geometry) -> Tensor:
        """See `ModelAdapter.moving`; the pipeline shows the scheduler a batch of one batch."""
        return super().moving(latent[0] if latent.ndim == 6 else latent, geometry)

    def defaults(self) -> dict[str, Any]:
        """The pipeline's own defaults (720×1280, 189 frames, 35 steps, guidance 6); prompts have no greatest length."""
        return {"steps": 35, "guidance": 6.0, "height": 720, "width": 1280, "frames": 189}

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        return {**without(question(sample, settings), ["max_sequence_length"]), "image": picture(sample)}

    def predicted(self, output: Any, geometry: Geometry, forward: Forward) -> Tensor:
        """See `ModelAdapter.predicted`; a list of one video."""
        return self.latent(output[0][0], geometry)

    def given(self, sample: Tensor, guided: Tensor, geometry: Geometry, forward: Forward) -> tuple[Tensor, Tensor]:
        """See `ModelAdapter.given`; the pipeline shows the scheduler a batch of one batch."""
        return super().given(sample[0], guided[0], geometry, forward)

    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`."""
        pipeline, vae = self.pipeline, self.pipeline.vae
        decoded = vae.decode(denormalised(vae, latent_bfyxc), return_dict=False)[0].to(latent_bfyxc.dtype)
        video = pipeline.video_processor.postprocess_video(decoded.detach(), output_type="pt")
        if isinstance(pipeline.safety_checker, pipeline_cosmos3_omni.CosmosSafetyChecker):
            video = pipeline._apply_video_safety_check(video[0], output_type="pt", device=vae.device)[None]
        return video.permute(0, 1, 3, 4, 2)

    @property
    def held(self) -> int:
        """See `ModelAdapter.held`."""
        return 1

    @property
    def width(self) -> int:
        """See `ModelAdapter.width`."""
        return self._config.hidden_size

    @property
    def patch(self) -> tuple[int, int, int]:
        """See `ModelAdapter.patch`."""
        return 1, self._config.latent_patch_size, self._config.latent_patch_size

    @property
    def channels(self) -> int:
        """See `ModelAdapter.channels`."""
        return self.pipeline.vae.config.z_dim

    @property
    def multiple(self) -> int:
        """See `ModelAdapter.multiple`; patches at the edges are filled up."""
        return self.space


adapters.add("cosmos3", Cosmos3)
