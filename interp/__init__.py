"""Tracing: load a video diffusion model, capture what its denoising steps do, into a store.

>>> model = interp.load("tinywan")                                   # doctest: +SKIP
>>> interp.capture(model, samples, into="acts", seeds=[0, 1])        # doctest: +SKIP
"""

from interp.capturing import Captured, Sweep, capture, sweep
from interp.errors import (
    BadInput,
    BadIntervention,
    BadSpec,
    InterpError,
    OutOfMemory,
    UnknownModel,
    UnknownName,
    UnsupportedModel,
)
from interp.forecast import Forecast, foresee
from interp.geometry import Geometry, Grid
from interp.loading import load
from interp.lora import Lora
from interp.model import Model
from interp.planning import ArrayPlan, Plan, plan
from interp.reductions import reductions
from interp.samples import custom_sample
from interp.sites import sites
from interp.spec import DEFAULT, SYNTAX, WITH_PIXELS, numbers, parse, read
from interp.worlds import worlds

__all__ = [
    "DEFAULT",
    "SYNTAX",
    "WITH_PIXELS",
    "ArrayPlan",
    "BadInput",
    "BadIntervention",
    "BadSpec",
    "Captured",
    "Forecast",
    "Geometry",
    "Grid",
    "InterpError",
    "Lora",
    "Model",
    "OutOfMemory",
    "Plan",
    "Sweep",
    "UnknownModel",
    "UnknownName",
    "UnsupportedModel",
    "capture",
    "custom_sample",
    "foresee",
    "load",
    "numbers",
    "parse",
    "plan",
    "read",
    "reductions",
    "sites",
    "sweep",
    "worlds",
]
