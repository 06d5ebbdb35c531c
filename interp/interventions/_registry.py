"""The interventions by kind."""

from __future__ import annotations

from interp.interventions._base import Intervention
from interp.registry import Registry

interventions: Registry[type[Intervention]] = Registry(kind="intervention", package="interp.interventions")
