"""Flow-matching Euler in the place of a model's own solver: what perturbation experiments sample with."""

from __future__ import annotations

from typing import Any

from diffusers import FlowMapEulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, HeliosScheduler

from interp.errors import BadInput


def use_euler(pipeline: Any) -> None:
    """Give a pipeline flow-matching Euler, with the shift of the solver that it had; one that has it is left alone.

    Helios is given that of its own scheduler, whose noise levels are its own.

    A step of Euler follows from x_s and the prediction alone, so that a change of x_s meets no stale past.

    Raises:
        BadInput: if the model is no flow model.
    """
    scheduler = pipeline.scheduler
    if isinstance(scheduler, (FlowMatchEulerDiscreteScheduler, FlowMapEulerDiscreteScheduler)):
        return
    config = scheduler.config
    if isinstance(scheduler, HeliosScheduler):
        pipeline.scheduler = HeliosScheduler.from_config(config, scheduler_type="euler")
        return
    if config.get("prediction_type") != "flow_prediction":
        raise BadInput(
            f"{type(pipeline).__name__} samples with {type(scheduler).__name__}, which is no flow: it has no Euler "
            "of flow matching; keep its own scheduler"
        )
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=config.get("num_train_timesteps", 1000), shift=config.get("flow_shift", 1.0)
    )
