"""Cosmos."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import pytest
import torch
from diffusers.pipelines.cosmos import pipeline_cosmos2_5_predict, pipeline_cosmos3_omni

import interp
from interp.adapters import cosmos2
from tests import tiny
from tests.contracts.adapters.contract import AdapterContract
from tests.contracts.adapters.support import CROSS_SITES, NUMPY
from tests.tiny_models import cosmos


class CosmosContract(AdapterContract):
    size: ClassVar[dict[str, Any]] = {"height": 64, "width": 96, "frames": 9, "max_sequence_length": 8}
    modules = CROSS_SITES
    heads_first = True


class GuardedContract(CosmosContract):
    """Everything that is decoded goes through the safety checker."""

    exploding = True
    edited_step = 0
    """The last step changes nothing."""
    tolerance = 1e-3
    """Guidance is computed on x̂0, at σ of up to 80, and divided by σ."""
    left = 0.002
    video_tolerance = 0.02
    """The noise that is left, and a video of 8 bits a channel."""

    def test_the_safety_checker_sees_what_is_decoded(self, model: interp.Model) -> None:
        settings = self.settings(model)
        latent = self.final(model, model.inputs(tiny.sample(), seed=0, settings=settings))
        assert torch.count_nonzero(model.adapter.decode(latent.permute(0, 2, 3, 4, 1))[0, :, 0]) == 0


class PictureContract(CosmosContract):
    still: ClassVar[float] = 0.0
    """Greatest velocity and change of the picture, by rounding."""
    places = ((1, 2, 4), (2, 3, 5), (2, 0, 5))

    def moving(self, value_fyxc: torch.Tensor) -> torch.Tensor:
        return value_fyxc[1:]

    def test_frame_0_is_the_picture_at_every_step(self, model: interp.Model) -> None:
        run = self.trace(model, steps=3)
        for values in run.values:
            assert (values.latent[0] - run.values[0].latent[0]).abs().max() <= self.still
            assert values.velocity["guided"][0].abs().max() <= self.still


@NUMPY
class TestCosmos2(GuardedContract, PictureContract):
    build = staticmethod(cosmos.cosmos2)


class TestTextToVideo(GuardedContract):
    rounding = 1e-2
    """Its velocity is a difference that is divided by sigma, and its checker leaves videos of 8 bits."""
    refused: ClassVar = (*CosmosContract.refused, ({"frames": 13}, "at most 9"))

    build = staticmethod(cosmos.cosmos)


class TestVideoToVideo(GuardedContract, PictureContract):
    """In the manner of Cosmos 1, from the first frame."""

    build = partial(cosmos.cosmos, video=True)
    still = 1e-6


class TestCosmos25(PictureContract):
    build = staticmethod(cosmos.cosmos2_5)
    size: ClassVar[dict[str, Any]] = {**CosmosContract.size, "max_sequence_length": 96}
    """A system message of 71 letters comes first."""

    def test_the_pipelines_own_checker_sees_what_is_decoded(
        self, model: interp.Model, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pipeline_cosmos2_5_predict, "CosmosSafetyChecker", cosmos.Checker)
        self.test_decoding_is_the_pipelines_own(model)


class TestCosmos3(PictureContract):
    build = staticmethod(cosmos.cosmos3)
    still = 1e-6

    size: ClassVar[dict[str, Any]] = {"height": 64, "width": 96, "frames": 9}
    modules: ClassVar = {
        "resid_pre": "",
        "resid_post": "",
        "attn_out": "self_attn",
        "mlp_out": "mlp_moe_gen",
        "q": "self_attn.norm_added_q",
        "z": "self_attn.to_add_out",
    }
    sharing = 2

    def blocks(self, denoiser: Any) -> Any:
        return denoiser.layers

    def values(self, block: Any) -> Any:
        return block.self_attn.add_v_proj

    def final(self, model: interp.Model, inputs: dict[str, Any]) -> torch.Tensor:
        return model.pipeline(**{**inputs, "output_type": "latent"}).video

    def test_the_pipelines_own_checker_sees_what_is_decoded(
        self, model: interp.Model, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pipeline_cosmos3_omni, "CosmosSafetyChecker", cosmos.Checker)
        self.test_decoding_is_the_pipelines_own(model)


class TestCosmos3NarrowHeads(TestCosmos3):
    """All heads together are not as wide as the stream."""

    build = partial(cosmos.cosmos3, heads=2)
    partial: ClassVar = {"q": (), "z": ()}


def test_without_torchvision_a_padding_mask_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosmos2, "find_spec", lambda name: None)
    with pytest.raises(interp.BadInput, match="pip install torchvision"):
        interp.load(cosmos.cosmos2(padding=True)).settings(**CosmosContract.size)


def test_a_refused_video_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    model = interp.load(cosmos.cosmos2())
    monkeypatch.setattr(model.pipeline.safety_checker, "check_video_safety", lambda frames: None, raising=False)
    with pytest.raises(interp.BadInput, match="Checker refuses a video"):
        model.adapter.decode(torch.zeros(1, 3, 8, 12, cosmos.LATENT))
