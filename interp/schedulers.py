"""A sampler without memory in the place of a model's own solver: what perturbation experiments sample with."""

from __future__ import annotations

from typing import Any

from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    FlowMapEulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeliosScheduler,
)

from interp import noise
from interp.errors import BadInput


def use_euler(pipeline: Any) -> None:
    """Give a pipeline a sampler whose step follows from x_s and the prediction alone; one that has such is left alone.

    So a change of x_s meets no stale past. A flow model is given flow-matching Euler, with the shift of the solver that
    it had, and Helios that of its own scheduler, whose noise levels are its own. DDIM is without memory as it is, and
    takes the place of CogVideoX's DPM, on the same noise levels.

    Raises:
        BadInput: if the model is no flow model, and its sampler has a memory or draws noise.
    """
    scheduler = pipeline.scheduler
    if isinstance(scheduler, (FlowMatchEulerDiscreteScheduler, FlowMapEulerDiscreteScheduler)):
        return
    config = scheduler.config
    if isinstance(scheduler, CogVideoXDPMScheduler):
        pipeline.scheduler = CogVideoXDDIMScheduler.from_config(config)
        return
    if isinstance(scheduler, HeliosScheduler):
        pipeline.scheduler = HeliosScheduler.from_config(config, scheduler_type="euler")
        return
    if config.get("prediction_type") != "flow_prediction":
        if noise.repeats(scheduler):
            return
        raise BadInput(
            f"{type(pipeline).__name__} samples with {type(scheduler).__name__}, which is no flow: it has no Euler "
            "of flow matching; keep its own scheduler"
        )
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=config.get("num_train_timesteps", 1000), shift=config.get("flow_shift", 1.0)
    )
