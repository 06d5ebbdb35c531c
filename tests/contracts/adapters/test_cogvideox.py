"""CogVideoX and 1.5."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar

import torch
from diffusers import CogVideoXDPMScheduler

import interp
from tests.contracts.adapters.contract import AdapterContract
from tests.tiny_models import cogvideox


class CogVideoXContract(AdapterContract):
    size: ClassVar[dict[str, Any]] = {"height": 64, "width": 96, "frames": 9, "max_sequence_length": 8}
    modules: ClassVar = {
        "resid_pre": "",
        "resid_post": "",
        "attn_out": "attn1",
        "mlp_out": "ff",
        "q": "attn1.norm_q",
        "k": "attn1.norm_k",
        "v": "attn1.to_v",
        "z": "attn1.to_out.0",
        "pattern": "attn1",
    }

    joint = True

    def rows(self, dense_rhnm: torch.Tensor, geometry: interp.Geometry, layer: int) -> list[torch.Tensor]:
        """Text comes first."""
        text = dense_rhnm.shape[-1] - math.prod(geometry.tokens)
        return [row.roll((-text, -text), dims=(1, 2)) for row in dense_rhnm]

    def plant(self, token: int, grid: interp.Grid, module: Any, args: Any, value: torch.Tensor) -> torch.Tensor:
        value = value.clone()
        value[:, :, value.shape[2] - math.prod(grid) + token] = 20.0
        return value

    def native(self, latent_bcfyx: torch.Tensor) -> torch.Tensor:
        return latent_bcfyx.transpose(1, 2)


class TestTextToVideo(CogVideoXContract):
    build = staticmethod(cogvideox.pipeline)


class TestSinusoidalPositions(CogVideoXContract):
    """CogVideoX-2b: positions are added, for a fixed number of text tokens."""

    refused: ClassVar = (*AdapterContract.refused, ({"max_sequence_length": 9}, "needs 8"))

    build = partial(cogvideox.pipeline, rotary=False)


class TestImageToVideo(CogVideoXContract):
    build = partial(cogvideox.pipeline, image=True)


class DeepContract(CogVideoXContract):
    """Tokens two latent frames deep, the first of them padding and the picture."""

    places = ((0, 0, 0), (1, 2, 4), (1, 3, 5), (1, 0, 5))
    refused: ClassVar = (({"height": 33}, "multiple of"), ({"frames": 13}, "1 + a multiple of 8"))


class TestDeepTextToVideo(DeepContract):
    build = partial(cogvideox.pipeline, deep=2)


class TestDeepImageToVideo(DeepContract):
    build = partial(cogvideox.pipeline, image=True, deep=2)


class TestDPMScheduler(CogVideoXContract):
    """As CogVideoX-5b ships: the scheduler takes its own last x̂0 before the timestep."""

    build = partial(cogvideox.pipeline, scheduler=CogVideoXDPMScheduler)
