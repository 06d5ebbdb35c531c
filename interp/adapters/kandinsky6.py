"""Kandinsky 6, text and picture to video with sound: two streams, the picture as a frame behind the last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from interp.adapters import adapters
from interp.adapters._base import Forward, Layout, ModelAdapter, Tensor, picture, pixels, question
from interp.adapters.kandinsky5 import Kandinsky5
from interp.geometry import Geometry
from store.records import Sample, SamplerSettings


class Kandinsky6(Kandinsky5):
    """`Kandinsky6TI2VAPipeline`, with the picture where the transformer was made to see one.

    What is captured is the video's stream. Sound is made where the pipeline has what it takes, and meets the video in a
    block between `cross_attn_out` and `mlp_out`. The picture is a frame behind the video's last, in the latents and in
    the tokens, and is left out of both; attention to it is what `pattern/text` holds.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("Kandinsky6TI2VAPipeline",)
    singles: ClassVar[Mapping[str, str]] = {"Kandinsky6TI2VAPipeline": "it takes one prompt and picture a call"}
    modules: ClassVar[Mapping[str, str]] = {
        site: path and f"video_dec_block.{path}" for site, path in Kandinsky5.modules.items()
    }
    layout: ClassVar[Layout] = "named"
    joint: ClassVar[bool] = True
    restarts: ClassVar[bool] = False

    def defaults(self) -> dict[str, Any]:
        """The pipeline's own defaults (512×768, 121 frames, 50 steps, guidance 5)."""
        return {**super().defaults(), "max_sequence_length": 1024}

    def check(self, settings: SamplerSettings) -> None:
        """See `ModelAdapter.check`."""
        ModelAdapter.check(self, settings)

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        config, pipeline = self._config, self.pipeline
        sees = config.visual_cond and config.visual_token_type_num_embeddings > 1
        return {
            **question(sample, settings),
            "image": picture(sample) if sees else None,
            "sample_audio": pipeline.audio_vae is not None and pipeline.vocoder is not None,
        }

    def predicted(self, output: Any, geometry: Geometry, forward: Forward) -> Tensor:
        """See `ModelAdapter.predicted`."""
        return output[0][:, : geometry.latent.frames]

    def given(self, sample: Tensor, guided: Tensor, geometry: Geometry, forward: Forward) -> tuple[Tensor, Tensor]:
        """See `ModelAdapter.given`."""
        frames = geometry.latent.frames
        return sample[:, :frames], guided[:, :frames]

    def moving(self, latent: Tensor, geometry: Geometry) -> Tensor:
        """See `ModelAdapter.moving`; the picture is a frame behind the last."""
        return latent[:, : geometry.latent.frames, ..., : geometry.latent_channels]

    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`."""
        vae = self.pipeline.vae
        latent = latent_bfyxc.to(vae.device, vae.dtype).permute(0, 4, 1, 2, 3)
        return pixels(self.pipeline, vae.decode(latent / vae.config.scaling_factor, return_dict=False)[0])

    @property
    def held(self) -> int:
        """See `ModelAdapter.held`; the picture is not one of the video's frames."""
        return 0


adapters.add("kandinsky6", Kandinsky6)
