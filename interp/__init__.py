"""Tracing: load a video diffusion model, capture what its denoising steps do, into a store.

>>> model = interp.load("tinywan")                                   # doctest: +SKIP
>>> interp.capture(model, samples, into="acts", seeds=[0, 1])        # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

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
from interp.geometry import Geometry, Grid
from interp.lora import Lora
from interp.planning import ArrayPlan, Plan, plan
from interp.reductions import reductions
from interp.samples import custom_sample
from interp.sites import sites
from interp.spec import DEFAULT, SYNTAX, WITH_PIXELS, numbers, parse, read
from interp.worlds import worlds

if TYPE_CHECKING:
    from interp.capturing import Captured, Sweep, capture, sweep
    from interp.forecast import Forecast, foresee
    from interp.loading import load
    from interp.model import Model

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

# What runs a model is imported when it is first asked for: diffusers, transformers and nnsight take seconds, which
# samples and scores do without.
_RUNS_A_MODEL: Final = {
    "Captured": "capturing",
    "Forecast": "forecast",
    "Model": "model",
    "Sweep": "capturing",
    "capture": "capturing",
    "foresee": "forecast",
    "load": "loading",
    "sweep": "capturing",
}


def __getattr__(name: str) -> Any:
    if name not in _RUNS_A_MODEL:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_RUNS_A_MODEL[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
