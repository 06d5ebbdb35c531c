"""Fresh noise in some latent frames of x_s (E4)."""

from __future__ import annotations

from interp.errors import BadIntervention
from interp.interventions._base import Edit, Given, Scope
from interp.interventions._perturb import Perturbation
from interp.interventions._registry import interventions


class NoiseAtFrame(Perturbation):
    """Replace some latent frames of x_s, or a dose of them, by noise that is fresh at each step.

    The noise of the last step is never removed: give `steps` to end before it.
    """

    kind = "noise_at_frame"

    frames: tuple[int, ...]
    """Latent frames that are changed."""
    steps: tuple[int, ...] | None = None
    """Steps at which they are; None for all."""

    def check(self, scope: Scope) -> None:
        """See `Intervention.check`."""
        scope.steps(self.steps, kind=self.kind)
        there, held = scope.geometry.latent.frames, scope.adapter.held
        if not self.frames:
            raise BadIntervention(f"{self.kind} names no frame; there are latent frames {held} to {there - 1}")
        for frame in self.frames:
            if not 0 <= frame < there:
                raise BadIntervention(
                    f"{self.kind} asks for latent frame {frame}, but there are {there}: 0 to {there - 1}"
                )
            if frame < held:
                raise BadIntervention(
                    f"{self.kind}: {type(scope.adapter.pipeline).__name__} holds latent frame {frame} fixed, so noise "
                    f"in it would be overwritten; frames {held} to {there - 1} can be changed"
                )

    def begins(self, scope: Scope) -> int:
        """See `Intervention.begins`."""
        return self.first_needed(scope.steps(self.steps, kind=self.kind))

    def edits(self, scope: Scope, given: Given) -> tuple[Edit, ...]:
        """See `Intervention.edits`."""
        return (self.edit(scope, scope.steps(self.steps, kind=self.kind), frozenset(self.frames)),)


interventions.add(NoiseAtFrame.kind, NoiseAtFrame)
