"""Kandinsky 6."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch

import interp
from tests.contracts.adapters.contract import AdapterContract, SoundContract
from tests.tiny_models import kandinsky6


class Kandinsky6Contract(AdapterContract):
    # The pipeline's template is 700 letters long, and the tokenizer makes a token of each.
    size: ClassVar[dict[str, Any]] = {"height": 64, "width": 96, "frames": 9, "max_sequence_length": 700}
    modules: ClassVar = {
        "resid_pre": "",
        "resid_post": "",
        "attn_out": "video_dec_block.self_attention",
        "cross_attn_out": "video_dec_block.cross_attention",
        "mlp_out": "video_dec_block.feed_forward",
        "q": "video_dec_block.self_attention.query_norm",
        "k": "video_dec_block.self_attention.key_norm",
        "v": "video_dec_block.self_attention.to_value",
        "z": "video_dec_block.self_attention.out_layer",
        "pattern": "video_dec_block.self_attention",
    }
    joint = True
    prompt_free = ("resid_pre",)
    """A pooled prompt goes into the modulation before attention."""

    def blocks(self, denoiser: Any) -> Any:
        return denoiser.visual_transformer_blocks

    def final(self, model: interp.Model, inputs: dict[str, Any]) -> torch.Tensor:
        """As the sampler holds it: channels last."""
        return super().final(model, inputs).permute(0, 2, 3, 4, 1)


class TestPicture(SoundContract, Kandinsky6Contract):
    """The picture as a frame behind the last."""

    build = staticmethod(kandinsky6.pipeline)

    def sound(self, seed: int) -> dict[str, Any]:
        """The generator draws the picture's latents, too."""
        noise = torch.randn(1, kandinsky6.SOUND, 12, generator=torch.Generator().manual_seed(seed))
        return {"audio_latents": noise}

    def test_the_picture_is_seen_and_left_out(self, model: interp.Model) -> None:
        """The denoiser is given a frame more than the video has, and the latents are those of the video alone."""
        given = []
        hook = model.pipeline.transformer.register_forward_hook(
            lambda module, args, kwargs, output: given.append(kwargs["hidden_states"]), with_kwargs=True
        )
        run = self.trace(model, steps=1)
        hook.remove()
        latent = run.values[0].latent
        assert given[0].shape[1] == len(latent) + 1
        assert torch.equal(given[0][0, :-1, ..., : latent.shape[-1]], latent)


class TestText(Kandinsky6Contract):
    """Without a picture and without sound."""

    others = False

    build = partial(kandinsky6.pipeline, image=False, sound=False)
