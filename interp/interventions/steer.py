"""Add a direction to a site."""

from __future__ import annotations

import math

import torch

from interp.errors import BadIntervention
from interp.interventions._base import LATENT, Edit, Given, Scope, Where
from interp.interventions._registry import interventions
from interp.interventions._window import Window

Tensor = torch.Tensor


class Steer(Window):
    """Add scale × direction to each token: a probe's weights, a difference of means, a principal component.

    The direction is added as it is given; make it of length 1 for a scale in the site's own units.
    """

    kind = "steer"

    direction: tuple[float, ...]
    """One number a channel of the site."""
    scale: float = 1.0
    """How much of it; 0 changes nothing."""

    def check(self, scope: Scope) -> None:
        """See `Intervention.check`."""
        super().check(scope)
        wide = scope.geometry.latent_channels if self.site == LATENT else scope.geometry.width
        if len(self.direction) != wide:
            raise BadIntervention(
                f"{self.kind}: the direction has {len(self.direction)} numbers, but {self.site} has {wide} channels"
            )
        if not all(map(math.isfinite, (*self.direction, self.scale))):
            raise BadIntervention(f"{self.kind}: the direction or its scale is not finite")

    def edits(self, scope: Scope, given: Given) -> tuple[Edit, ...]:
        """See `Intervention.edits`."""

        def steered(value: Tensor, where: Where) -> Tensor:
            direction = torch.tensor(self.direction, dtype=torch.float32, device=value.device)
            return (value.float() + self.scale * direction).to(value.dtype)

        return (self.within(scope, steered, steered),)


interventions.add(Steer.kind, Steer)
