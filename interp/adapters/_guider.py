"""Families whose pipelines have a guider: it owns the guidance scale and names its branches."""

from __future__ import annotations

from math import isclose
from typing import ClassVar

from interp.adapters._base import Forward, Layout, ModelAdapter
from interp.errors import BadInput
from store.records import SamplerSettings


class GuidedByGuider(ModelAdapter):
    """The guidance scale belongs to `pipeline.guider`, so other settings are refused than those that it has."""

    layout: ClassVar[Layout] = "named"

    def check(self, settings: SamplerSettings) -> None:
        """See `ModelAdapter.check`."""
        super().check(settings)
        guider = self.pipeline.guider
        if type(guider).__name__ not in ("ClassifierFreeGuidance", "NoneType"):
            raise BadInput(f"guidance by {type(guider).__name__} cannot be traced; use ClassifierFreeGuidance")
        if not isclose(settings.guidance, self.scale):
            raise BadInput(
                f"guidance {settings.guidance:g} was asked, but the pipeline's guider has {self.scale:g}; set "
                f"pipeline.guider = pipeline.guider.new(guidance_scale={settings.guidance:g})"
            )

    def branches(self, forward: Forward) -> tuple[str, ...]:
        """See `ModelAdapter.branches`; guiders call their branches `pred_cond` and `pred_uncond`."""
        context = forward.context.removeprefix("pred_") if forward.context else None
        return super().branches(forward._replace(context=context))

    @property
    def scale(self) -> float:
        """The guider's scale, 1 where it is switched off or missing."""
        guider = self.pipeline.guider
        return float(guider.guidance_scale) if guider is not None and guider._enabled else 1.0
