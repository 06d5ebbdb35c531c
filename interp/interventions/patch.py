"""Put another run's values in the place of a run's own."""

from __future__ import annotations

import torch

from interp.interventions._base import LATENT, Edit, Given, Need, Scope, Where
from interp.interventions._donor import Donor
from interp.interventions._registry import interventions
from interp.interventions._window import Window

Tensor = torch.Tensor


class Patch(Window):
    """Activation patching: values of a donor at a site × layers × steps × branches, whole or in a region of tokens.

    Example:
        >>> Patch(donor=Donor(seed=5), layers=(3, 4), steps=(0,)).to_json()
        {'kind': 'patch', 'layers': [3, 4], 'steps': [0], 'donor': {'seed': 5}}
    """

    kind = "patch"

    donor: Donor
    """Where the values come from."""

    def needs(self, scope: Scope) -> tuple[Need, ...]:
        """See `Intervention.needs`."""
        steps = scope.steps(self.steps, kind=self.kind)
        if self.site == LATENT:
            return (Need(self.donor, LATENT, steps),)
        layers = scope.layers(self.layers, self.site, kind=self.kind)
        branches = scope.running(self.branches, kind=self.kind)
        return (Need(self.donor, self.site, steps, layers, branches, text=isinstance(self.region, str)),)

    def edits(self, scope: Scope, given: Given) -> tuple[Edit, ...]:
        """See `Intervention.edits`."""
        (need,) = self.needs(scope)

        def donated(value: Tensor, where: Where) -> Tensor:
            return given(need, where)[-len(value) :].to(value)  # of x_s, the frames that are not held fixed

        def text(value: Tensor, where: Where) -> Tensor:
            return given.text(need, where).to(value)

        return (self.within(scope, donated, text),)


interventions.add(Patch.kind, Patch)
