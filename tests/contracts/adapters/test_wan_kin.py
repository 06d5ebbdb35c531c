"""Families that share the transformer of Wan."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from diffusers.pipelines.helios import pipeline_helios
from diffusers.pipelines.skyreels_v2 import pipeline_skyreels_v2_diffusion_forcing

import interp
from interp.schedulers import use_euler
from tests.contracts.adapters.support import NUMPY
from tests.contracts.adapters.test_wan import LARGER, WanContract
from tests.tiny_models import parts, wan


class TestSkyReelsV2(WanContract):
    build = partial(wan.skyreels_v2, image=False)


class TestSkyReelsV2ImageToVideo(WanContract):
    build = partial(wan.skyreels_v2, image=True)


class ForcingContract(WanContract):
    def native(self, latent_bcfyx: torch.Tensor) -> torch.Tensor:
        """The pipeline writes into what it is given."""
        return latent_bcfyx.clone()


class TestSkyReelsV2Forcing(ForcingContract):
    draws = pipeline_skyreels_v2_diffusion_forcing

    build = partial(wan.skyreels_v2_forcing, image=False)


class TestSkyReelsV2ForcingImageToVideo(ForcingContract):
    places = ((1, 2, 4), (2, 3, 5), (2, 0, 5))

    build = partial(wan.skyreels_v2_forcing, image=True)

    def moving(self, value_fyxc: torch.Tensor) -> torch.Tensor:
        return value_fyxc[1:]

    def test_frame_0_is_the_picture_at_every_step(self, model: interp.Model) -> None:
        run = self.trace(model, steps=3)
        for values in run.values:
            assert torch.equal(values.latent[0], run.values[0].latent[0])
            assert torch.count_nonzero(values.velocity["guided"][0]) == 0


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
    joint = True
    text_first = True

    build = staticmethod(wan.helios)

    def final(self, model: interp.Model, inputs: dict[str, Any]) -> torch.Tensor:
        """The pipeline returns the history's last frame before the window."""
        return super().final(model, inputs)[:, :, 1:]


class TestHeliosEuler(TestHelios):
    """As perturbed runs sample."""

    @staticmethod
    def build() -> Any:
        pipeline = wan.helios()
        with parts.numpy_of_tensors():
            use_euler(pipeline)
        return pipeline
