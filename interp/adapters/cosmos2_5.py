"""Cosmos 2.5, a video from its first frame: flow matching."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from diffusers.pipelines.cosmos import pipeline_cosmos2_5_predict

from interp.adapters import adapters
from interp.adapters._base import Forward, ModelAdapter, Tensor, pixels
from interp.adapters.cosmos2 import Cosmos2, guarded
from interp.adapters.wan import denormalised
from interp.geometry import Geometry
from store.records import Sample, SamplerSettings


class Cosmos25(Cosmos2):
    """`Cosmos2_5_PredictBasePipeline` with the picture as the first frame.

    The scale in force, latent frame 0 and the safety checker are as in Cosmos 2; a checker that is not that of
    `cosmos_guardrail` sees the prompt only.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("Cosmos2_5_PredictBasePipeline",)
    singles: ClassVar[Mapping[str, str]] = {"Cosmos2_5_PredictBasePipeline": "it takes one video or picture a call"}
    exploding: ClassVar[bool] = False

    def defaults(self) -> dict[str, Any]:
        """The pipeline's own defaults (704×1280, 93 frames, 36 steps, guidance 7)."""
        return {**super().defaults(), "steps": 36}

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`; as a video of one frame, which needs no torchvision."""
        return {**super().inputs(sample, settings), "num_latent_conditional_frames": 1}

    def predicted(self, output: Any, geometry: Geometry, forward: Forward) -> Tensor:
        """See `ModelAdapter.predicted`."""
        return ModelAdapter.predicted(self, output, geometry, forward)

    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`."""
        pipeline, vae = self.pipeline, self.pipeline.vae
        video = vae.decode(denormalised(vae, latent_bfyxc), return_dict=False)[0]
        checked = isinstance(pipeline.safety_checker, pipeline_cosmos2_5_predict.CosmosSafetyChecker)
        return pixels(pipeline, guarded(pipeline, video) if checked else video)


adapters.add("cosmos2_5", Cosmos25)
