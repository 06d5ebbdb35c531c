"""Motif-Video."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from tests.contracts.adapters.contract import AdapterContract
from tests.contracts.adapters.support import STREAM_SITES
from tests.tiny_models import motif_video


class MotifVideoContract(AdapterContract):
    size: ClassVar[dict[str, Any]] = {"height": 64, "width": 96, "frames": 9, "max_sequence_length": 8}
    modules: ClassVar = {**STREAM_SITES, "cross_attn_out": "cross_attn"}
    partial: ClassVar = {"mlp_out": (0, 1), "cross_attn_out": (2,)}
    refused: ClassVar = (*AdapterContract.refused, ({"guidance": 4.0}, "guider.new(guidance_scale=4)"))

    def blocks(self, denoiser: Any) -> Any:
        return [*denoiser.transformer_blocks, *denoiser.single_transformer_blocks]


class TestTextToVideo(MotifVideoContract):
    build = staticmethod(motif_video.pipeline)


class TestImageToVideo(MotifVideoContract):
    build = partial(motif_video.pipeline, image=True)
