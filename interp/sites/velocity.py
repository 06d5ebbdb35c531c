"""The velocity that the denoiser predicts."""

from interp.sites import StepSite, StepValues, sites
from interp.sites._base import Tensor


class Velocity(StepSite):
    """v: of the cond and the uncond forward, and `guided`, their combination that the scheduler is given; float32.

    What it is in a process other than flow matching says `interp.noise`.
    """

    name = "velocity"
    branches = ("guided", "cond", "uncond")

    def value(self, step: StepValues, branch: str | None) -> Tensor:
        """See `StepSite.value`."""
        assert branch is not None
        return step.velocity[branch].float()


sites.add(Velocity.name, Velocity())
