"""HunyuanVideo 1.5, text to video and image to video: blocks of two streams, guidance by a guider of the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from interp.adapters import adapters
from interp.adapters._base import Tensor, block_sites, picture, pixels, question, without
from interp.adapters._guider import GuidedByGuider
from interp.errors import BadInput
from store.records import Sample, SamplerSettings

IMAGE = "HunyuanVideo15ImageToVideoPipeline"


class HunyuanVideo15(GuidedByGuider):
    """`HunyuanVideo15Pipeline` and `HunyuanVideo15ImageToVideoPipeline`.

    Image to video chooses the size of the video from the shape of the picture, so only the sizes that it would choose
    are taken.
    """

    pipelines: ClassVar[tuple[str, ...]] = (IMAGE, "HunyuanVideo15Pipeline")
    singles: ClassVar[Mapping[str, str]] = {
        IMAGE: "its VAE decodes one video at a time",
        "HunyuanVideo15Pipeline": "its VAE decodes one video at a time",
    }
    modules: ClassVar[Mapping[str, str]] = block_sites("attn")
    joint: ClassVar[bool] = True

    def defaults(self) -> dict[str, Any]:
        """The pipelines' own defaults: 16:9 at the size that the transformer was made for, 121 frames, 50 steps."""
        height, width = self._size(9, 16)
        return {
            "steps": 50,
            "guidance": self.scale,
            "height": height,
            "width": width,
            "frames": 121,
            "max_sequence_length": self.pipeline.tokenizer_max_length,
        }

    def check(self, settings: SamplerSettings) -> None:
        """See `ModelAdapter.check`."""
        super().check(settings)
        if self._image and (chosen := self._size(settings.height, settings.width)) != (settings.height, settings.width):
            raise BadInput(
                f"{settings.height}×{settings.width} does not fit: for a picture of this shape, this model makes "
                f"{chosen[0]}×{chosen[1]}"
            )

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        kwargs = without(question(sample, settings), ["guidance_scale", "max_sequence_length"])
        if not self._image:
            return kwargs
        fitted = picture(sample).resize((settings.width, settings.height))
        return {**without(kwargs, ["height", "width"]), "image": fitted}

    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """See `ModelAdapter.decode`."""
        vae = self.pipeline.vae
        latent = latent_bfyxc.to(vae.device, vae.dtype).permute(0, 4, 1, 2, 3)
        video = vae.decode(latent / vae.config.scaling_factor, return_dict=False)[0]
        return pixels(self.pipeline, video)

    @property
    def patch(self) -> tuple[int, int, int]:
        """See `ModelAdapter.patch`."""
        return self._config.patch_size_t, self._config.patch_size, self._config.patch_size

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """The size of a video that the pipeline chooses for a shape."""
        chosen = self.pipeline.video_processor.calculate_default_height_width(height, width, self.pipeline.target_size)
        return int(chosen[0]), int(chosen[1])

    @property
    def _image(self) -> bool:
        return type(self.pipeline).__name__ == IMAGE


adapters.add("hunyuan_video15", HunyuanVideo15)
