"""Interventions: what a run changes on its way, as data that is part of its record. One file each."""

from __future__ import annotations

from interp.interventions._base import Edit, Intervention, LatentEdit, LayerEdit, Need, Scope
from interp.interventions._donor import Donor
from interp.interventions._region import Box, Mask, Region
from interp.interventions._registry import interventions
from interp.interventions.ablate import Ablate
from interp.interventions.block_noise import BlockNoise
from interp.interventions.ensemble import Ensemble
from interp.interventions.noise_at_frame import NoiseAtFrame
from interp.interventions.noise_at_step import NoiseAtStep
from interp.interventions.patch import Patch
from interp.interventions.steer import Steer
from interp.interventions.swap import Swap

__all__ = [
    "Ablate",
    "BlockNoise",
    "Box",
    "Donor",
    "Edit",
    "Ensemble",
    "Intervention",
    "LatentEdit",
    "LayerEdit",
    "Mask",
    "Need",
    "NoiseAtFrame",
    "NoiseAtStep",
    "Patch",
    "Region",
    "Scope",
    "Steer",
    "Swap",
    "interventions",
]
