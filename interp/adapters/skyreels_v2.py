"""SkyReels V2, text to video and image to video: the architecture of Wan 2.1."""

from __future__ import annotations

from typing import Any, ClassVar

from interp.adapters import adapters
from interp.adapters._base import picture
from interp.adapters.wan import Wan
from store.records import Sample, SamplerSettings

IMAGE = "SkyReelsV2ImageToVideoPipeline"


class SkyReelsV2(Wan):
    """`SkyReelsV2Pipeline` and `SkyReelsV2ImageToVideoPipeline`, without diffusion forcing."""

    pipelines: ClassVar[tuple[str, ...]] = (IMAGE, "SkyReelsV2Pipeline")

    def defaults(self) -> dict[str, Any]:
        """The pipelines' own defaults (544×960, 97 frames, 50 steps, guidance 6, or 5 with a picture)."""
        guidance = 5.0 if type(self.pipeline).__name__ == IMAGE else 6.0
        return {**super().defaults(), "guidance": guidance, "height": 544, "width": 960, "frames": 97}

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        kwargs = super().inputs(sample, settings)
        return {**kwargs, "image": picture(sample)} if type(self.pipeline).__name__ == IMAGE else kwargs


adapters.add("skyreels_v2", SkyReelsV2)
