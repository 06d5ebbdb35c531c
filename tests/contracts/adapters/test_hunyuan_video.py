"""HunyuanVideo and SkyReels V1."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch

import interp
from tests.contracts.adapters.contract import AdapterContract, last_result
from tests.tiny_models import hunyuan_video


class HunyuanVideoContract(AdapterContract):
    # The pipeline's template is 500 letters long, and the tokenizer makes a token of each.
    size: ClassVar[dict[str, Any]] = {"height": 64, "width": 96, "frames": 9, "max_sequence_length": 440}
    modules: ClassVar = {
        "resid_pre": "",
        "resid_post": "",
        "attn_out": "attn",
        "mlp_out": "ff",
        "q": "attn.norm_q",
        "k": "attn.norm_k",
        "v": "attn.to_v",
        "z": "attn.to_out.0",
        "pattern": "attn",
    }
    partial: ClassVar = {"mlp_out": (0, 1)}
    joint = True
    prompt_free = ("resid_pre",)
    """A pooled prompt goes into the modulation before attention."""

    def blocks(self, denoiser: Any) -> Any:
        return [*denoiser.transformer_blocks, *denoiser.single_transformer_blocks]

    def module(self, block: Any, path: str) -> Any:
        """Blocks of one stream project attention and MLP together, outside the attention."""
        return block.attn if path == self.modules["z"] and not hasattr(block, "ff") else super().module(block, path)

    def slot(self, block: Any, site: str) -> str:
        return "output" if site == "z" and not hasattr(block, "ff") else super().slot(block, site)

    def test_blocks_of_both_kinds_lie_on_one_grid(self, model: interp.Model) -> None:
        """What each block gives is what the next one is given."""
        run = self.trace(model, ["resid_pre", "resid_post"], steps=1)
        for layer in range(3):
            assert torch.equal(self.first(run, "resid_post", layer), self.first(run, "resid_pre", layer + 1))


class TestTextToVideo(HunyuanVideoContract):
    build = staticmethod(hunyuan_video.text_to_video)


class TestTrueGuidance(HunyuanVideoContract):
    """A transformer that takes no guidance scale."""

    build = partial(hunyuan_video.text_to_video, guidance=False)


class TestSkyReels(HunyuanVideoContract):
    build = staticmethod(hunyuan_video.skyreels)


class TestImageReplacesFrame0(HunyuanVideoContract):
    places = ((1, 2, 4), (2, 3, 5), (2, 0, 5))

    build = partial(hunyuan_video.image_to_video, condition="token_replace")

    def moving(self, value_fyxc: torch.Tensor) -> torch.Tensor:
        return value_fyxc[1:]


class TestImageBesideNoise(HunyuanVideoContract):
    """The pipeline throws four frames away."""

    size: ClassVar[dict[str, Any]] = {**HunyuanVideoContract.size, "frames": 13}
    refused: ClassVar = (*AdapterContract.refused, ({"frames": 1}, "at least 5"))

    build = partial(hunyuan_video.image_to_video, condition="latent_concat")

    def final(self, model: interp.Model, inputs: dict[str, Any]) -> torch.Tensor:
        return last_result(model, inputs)
