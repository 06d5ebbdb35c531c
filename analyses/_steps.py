"""What a step means: its noise level, its timestep and the expert that ran, attached to every result."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import xarray as xr

from store import StepInfo, dims


def switches(steps: Sequence[StepInfo]) -> list[int]:
    """Steps at which another expert runs than at the step before."""
    return [now.step for before, now in pairwise(steps) if before.expert != now.expert]


def with_steps(data: xr.Dataset, steps: Sequence[StepInfo]) -> xr.Dataset:
    """`data` with the coordinates `timestep`, `sigma` and `expert` along its steps.

    Args:
        data: Has the axis `step`.
        steps: At least the steps that `data` has.
    """
    info = {step.step: step for step in steps}
    kept = [info[int(step)] for step in data[dims.STEP].to_numpy()]
    return data.assign_coords(
        timestep=(dims.STEP, [step.timestep for step in kept]),
        sigma=(dims.STEP, [step.sigma for step in kept]),
        expert=(dims.STEP, [step.expert for step in kept]),
    )
