"""EasyAnimate."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from diffusers import EasyAnimateInpaintPipeline
from diffusers.pipelines.easyanimate import pipeline_easyanimate_inpaint

from tests.contracts.adapters.contract import AdapterContract
from tests.contracts.adapters.support import JOINT_SITES
from tests.tiny_models import easyanimate


class EasyAnimateContract(AdapterContract):
    size: ClassVar[dict[str, Any]] = {"height": 64, "width": 96, "frames": 9}
    modules = JOINT_SITES
    joint = True
    text_first = True
    heads_first = True
    partial: ClassVar = {"mlp_out": (0, 1)}
    """The last layer has one stream."""
    refused: ClassVar = (*AdapterContract.refused, ({"max_sequence_length": 8}, "needs 256"))


class TestTextToVideo(EasyAnimateContract):
    build = staticmethod(easyanimate.pipeline)


class TestInpaint(EasyAnimateContract):
    """As released: the picture's latents and a mask of one channel beside the noise."""

    draws = pipeline_easyanimate_inpaint

    build = partial(easyanimate.pipeline, kind=EasyAnimateInpaintPipeline, beside=easyanimate.LATENT + 1)
