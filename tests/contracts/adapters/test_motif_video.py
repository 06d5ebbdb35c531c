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
    joint = True
    partial: ClassVar = {"mlp_out": (0, 1), "cross_attn_out": (2,)}
    refused: ClassVar = (*AdapterContract.refused, ({"guidance": 4.0}, "guider.new(guidance_scale=4)"))

    def blocks(self, denoiser: Any) -> Any:
        return [*denoiser.transformer_blocks, *denoiser.single_transformer_blocks]

    def module(self, block: Any, path: str) -> Any:
        """Blocks of one stream project attention and MLP together, outside the attention."""
        return block.attn if path == self.modules["z"] and not hasattr(block, "ff") else super().module(block, path)

    def slot(self, block: Any, site: str) -> str:
        return "output" if site == "z" and not hasattr(block, "ff") else super().slot(block, site)


class TestTextToVideo(MotifVideoContract):
    build = staticmethod(motif_video.pipeline)


class TestImageToVideo(MotifVideoContract):
    build = partial(motif_video.pipeline, image=True)
