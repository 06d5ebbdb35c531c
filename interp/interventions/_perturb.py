"""Fresh noise in x_s: plain, or matched to the noise level so that x_s stays where the model was trained."""

from __future__ import annotations

import torch
from pydantic import Field

from interp.errors import BadIntervention
from interp.interventions._base import LatentEdit, Scope, Upcoming, XsIntervention

Tensor = torch.Tensor


class Perturbation(XsIntervention):
    """What noise at a step and noise at a frame have in common.

    With dose d, fresh noise ε′ and the share a of x0 in x_s:

    - *plain*: x_s ← √(1−d²)·x_s + d·ε′, at d = 1 what the paper does, off the training path late in sampling;
    - *matched*: x_s ← a·x̂0 + σ·(√(1−d²)·ε̂ + d·ε′), at d = 1 the same x̂0 under fresh noise of the same σ. x̂0 is that of
      the step before, of which the sampler has made x_s, and ε̂ the noise that x_s holds beside it. At step 0 there is
      no x̂0 yet, x_s is noise, and matched is plain.

    Source: SCIENCE.md, E3 and E4 and their control.
    """

    matched: bool = False
    """Keep x̂0 and sigma, and exchange the noise alone."""
    dose: float = Field(default=1.0, ge=0, le=1)
    """How much of the noise is fresh: 0 changes nothing, 1 replaces all of it."""
    draw: int = Field(default=0, ge=0)
    """Which fresh noise: another number is another draw for the same run."""

    def first_needed(self, steps: tuple[int, ...]) -> int:
        """The step before the first one, where its x̂0 is needed."""
        return max(0, min(steps) - 1) if self.matched else min(steps)

    def edit(self, scope: Scope, steps: tuple[int, ...], frames: frozenset[int] | None = None) -> LatentEdit:
        """The change of x_s at `steps`, in all latent frames or in some."""

        def change(value: Tensor, upcoming: Upcoming) -> Tensor:
            shape = (*scope.geometry.latent, scope.geometry.latent_channels)
            fresh = scope.noise(shape, self.kind, self.draw, upcoming.step)[upcoming.first :].to(value.device)
            changed = self._noised(value.float(), fresh, upcoming).to(value.dtype)
            if frames is None:
                return changed
            inside = [upcoming.first + position in frames for position in range(len(value))]
            return torch.where(torch.tensor(inside, device=value.device)[:, None, None, None], changed, value)

        return LatentEdit(frozenset(steps), change)

    def _noised(self, value: Tensor, fresh: Tensor, upcoming: Upcoming) -> Tensor:
        kept = (1 - self.dose**2) ** 0.5
        if not self.matched or upcoming.step == 0:
            return kept * value + self.dose * upcoming.initial * fresh
        x0_hat, sigma = upcoming.x0_hat_fyxc, upcoming.sigma
        if x0_hat is None:
            raise BadIntervention(f"{self.kind}: no step ran before step {upcoming.step}, so there is no x̂0 to keep")
        held = value - upcoming.clean_share * x0_hat  # sigma times the noise in x_s
        # As a sum of changes, so that a dose of 0 adds nothing, not even a rounding.
        return value + (kept - 1) * held + self.dose * sigma * fresh
