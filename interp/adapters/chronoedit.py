"""ChronoEdit: an edited picture as the last frame of a short video."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from interp.adapters import adapters
from interp.adapters._base import Layout, picture
from interp.adapters.wan import Wan
from interp.errors import BadInput
from store.records import Sample, SamplerSettings

FRAMES = 5


class ChronoEdit(Wan):
    """`ChronoEditPipeline` without temporal reasoning: five frames, the last of them the edited picture.

    Temporal reasoning drops latent frames in the middle of a run, so that its steps have different grids; it is not
    asked for here.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("ChronoEditPipeline",)
    singles: ClassVar[Mapping[str, str]] = {"ChronoEditPipeline": "it repeats one picture for all videos of a call"}
    layout: ClassVar[Layout] = "order"

    def defaults(self) -> dict[str, Any]:
        """The pipeline's own defaults (480×832, 50 steps, guidance 5), and five frames."""
        return {**super().defaults(), "frames": FRAMES}

    def check(self, settings: SamplerSettings) -> None:
        """See `ModelAdapter.check`."""
        super().check(settings)
        if settings.frames != FRAMES:
            raise BadInput(f"{settings.frames} frames do not fit: without temporal reasoning there are {FRAMES}")

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        return {**super().inputs(sample, settings), "image": picture(sample)}


adapters.add("chronoedit", ChronoEdit)
