"""LTX-2."""

from __future__ import annotations

from functools import partial
from typing import Any
from unittest import mock

import torch
from diffusers import LTX2ConditionPipeline, LTX2ImageToVideoPipeline
from diffusers.pipelines.ltx2 import pipeline_ltx2_condition

import interp
from tests.contracts.adapters.contract import SoundContract
from tests.contracts.adapters.test_ltx import LTXContract
from tests.tiny_models import ltx2


class LTX2Contract(SoundContract, LTXContract):
    tolerance = 1e-4
    """Guidance is computed on x̂0 and turned back into a velocity."""

    def final(self, model: interp.Model, inputs: dict[str, Any]) -> torch.Tensor:
        """As the sampler holds it, before it is scaled for the VAE."""
        with mock.patch.object(model.pipeline, "_denormalize_latents", lambda latents, *_: latents):
            return super().final(model, inputs)


class TestTextToVideo(LTX2Contract):
    build = staticmethod(ltx2.pipeline)


class TestImageToVideo(LTX2Contract):
    build = partial(ltx2.pipeline, kind=LTX2ImageToVideoPipeline)

    def native(self, latent_bcfyx: torch.Tensor) -> torch.Tensor:
        return latent_bcfyx

    def moving(self, value_fyxc: torch.Tensor) -> torch.Tensor:
        return value_fyxc[1:]


class TestCondition(LTX2Contract):
    places = ((1, 2, 4), (2, 3, 5), (2, 0, 5))
    draws = pipeline_ltx2_condition

    build = partial(ltx2.pipeline, kind=LTX2ConditionPipeline)

    def moving(self, value_fyxc: torch.Tensor) -> torch.Tensor:
        return value_fyxc[1:]
