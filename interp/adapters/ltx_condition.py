"""LTX-Video 0.9.5 and later: the picture is a condition on latent frame 0, with noise of its own."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from interp.adapters import adapters
from interp.adapters._base import Forward, Tensor, picture
from interp.adapters.ltx import LTX
from interp.geometry import Geometry
from store.records import Sample, SamplerSettings


class LTXCondition(LTX):
    """`LTXConditionPipeline` with the picture as the condition of frame 0, at full strength.

    At each step the pipeline puts a little new noise on the picture's latents and does not denoise them: in frame 0 x_s
    is the picture with that noise and the guided velocity 0.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("LTXConditionPipeline",)
    restarts: ClassVar[bool] = False

    def defaults(self) -> dict[str, Any]:
        """The pipeline's own defaults (512×704, 161 frames, 50 steps, guidance 3)."""
        return {**super().defaults(), "max_sequence_length": 256}

    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """See `ModelAdapter.inputs`."""
        return {**super().inputs(sample, settings), "image": picture(sample)}

    def given(self, sample: Tensor, guided: Tensor, geometry: Geometry, forward: Forward) -> tuple[Tensor, Tensor]:
        """See `ModelAdapter.given`; the scheduler, told a timestep for each token, takes −v."""
        latent, velocity = super().given(sample, -guided, geometry, forward)
        return latent, torch.cat([torch.zeros_like(velocity[:, :1]), velocity[:, 1:]], dim=1)

    @property
    def held(self) -> int:
        """See `ModelAdapter.held`."""
        return 1


adapters.add("ltx_condition", LTXCondition)
