"""Interventions: what a run changes on its way, as data that is part of its record. One file each."""

from __future__ import annotations

from interp.interventions._base import Edit, Intervention, LatentEdit, LayerEdit, Need, Scope
from interp.interventions._donor import Donor
from interp.interventions._region import Box, Mask, Region
from interp.registry import Registry

interventions: Registry[type[Intervention]] = Registry(kind="intervention", package=__name__)

__all__ = [
    "Box",
    "Donor",
    "Edit",
    "Intervention",
    "LatentEdit",
    "LayerEdit",
    "Mask",
    "Need",
    "Region",
    "Scope",
    "interventions",
]
