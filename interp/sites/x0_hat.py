"""The clean video that a step predicts."""

from interp.sites import StepSite, StepValues, sites
from interp.sites._base import Tensor


class X0Hat(StepSite):
    """x̂0 = x_s − σ_s·v with the guided v (SCIENCE, E1), in float32; processes other than flow: `interp.noise`."""

    name = "x0_hat"
    decodable = True

    def value(self, step: StepValues, branch: str | None) -> Tensor:
        """See `StepSite.value`."""
        kept = step.latent.float() if step.signal == 1 else step.signal * step.latent.float()
        return kept - step.info.sigma * step.velocity["guided"].float()


sites.add(X0Hat.name, X0Hat())
