"""HunyuanVideo and SkyReels V1."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from diffusers.pipelines.hunyuan_video import pipeline_hunyuan_video_framepack

import interp
from tests.contracts.adapters.contract import AdapterContract
from tests.contracts.adapters.support import STREAM_SITES, last_result
from tests.tiny_models import hunyuan_video


class HunyuanVideoContract(AdapterContract):
    # The pipeline's template is 500 letters long, and the tokenizer makes a token of each.
    size: ClassVar[dict[str, Any]] = {"height": 64, "width": 96, "frames": 9, "max_sequence_length": 440}
    modules = STREAM_SITES
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


class TestFramepack(HunyuanVideoContract):
    """One window of two latent frames behind the picture."""

    places = ((1, 2, 4), (2, 3, 5), (2, 0, 5))
    looking = ((1, 1, 1), (2, 2, 2))
    draws = pipeline_hunyuan_video_framepack
    refused: ClassVar = (*AdapterContract.refused, ({"frames": 1}, "at least 5"))

    build = staticmethod(hunyuan_video.framepack)

    def at(self, token: int, grid: interp.Grid, length: int) -> int:
        """Behind 14 tokens of the history lie the picture, an empty frame and the window."""
        frame = grid.height * grid.width
        return 14 + token if token < frame else 14 + frame + token

    def native(self, latent_bcfyx: torch.Tensor) -> torch.Tensor:
        """The noise behind the picture."""
        return latent_bcfyx[:, :, 1:]

    def moving(self, value_fyxc: torch.Tensor) -> torch.Tensor:
        return value_fyxc[1:]

    def final(self, model: interp.Model, inputs: dict[str, Any]) -> torch.Tensor:
        """The pipeline returns a list of its windows."""
        return model.pipeline(**{**inputs, "output_type": "latent"}).frames[0]

    def test_text_is_what_lies_behind_the_window(self, model: interp.Model) -> None:
        geometry = model.geometry(self.settings(model))
        text = model.adapter.text_tokens(torch.arange(14 + 4 * 24 + 5).view(1, -1, 1), geometry)
        assert text.flatten().tolist() == list(range(14 + 4 * 24, 14 + 4 * 24 + 5))

    def test_frame_0_is_the_picture_among_the_history(self, model: interp.Model) -> None:
        """The tokens of latent frame 0 are what the embedder of clean frames makes of the picture."""
        run = self.trace(model, ["resid_pre"], steps=1)
        embedder = model.pipeline.transformer.clean_x_embedder
        latent = run.values[0].latent[:1].permute(3, 0, 1, 2)[None]
        expected = embedder.proj(latent)[0].permute(1, 2, 3, 0)
        torch.testing.assert_close(self.first(run, "resid_pre", 0)[:1], expected)
        assert torch.count_nonzero(run.values[0].velocity["guided"][0]) == 0
