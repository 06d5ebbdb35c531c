"""CogVideoX and 1.5."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from diffusers import CogVideoXDPMScheduler

from tests.contracts.adapters.contract import AdapterContract
from tests.contracts.adapters.support import JOINT_SITES
from tests.tiny_models import cogvideox


class CogVideoXContract(AdapterContract):
    size: ClassVar[dict[str, Any]] = {"height": 64, "width": 96, "frames": 9, "max_sequence_length": 8}
    modules = JOINT_SITES

    joint = True
    text_first = True
    heads_first = True

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
