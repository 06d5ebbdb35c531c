"""CogVideoX and 1.5, text to video and image to video: one forward with both branches, latents frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from interp.adapters import adapters
from interp.adapters._base import (
    Layout,
    ModelAdapter,
    Tensor,
    block_sites,
    check_frames,
    check_single,
    check_size,
    picture,
    pixels,
    question,
)
from interp.errors import BadInput
from interp.geometry import Geometry
from store.records import Sample, SamplerSettings

IMAGE = "CogVideoXImageToVideoPipeline"


class CogVideoX(ModelAdapter):
    """`CogVideoXPipeline` and `CogVideoXImageToVideoPipeline`; the sampler holds latents as `[b, f, c, y, x]`.

    Text tokens lie before the video's in `q`, `k`, `v` and `mlp_out`; `attn_out`, `resid_pre` and `resid_post` hold the
    video alone. Tokens of 1.5 are `patch_size_t` latent frames deep: the pipeline puts `patch_size_t` − 1 frames before
    the first and cuts them off before decoding, so latents have those frames more than the video.
    """

    pipelines: ClassVar[tuple[str, ...]] = (IMAGE, "CogVideoXPipeline")
    modules: ClassVar[Mapping[str, str]] = block_sites()
    layout: ClassVar[Layout] = "batch"
    joint: ClassVar[bool] = True
    text: ClassVar[Literal["none", "first", "last"]] = "first"
    head_axis: ClassVar[int] = 1

    def text_layers(self, site: str) -> tuple[int, ...]:
        """See `ModelAdapter.text_layers`."""
        return self.layers(site) if site in ("q", "k", "v", "mlp_out") else ()

    def defaults(self) -> dict[str, Any]:
        """The pipeline's own defaults: the size that the transformer was made for, 50 steps, guidance 6."""
        config = self._config
        return {
            "steps": 50,
            "guidance": 6.0,
            "height": config.sample_height * self.space,
            "width": config.sample_width * self.space,
            "frames": config.sample_frames,
            "max_sequence_length": config.max_text_seq_length,
        }

    def check(self, settings: SamplerSettings) -> None:
        """See `ModelAdapter.check`."""
        check_size(settings, self.multiple)
        check_frames(settings.frames, self.time * self.patch[0])
        check_single(settings)
        length = self._config.max_text_seq_length
        if not self._config.use_rotary_positional_embeddings and settings.max_sequence_length != length:
            raise BadInput(
                f"max_sequence_length {settings.max_sequence_length} does not fit: this model needs {length}"
            )

    def geometry(self, settings: SamplerSettings) -> Geometry:
        """See `ModelAdapter.geometry`."""
        plain = super().geometry(settings)
        return plain._replace(latent=plain.latent._replace(frames=plain.tokens.frames * self.patch[0]))

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        kwargs = question(sample, settings)
        if type(self.pipeline).__name__ == IMAGE:
            kwargs["image"] = picture(sample)
        return kwargs

    def latent(self, latent: Tensor, geometry: Geometry) -> Tensor:
        """See `ModelAdapter.latent`."""
        return latent.permute(0, 1, 3, 4, 2)

    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`."""
        pipeline = self.pipeline
        kept = latent_bfyxc[:, self.patch[0] - 1 :].to(pipeline.vae.device, pipeline.vae.dtype)
        video = pipeline.decode_latents(kept.permute(0, 1, 4, 2, 3))
        return pixels(pipeline, video)

    @property
    def patch(self) -> tuple[int, int, int]:
        """See `ModelAdapter.patch`."""
        return self._config.patch_size_t or 1, self._config.patch_size, self._config.patch_size


adapters.add("cogvideox", CogVideoX)
