"""AnyFlow, text to video: the architecture of Wan 2.1, told where a step starts and where it is to end."""

from __future__ import annotations

from typing import Any, ClassVar

from interp.adapters import adapters
from interp.adapters._base import Layout, Tensor
from interp.adapters.wan import Wan
from interp.geometry import Geometry


class AnyFlow(Wan):
    """`AnyFlowPipeline`; the sampler holds latents as `[b, f, c, y, x]`.

    The denoiser predicts the mean velocity of the whole step, from its σ to the next one: x̂0 goes on from there in a
    straight line, and is what the model itself takes for the video only at the last step.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("AnyFlowPipeline",)
    layout: ClassVar[Layout] = "batch"
    restarts: ClassVar[bool] = False

    def defaults(self) -> dict[str, Any]:
        """The pipeline's own defaults (480×832, 81 frames, 50 steps, no guidance: that is built into the weights)."""
        return {**super().defaults(), "guidance": 1.0}

    def prepared(self, latent: Tensor) -> Tensor:
        """See `ModelAdapter.prepared`; channels come before frames."""
        return latent.transpose(1, 2)

    def latent(self, latent: Tensor, geometry: Geometry) -> Tensor:
        """See `ModelAdapter.latent`."""
        return latent.permute(0, 1, 3, 4, 2)


adapters.add("anyflow", AnyFlow)
