"""Families that share the transformer of Wan."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from diffusers.pipelines.helios import pipeline_helios

import interp
from tests.contracts.adapters.contract import NUMPY
from tests.contracts.adapters.test_wan import LARGER, WanContract
from tests.tiny_models import wan


class TestSkyReelsV2(WanContract):
    build = partial(wan.skyreels_v2, image=False)


class TestSkyReelsV2ImageToVideo(WanContract):
    build = partial(wan.skyreels_v2, image=True)


class TestChronoEdit(WanContract):
    size: ClassVar[dict[str, Any]] = {**LARGER, "frames": 5}
    places = ((0, 0, 0), (1, 2, 4), (1, 3, 5), (1, 0, 5))
    refused: ClassVar = (*WanContract.refused, ({"frames": 9}, "there are 5"))

    build = staticmethod(wan.chronoedit)


class TestLucyEdit(WanContract):
    build = staticmethod(wan.lucy_edit)


class TestAnyFlow(WanContract):
    size = LARGER
    build = staticmethod(wan.anyflow)

    def final(self, model: interp.Model, inputs: dict[str, Any]) -> torch.Tensor:
        """As the sampler holds it: frames before channels."""
        return super().final(model, inputs).permute(0, 2, 1, 3, 4)


@NUMPY
class TestHelios(WanContract):
    size = LARGER
    draws = pipeline_helios

    build = staticmethod(wan.helios)

    def final(self, model: interp.Model, inputs: dict[str, Any]) -> torch.Tensor:
        """The pipeline returns the history's last frame before the window."""
        return super().final(model, inputs)[:, :, 1:]
