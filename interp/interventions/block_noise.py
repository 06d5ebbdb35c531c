"""Noise on what a block hands on."""

from __future__ import annotations

import torch
from pydantic import Field

from interp.interventions._base import Edit, Given, Scope, Where
from interp.interventions._registry import interventions
from interp.interventions._window import Window

Tensor = torch.Tensor


class BlockNoise(Window):
    """h ← h + α·std(h)·ε, with std over all tokens and channels of the value and ε ~ N(0, I).

    Both branches of a step meet the same ε, so that guidance does not blow up the difference of two.

    Source: SCIENCE.md, "Beyond the paper" (after arXiv 2606.05328).
    """

    kind = "block_noise"

    alpha: float = Field(ge=0)
    """Noise, as a multiple of the value's standard deviation; 0 changes nothing."""
    draw: int = Field(default=0, ge=0)
    """Which ε."""

    def edits(self, scope: Scope, given: Given) -> tuple[Edit, ...]:
        """See `Intervention.edits`."""

        def noisy(value: Tensor, where: Where) -> Tensor:
            fresh = scope.noise(value.shape, self.kind, self.draw, self.site, where.step, where.layer).to(value.device)
            wide = value.float()
            return (wide + self.alpha * wide.std() * fresh).to(value.dtype)

        return (self.within(scope, noisy, noisy),)


interventions.add(BlockNoise.kind, BlockNoise)
