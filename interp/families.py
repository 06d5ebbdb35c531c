"""The table of task families: what each asks of a model, and how many answers its tasks have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from interp.worlds import GROUPS, World, worlds
from interp.worlds._scene import SceneWorld

DRAWN = 32
"""Samples of each difficulty that the number of answers is read off."""


class Family(NamedTuple):
    """One row of the table."""

    family: str
    group: str
    """One of `interp.worlds.GROUPS`."""
    kind: str
    """What a sample with several valid answers is; see `World.kind`."""
    answers: dict[str, tuple[int, int]]
    """Least and greatest number of valid answers k, by difficulty, from easy to hard."""
    summary: str

    @property
    def k(self) -> str:
        """Range of k over all difficulties, for people."""
        least, most = min(low for low, _ in self.answers.values()), max(high for _, high in self.answers.values())
        return str(least) if least == most else f"{least}-{most}"


def families() -> Iterator[Family]:
    """Every family, by group and name."""
    for world in sorted(worlds, key=lambda world: (GROUPS.index(world.group), world.name)):
        answers = {difficulty: _answers(world, difficulty) for difficulty in world.difficulties}
        yield Family(world.name, world.group, world.kind, answers, world.summary)


def _answers(world: World, difficulty: str) -> tuple[int, int]:
    if world.kind == "single":
        return 1, 1
    index = torch.arange(DRAWN)
    if isinstance(world, SceneWorld):
        valid = world.valid(index, seed=0, difficulty=difficulty, split="in_domain").tolist()
    else:
        batch = world.draw(index, seed=0, difficulty=difficulty, split="in_domain")
        valid = [sample.record.answers for sample in world.samples(batch, difficulty=difficulty, split="in_domain")]
    return min(valid), max(valid)
