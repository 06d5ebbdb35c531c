"""Lucy Edit: a video changed by an instruction, with the video's latents beside the noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from interp.adapters import adapters
from interp.adapters._base import picture
from interp.adapters.wan import Wan
from store.records import Sample, SamplerSettings


class LucyEdit(Wan):
    """`LucyEditPipeline`, with the picture held still as the video: a sample has no video to be changed.

    Give your own by calling the pipeline yourself.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("LucyEditPipeline",)
    singles: ClassVar[Mapping[str, str]] = {"LucyEditPipeline": "it takes one video a call"}

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        return {**super().inputs(sample, settings), "video": [picture(sample)] * settings.frames}


adapters.add("lucy_edit", LucyEdit)
