"""HunyuanVideo 1.5."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import pytest
from diffusers import PerturbedAttentionGuidance

import interp
from tests.contracts.adapters.contract import AdapterContract
from tests.tiny_models import hunyuan_video15


class HunyuanVideo15Contract(AdapterContract):
    joint = True
    size: ClassVar[dict[str, Any]] = {"height": 64, "width": 96, "frames": 9}
    modules: ClassVar = {
        "resid_pre": "",
        "resid_post": "",
        "attn_out": "attn",
        "mlp_out": "ff",
        "q": "attn.norm_q",
        "k": "attn.norm_k",
        "v": "attn.to_v",
        "z": "attn.to_out.0",
        "pattern": "attn",
    }
    refused: ClassVar = (*AdapterContract.refused, ({"guidance": 4.0}, "guider.new(guidance_scale=4)"))


class TestTextToVideo(HunyuanVideo15Contract):
    build = staticmethod(hunyuan_video15.pipeline)


class TestImageToVideo(HunyuanVideo15Contract):
    size: ClassVar[dict[str, Any]] = {"height": 48, "width": 80, "frames": 9}
    places = ((0, 0, 0), (1, 2, 4), (2, 0, 4))
    refused: ClassVar = (*HunyuanVideo15Contract.refused, ({"height": 480, "width": 800}, "this model makes 48×80"))

    build = partial(hunyuan_video15.pipeline, image=True)


def test_another_guider_is_refused() -> None:
    pipe = hunyuan_video15.pipeline()
    pipe.guider = PerturbedAttentionGuidance(perturbed_guidance_scale=2.0, perturbed_guidance_layers=[1])
    with pytest.raises(interp.BadInput, match="use ClassifierFreeGuidance"):
        interp.load(pipe).settings(**HunyuanVideo15Contract.size)
