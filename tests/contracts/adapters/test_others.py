"""Families with one or two pipelines: Kandinsky 5, Latte, Mochi, Sana-Video."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import pytest
import torch
from diffusers import AutoencoderKLHunyuanVideo

import interp
from tests.contracts.adapters.contract import AdapterContract, Traced
from tests.tiny_models import hunyuan_video, others


class Kandinsky5Contract(AdapterContract):
    size: ClassVar[dict[str, Any]] = {"height": 64, "width": 96, "frames": 9, "max_sequence_length": 8}
    modules: ClassVar = {
        "resid_pre": "",
        "resid_post": "",
        "attn_out": "self_attention",
        "cross_attn_out": "cross_attention",
        "mlp_out": "feed_forward",
        "q": "self_attention.query_norm",
        "k": "self_attention.key_norm",
        "v": "self_attention.to_value",
        "z": "self_attention.out_layer",
        "pattern": "self_attention",
    }
    prompt_free = ("resid_pre",)
    """A pooled prompt goes into the modulation before attention."""

    def blocks(self, denoiser: Any) -> Any:
        return denoiser.visual_transformer_blocks

    def native(self, latent_bcfyx: torch.Tensor) -> torch.Tensor:
        """Beside the noise, no picture: neither latents nor mask."""
        last = latent_bcfyx.permute(0, 2, 3, 4, 1)
        return torch.cat([last, torch.zeros_like(last), torch.zeros_like(last[..., :1])], dim=-1)


class TestKandinsky5(Kandinsky5Contract):
    build = staticmethod(others.kandinsky5)


class TestKandinsky5ImageToVideo(Kandinsky5Contract):
    size: ClassVar[dict[str, Any]] = {**Kandinsky5Contract.size, "frames": 17}
    refused: ClassVar = (*Kandinsky5Contract.refused, ({"frames": 13}, "at least 17"))

    build = partial(others.kandinsky5, image=True)

    def moving(self, value_fyxc: torch.Tensor) -> torch.Tensor:
        return value_fyxc[1:]

    def final(self, model: interp.Model, inputs: dict[str, Any]) -> torch.Tensor:
        """As the sampler holds it, before its first frames are fitted to the next."""
        model.pipeline.normalize_first_frame = lambda latents: latents
        try:
            return super().final(model, inputs)
        finally:
            del model.pipeline.normalize_first_frame


def test_sparse_attention_is_refused() -> None:
    with pytest.raises(interp.BadInput, match="only models with regular attention"):
        interp.load(others.kandinsky5(attention="nabla")).settings(**Kandinsky5Contract.size)


class TestLatte(AdapterContract):
    build = staticmethod(others.latte)

    size: ClassVar[dict[str, Any]] = {"height": 64, "width": 96, "frames": 3}
    modules: ClassVar = {
        "resid_pre": "",
        "resid_post": "",
        "attn_out": "attn1",
        "cross_attn_out": "attn2",
        "mlp_out": "ff",
        "q": "attn1.to_q",
        "k": "attn1.to_k",
        "v": "attn1.to_v",
        "z": "attn1.to_out.0",
        "pattern": "attn1",
    }
    partial: ClassVar = {"cross_attn_out": (0, 2)}
    looking = ((1, 1, 1), (1, 2, 2))
    """Layer 0 attends within frames."""
    prompts = ("gone", "walk")
    """The pipeline cuts the negative prompt to the length of the prompt."""
    refused: ClassVar = (({"height": 33}, "multiple of"), ({"frames": 4}, "this model makes 3"))

    def blocks(self, denoiser: Any) -> Any:
        pairs = zip(denoiser.transformer_blocks, denoiser.temporal_transformer_blocks, strict=True)
        return [block for pair in pairs for block in pair]

    def plant(self, token: int, grid: interp.Grid, module: Any, args: Any, value: torch.Tensor) -> torch.Tensor:
        value = value.clone()
        frame, place = divmod(token, grid.height * grid.width)
        value[frame :: grid.frames, place] = 20.0
        return value

    def rows(self, dense_rhnm: torch.Tensor, geometry: interp.Geometry, layer: int) -> list[torch.Tensor]:
        """Within frames, or along time: zero elsewhere."""
        frames, places = geometry.tokens.frames, geometry.tokens.height * geometry.tokens.width
        blocks = dense_rhnm.unflatten(0, (-1, places if layer % 2 else frames))
        found = blocks.new_zeros(len(blocks), blocks.shape[2], frames, places, frames, places)
        for number in range(blocks.shape[1]):
            if layer % 2:
                found[:, :, :, number, :, number] = blocks[:, number]
            else:
                found[:, :, number, :, number, :] = blocks[:, number]
        return list(found.flatten(4, 5).flatten(2, 3))

    def test_layers_of_both_kinds_lie_on_one_grid(self, model: interp.Model) -> None:
        """What a layer along time gives is what the next one within frames is given, and the other way round."""
        run = self.trace(model, ["resid_pre", "resid_post"], steps=1)
        for layer in (1, 2):  # positions in time are added between 0 and 1
            assert torch.equal(self.first(run, "resid_post", layer), self.first(run, "resid_pre", layer + 1))


class SanaContract(AdapterContract):
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
    }


class TestSanaVideo(SanaContract):
    build = staticmethod(others.sana_video)


class TestSanaImageToVideo(SanaContract):
    build = partial(others.sana_video, image=True)
    places = ((1, 2, 4), (2, 3, 5), (2, 0, 5))

    def moving(self, value_fyxc: torch.Tensor) -> torch.Tensor:
        return value_fyxc[1:]


def test_another_vae_is_refused() -> None:
    pipe = others.sana_video()
    pipe.vae = hunyuan_video.vae()
    with pytest.raises(interp.BadInput, match=f"latents of {AutoencoderKLHunyuanVideo.__name__} cannot be read"):
        interp.load(pipe).settings(**SanaContract.size)


@pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")  # diffusers asks for float32
class TestMochi(AdapterContract):
    size: ClassVar[dict[str, Any]] = {"height": 64, "width": 96, "frames": 13, "max_sequence_length": 8}
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
    prompt_free = ("resid_pre",)
    """A pooled prompt goes into the modulation before attention."""
    joint = True
    rising = True
    refused: ClassVar = (
        ({"height": 33}, "multiple of"),
        ({"frames": 8}, "1 + a multiple of 6"),
        ({"steps": 1}, "at least 2"),
    )

    build = staticmethod(others.mochi)

    def trace(self, model: interp.Model, names: Sequence[str] = (), *, steps: int = 2, **extra: Any) -> Traced:
        """The schedule has no single step."""
        return super().trace(model, names, steps=max(steps, 2), **extra)
