"""What a scheduler's numbers mean: the noise level of a step, and the velocity and x̂0 of what was predicted.

Three processes, all with x̂0 = signal·x_s − sigma·v, where sigma is the coefficient of the noise:

- *flow* (flow matching): x_s = (1−sigma)·x0 + sigma·noise, v = noise − x0, signal = 1;
- *vp* (variance preserving, DDIM): x_s = signal·x0 + sigma·noise, signal = √(1−sigma²), v = signal·noise − sigma·x0;
- *ve* (variance exploding, Euler of Karras, EDM): x_s = x0 + sigma·noise, v = noise, signal = 1.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final, NamedTuple

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from interp.errors import UnsupportedModel

Tensor = torch.Tensor

FLOW = (
    "FlowMatchEulerDiscreteScheduler",
    "FlowMapEulerDiscreteScheduler",
    "FlowMatchLCMScheduler",
    "HeliosScheduler",
    "LTXEulerAncestralRFScheduler",
)
SOLVERS = ("UniPCMultistepScheduler", "DPMSolverMultistepScheduler", "DEISMultistepScheduler")
DISCRETE = ("DDIMScheduler", "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler")
EULER = ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler")


class Level(NamedTuple):
    """Noise before and after a step, and what the denoiser predicts at it."""

    sigma: float
    sigma_next: float
    signal: float
    """Coefficient of x_s in x̂0."""
    of_sample: float
    """v = of_sample·x_s + of_prediction·prediction."""
    of_prediction: float

    def velocity(self, sample: Tensor, prediction: Tensor) -> Tensor:
        """V of a prediction at x_s, float32 unless the prediction is v itself."""
        if (self.of_sample, self.of_prediction) == (0.0, 1.0):
            return prediction
        return self.of_sample * sample.float() + self.of_prediction * prediction.float()


def supported(scheduler: Any) -> None:
    """Refuse a scheduler whose noise levels cannot be told.

    Raises:
        UnsupportedModel: naming those that can.
    """
    if type(scheduler).__name__ not in (*FLOW, *SOLVERS, *DISCRETE, *EULER, "EDMEulerScheduler"):
        raise UnsupportedModel(
            f"the noise levels of {type(scheduler).__name__} are unknown; use FlowMatchEulerDiscreteScheduler or one "
            f"of {', '.join((*FLOW[1:], *SOLVERS, *DISCRETE, *EULER))}"
        )


_HOST: Final[MutableMapping[Tensor, tuple[int, list[float]]]] = WeakTensorKeyDictionary()


def on_host(schedule: Tensor) -> list[float]:
    """Numbers of a scheduler, most often on a GPU: copied once, so that no step waits for what came before it."""
    if schedule.is_inference():  # has no version, so that a change would not be seen
        return schedule.flatten().tolist()
    known = _HOST.get(schedule)
    if known is None or known[0] != schedule._version:
        known = _HOST[schedule] = (schedule._version, schedule.flatten().tolist())
    return known[1]


def number(value: Any, schedule: Any) -> float:
    """A timestep as a number; without waiting for the device where it is an element of `schedule`, as of a loop."""
    if (
        isinstance(value, Tensor)
        and isinstance(schedule, Tensor)
        and value.numel() == 1
        and schedule.is_contiguous()
        and value.dtype is schedule.dtype
        and value.untyped_storage().data_ptr() == schedule.untyped_storage().data_ptr()
    ):
        at = value.storage_offset() - schedule.storage_offset()
        if 0 <= at < schedule.numel():
            return float(on_host(schedule)[at])
    return float(value)


def level(scheduler: Any, timestep: float) -> Level:
    """The noise level of the step that `scheduler` has just made.

    Args:
        scheduler: After its step: one that counts its steps points at the next noise level.
        timestep: As it was given.
    """
    name = type(scheduler).__name__
    kind = scheduler.config.get("prediction_type", "flow_prediction")
    if name in DISCRETE:
        before = scheduler.alphas_cumprod[int(timestep)]
        previous = int(timestep) - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
        after = scheduler.alphas_cumprod[previous] if previous >= 0 else scheduler.final_alpha_cumprod
        return _preserving(float(before**0.5), float((1 - before) ** 0.5), float((1 - after) ** 0.5), kind)
    sigma, following = (on_host(scheduler.sigmas)[scheduler.step_index + shift] for shift in (-1, 0))
    if scheduler.config.get("invert_sigmas"):  # of a flow that counts from 0 to 1 and predicts x0 − noise
        return Level(1 - sigma, 1 - following, signal=1.0, of_sample=0.0, of_prediction=-1.0)
    if name in FLOW or kind == "flow_prediction":
        return Level(sigma, following, signal=1.0, of_sample=0.0, of_prediction=1.0)
    if name in SOLVERS:
        ratios = [(1 + noise * noise) ** -0.5 for noise in (sigma, following)]
        return _preserving(ratios[0], sigma * ratios[0], following * ratios[1], kind)
    if name in EULER:
        return _exploding(sigma, following, kind)
    data = scheduler.config.sigma_data
    norm = (sigma * sigma + data * data) ** 0.5
    sign = -1.0 if kind == "v_prediction" else 1.0
    # EDM preconditioning: x0 = (data/norm)²·x ± (sigma·data/norm)·prediction, and v = (x − x0) / sigma.
    return Level(sigma, following, 1.0, of_sample=sigma / norm**2, of_prediction=-sign * data / norm)


def clean_share(scheduler: Any, sigma: float) -> float:
    """Coefficient of x0 in x at the noise level `sigma`: x = share·x0 + sigma·noise."""
    name = type(scheduler).__name__
    if name in EULER or name == "EDMEulerScheduler":
        return 1.0
    if name in FLOW or scheduler.config.get("prediction_type", "flow_prediction") == "flow_prediction":
        return 1.0 - sigma
    return (1.0 - sigma * sigma) ** 0.5


def remembers(scheduler: Any) -> bool:
    """Whether a step uses what earlier steps predicted, so that it does not follow from x_s alone."""
    return _solves(scheduler) or type(scheduler).__name__ == "CogVideoXDPMScheduler"


def repeats(scheduler: Any) -> bool:
    """Whether a step follows from x_s and the prediction: no memory of earlier steps, no noise of its own."""
    ancestral = ("LTXEulerAncestralRFScheduler", "EulerAncestralDiscreteScheduler", "FlowMatchLCMScheduler")
    kinds = scheduler.config.get("stochastic_sampling"), scheduler.config.get("scheduler_type") == "dmd"
    drawn = type(scheduler).__name__ in ancestral or any(kinds)
    return not remembers(scheduler) and not drawn


def forget(scheduler: Any) -> None:
    """Empty the past of a solver: its next step is one of first order, as at the start."""
    if _solves(scheduler):
        scheduler.model_outputs = [None] * scheduler.config.solver_order
        scheduler.lower_order_nums = 0
        if hasattr(scheduler, "last_sample"):
            scheduler.last_sample = None


def _solves(scheduler: Any) -> bool:
    """Whether it is a solver of several steps."""
    name = type(scheduler).__name__
    return name in SOLVERS or (name == "HeliosScheduler" and scheduler.config.scheduler_type == "unipc")


def _preserving(signal: float, sigma: float, following: float, kind: str) -> Level:
    """Level of a variance-preserving process for a prediction of `kind`."""
    if kind == "v_prediction":
        return Level(sigma, following, signal, 0.0, 1.0)
    if kind == "epsilon":
        return Level(sigma, following, signal, -sigma / signal, 1 / signal)
    if kind == "sample":
        return Level(sigma, following, signal, signal / sigma, -1 / sigma)
    raise UnsupportedModel(f"a scheduler with prediction_type {kind!r} cannot be read")


def _exploding(sigma: float, following: float, kind: str) -> Level:
    """Level of a variance-exploding process for a prediction of `kind`."""
    if kind == "epsilon":
        return Level(sigma, following, 1.0, 0.0, 1.0)
    if kind == "v_prediction":
        square = sigma * sigma + 1
        return Level(sigma, following, 1.0, sigma / square, square**-0.5)
    raise UnsupportedModel(f"a scheduler with prediction_type {kind!r} cannot be read")
