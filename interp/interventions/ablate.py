"""Take information out of a site."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from interp.interventions._base import Edit, Given, Scope, Where
from interp.interventions._registry import interventions
from interp.interventions._window import Window

Tensor = torch.Tensor


class Ablate(Window):
    """Replace values by nothing (`zero`), by their mean over tokens (`mean`), or by those of other tokens (`resample`).

    `mean` is that of all video tokens of the same value, channel by channel: what tokens share stays, what tells them
    apart goes. `resample` deals the tokens out anew, at random: each value is one that the model has made, in the wrong
    place. To take values of another run, use `Patch`.
    """

    kind = "ablate"

    mode: Literal["zero", "mean", "resample"] = "mean"
    """What stands in for the values."""
    draw: int = Field(default=0, ge=0)
    """Which order, for `resample`."""

    def edits(self, scope: Scope, given: Given) -> tuple[Edit, ...]:
        """See `Intervention.edits`."""

        def ablated(value: Tensor, where: Where) -> Tensor:
            tokens = value.flatten(0, -2)
            if self.mode == "zero":
                return torch.zeros_like(value)
            if self.mode == "mean":
                return tokens.float().mean(0).to(value.dtype).expand_as(value)
            # The same order in both branches: guidance would blow up what differs between them.
            order = scope.noise([len(tokens)], self.kind, self.draw, where.step, where.layer).argsort()
            return tokens[order.to(value.device)].view(value.shape)

        return (self.within(scope, ablated, ablated),)


interventions.add(Ablate.kind, Ablate)
