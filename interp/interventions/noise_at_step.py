"""Fresh noise in the whole of x_s at some steps (E3)."""

from __future__ import annotations

from interp.interventions._base import Edit, Given, Scope
from interp.interventions._perturb import Perturbation
from interp.interventions._registry import interventions


class NoiseAtStep(Perturbation):
    """Replace x_s of all latent frames at some steps, or a dose of it, by fresh noise.

    Example:
        >>> NoiseAtStep(steps=(8,), matched=True).to_json()
        {'kind': 'noise_at_step', 'matched': True, 'steps': [8]}
    """

    kind = "noise_at_step"

    steps: tuple[int, ...]
    """Steps whose x_s is changed before anything of them runs."""

    def check(self, scope: Scope) -> None:
        """See `Intervention.check`."""
        scope.steps(self.steps, kind=self.kind)

    def begins(self, scope: Scope) -> int:
        """See `Intervention.begins`."""
        return self.first_needed(self.steps)

    def edits(self, scope: Scope, given: Given) -> tuple[Edit, ...]:
        """See `Intervention.edits`."""
        return (self.edit(scope, self.steps),)


interventions.add(NoiseAtStep.kind, NoiseAtStep)
