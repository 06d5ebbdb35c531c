"""Worlds: procedural video-reasoning tasks that know their own answers; one file a family.

Every module of this folder without a leading underscore is a family and registers itself in `worlds`.
"""

from interp.registry import Registry
from interp.worlds._base import BOARD, CELL, FRAMES, GROUPS, SIZE, SPLITS, Answers, Batch, World, WorldScore, in_time

worlds: Registry[World] = Registry(kind="world", package=__name__)
"""All families by name: `worlds["maze"].generate(6, seed=0)`."""

__all__ = [
    "BOARD",
    "CELL",
    "FRAMES",
    "GROUPS",
    "SIZE",
    "SPLITS",
    "Answers",
    "Batch",
    "World",
    "WorldScore",
    "in_time",
    "worlds",
]
