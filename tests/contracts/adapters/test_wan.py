"""Wan 2.1 and 2.2."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch

import interp
from tests import tiny
from tests.contracts.adapters.contract import AdapterContract, last_result
from tests.tiny_models import wan

SITES = {
    "resid_pre": "",
    "resid_post": "",
    "attn_out": "attn1",
    "cross_attn_out": "attn2",
    "mlp_out": "ffn",
    "q": "attn1.norm_q",
    "k": "attn1.norm_k",
    "v": "attn1.to_v",
    "z": "attn1.to_out.0",
    "pattern": "attn1",
}
LARGER: dict[str, Any] = {**tiny.SIZE, "height": 64, "width": 96}
"""Four by six tokens of 2×2 latent cells."""


class WanContract(AdapterContract):
    modules = SITES

    def blocks(self, denoiser: Any) -> Any:
        return denoiser.blocks


class TestImageToVideo(WanContract):
    build = staticmethod(tiny.pipeline)


class TestImageToVideoTwoExperts(WanContract):
    build = partial(tiny.pipeline, experts=2)


class TestImageToVideoPatches(WanContract):
    """Patches of 1×2×2 cells, as in the released checkpoints."""

    size = LARGER

    build = partial(tiny.pipeline, patch_size=(1, 2, 2))


class TestTextToVideo(WanContract):
    build = staticmethod(wan.text_to_video)


class TestTextToVideoTwoExperts(WanContract):
    build = partial(wan.text_to_video, experts=2)


class TestTextToVideoExpanded(WanContract):
    """TI2V-5B without a picture: a timestep for each token."""

    size = LARGER

    build = partial(wan.expanded, image=False)


class TestImageToVideoExpanded(WanContract):
    """TI2V-5B: the pipeline holds latent frame 0 fixed."""

    size = LARGER
    places = ((1, 2, 4), (2, 3, 5), (2, 0, 5))

    build = partial(wan.expanded, image=True)

    def moving(self, value_fyxc: torch.Tensor) -> torch.Tensor:
        return value_fyxc[1:]

    def test_frame_0_is_the_picture_at_every_step(self, model: interp.Model) -> None:
        run = self.trace(model, steps=3)
        for values in run.values:
            assert torch.equal(values.latent[0], run.values[0].latent[0])
            assert torch.count_nonzero(values.velocity["guided"][0]) == 0


class TestVACE(WanContract):
    build = staticmethod(wan.vace)


class TestAnimate(WanContract):
    size = LARGER
    places = ((0, 0, 0), (1, 2, 4), (3, 3, 5), (2, 0, 5))
    refused: ClassVar = (*AdapterContract.refused, ({"frames": 1}, "at least 5"))

    build = staticmethod(wan.animate)

    def final(self, model: interp.Model, inputs: dict[str, Any]) -> torch.Tensor:
        """The pipeline returns latents scaled for the VAE already, so the scheduler's last result is read."""
        return last_result(model, inputs)
