"""The noisy latent before a step."""

from interp.sites import StepSite, StepValues, sites
from interp.sites._base import Tensor


class Latent(StepSite):
    """x_s, as the scheduler is given it (VAE-normalised units), float32."""

    name = "latent"
    decodable = True

    def value(self, step: StepValues, branch: str | None) -> Tensor:
        """See `StepSite.value`."""
        return step.latent.float()


sites.add(Latent.name, Latent())
