"""LTX-Video."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar
from unittest import mock

import pytest
import torch
from diffusers import LTXConditionPipeline, LTXImageToVideoPipeline
from diffusers.pipelines.ltx import pipeline_ltx_condition

import interp
from tests.contracts.adapters.contract import AdapterContract, Traced
from tests.tiny_models import ltx


class LTXContract(AdapterContract):
    size: ClassVar[dict[str, Any]] = {"height": 64, "width": 96, "frames": 9, "max_sequence_length": 8}
    modules: ClassVar = {
        "resid_pre": "",
        "resid_post": "",
        "attn_out": "attn1",
        "cross_attn_out": "attn2",
        "mlp_out": "ff",
        "q": "attn1.norm_q",
        "k": "attn1.norm_k",
        "v": "attn1.to_v",
        "z": "attn1.to_out.0",
        "pattern": "attn1",
    }

    def native(self, latent_bcfyx: torch.Tensor) -> torch.Tensor:
        return latent_bcfyx.permute(0, 2, 3, 4, 1).flatten(1, 3)


class TestTextToVideo(LTXContract):
    build = staticmethod(ltx.pipeline)


class TestTimestepConditioning(LTXContract):
    """As released since 0.9.1: the VAE is told how noisy its latents are."""

    build = partial(ltx.pipeline, timestep_conditioning=True)


class TestImageToVideo(LTXContract):
    build = partial(ltx.pipeline, kind=LTXImageToVideoPipeline)

    def moving(self, value_fyxc: torch.Tensor) -> torch.Tensor:
        return value_fyxc[1:]

    def test_frame_0_is_the_picture_at_every_step(self, model: interp.Model) -> None:
        run = self.trace(model, steps=3)
        for values in run.values:
            assert torch.equal(values.latent[0], run.values[0].latent[0])
            assert torch.count_nonzero(values.velocity["guided"][0]) == 0


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers gives NumPy a tensor
class TestCondition(LTXContract):
    """New noise on the picture at every step."""

    places = ((1, 2, 4), (2, 3, 5), (2, 0, 5))

    build = partial(ltx.pipeline, kind=LTXConditionPipeline)

    def native(self, latent_bcfyx: torch.Tensor) -> torch.Tensor:
        return latent_bcfyx

    def trace(self, model: interp.Model, names: Sequence[str] = (), **extra: Any) -> Traced:
        """The pipeline takes no starting noise, so what it draws first is replaced."""
        first = [extra.pop("latents")] if "latents" in extra else []
        drawn = pipeline_ltx_condition.randn_tensor

        def draw(*args: Any, **kwargs: Any) -> torch.Tensor:
            return first.pop() if first else drawn(*args, **kwargs)

        with mock.patch.object(pipeline_ltx_condition, "randn_tensor", draw):
            return super().trace(model, names, **extra)

    def moving(self, value_fyxc: torch.Tensor) -> torch.Tensor:
        return value_fyxc[1:]
