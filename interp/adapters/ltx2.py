"""LTX-2, text to video and image to video: sound is denoised beside the video, in a stream of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition

from interp.adapters import adapters
from interp.adapters._base import picture
from interp.adapters.ltx import LTX
from store.records import Sample, SamplerSettings

IMAGE = "LTX2ImageToVideoPipeline"
CONDITION = "LTX2ConditionPipeline"
PLAIN: dict[str, Any] = {
    "stg_scale": 0.0,
    "modality_scale": 1.0,
    "guidance_rescale": 0.0,
    "audio_guidance_scale": None,
    "audio_stg_scale": 0.0,
    "audio_modality_scale": 1.0,
    "audio_guidance_rescale": 0.0,
    "spatio_temporal_guidance_blocks": None,
}
"""Guidance between cond and uncond alone, of one scale for video and sound."""


class LTX2(LTX):
    """`LTX2Pipeline`, `LTX2ImageToVideoPipeline` and `LTX2ConditionPipeline` with the picture as frame 0.

    What is captured is the video's stream. Sound meets it in a block between `cross_attn_out` and `mlp_out`, so that
    `resid_post` holds what the video heard. Where heads have gates (`gated_attn`), `z` is behind them. Guidance is the
    plain one: the pipelines' defaults would run two more forwards a step, for spatio-temporal and for modality
    guidance, and rescale.

    Image to video holds latent frame 0 fixed, as LTX-Video does; the condition pipeline shows it to the scheduler with
    velocity 0.
    """

    pipelines: ClassVar[tuple[str, ...]] = (CONDITION, IMAGE, "LTX2Pipeline")
    singles: ClassVar[Mapping[str, str]] = {
        IMAGE: "it compresses one picture a call",
        CONDITION: "it draws all videos of a call from one generator",
    }
    hiding: ClassVar[str] = IMAGE
    restarts: ClassVar[bool] = False

    def defaults(self) -> dict[str, Any]:
        """The pipelines' own defaults (512×768, 30 steps, guidance 3), and 121 frames."""
        return {
            "steps": 30,
            "guidance": 3.0,
            "height": 512,
            "width": 768,
            "frames": 121,
            "max_sequence_length": 1024,
        }

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        kwargs = {**super().inputs(sample, settings), **PLAIN}
        if type(self.pipeline).__name__ == CONDITION:
            kwargs["conditions"] = [LTX2VideoCondition(frames=picture(sample), index=0, strength=1.0)]
        return kwargs

    @property
    def held(self) -> int:
        """See `ModelAdapter.held`."""
        return int(type(self.pipeline).__name__ in (CONDITION, IMAGE))


adapters.add("ltx2", LTX2)
