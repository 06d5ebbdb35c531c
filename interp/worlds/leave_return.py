"""Leave and return: a thing goes to marks that the prompt names, which vanish as it comes, and returns to its place.

Nothing in the picture marks that place while the thing is away.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import ClassVar, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.worlds import _palette, worlds
from interp.worlds._base import FRAMES
from interp.worlds._paths import scatter_places, timed
from interp.worlds._random import pick, stream_key, uniform
from interp.worlds._scene import Scenes, SceneWorld, blank
from interp.worlds._sprites import Sprites, shape_number
from interp.worlds._things import Things, different, shuffled
from store.records import Json


class Level(NamedTuple):
    """How much there is in a picture."""

    things: int
    """Things, numbered from 0."""
    marks: int
    """Marks, of which the first ones are visited, in their order; the last one is not."""
    way: tuple[int, ...]
    """The thing that visits each of those; it returns to its place before another one leaves."""


LEVELS: Final = {
    "easy": Level(1, 2, (0,)),
    "medium": Level(2, 3, (0, 1)),
    "hard": Level(2, 4, (0, 0, 0)),
}
FARTHER: Final = Level(1, 5, (0, 0, 0, 0))
"""At `hard` out of domain."""
SLOTS: Final = (11.5, 35.5, 59.5, 83.5)
"""Rows and columns of places, in pixels: middles of cells."""
HALF, MARK = 7.0, 6.0
"""Half a thing and half a mark, in pixels."""
CLEAR: Final = 14.0
"""Pixels that a moving thing's middle keeps from that of whatever it does not visit."""
REACH: Final = {"easy": 40.0, "medium": 30.0, "hard": 20.0}
"""Least pixels between one stop and the next."""
RIGHT, ELSEWHERE, OTHER = range(3)
"""Plans: the right one; a return to a free place; a visit to the last mark in place of the last one on the way."""


class Plan(NamedTuple):
    """Where the things of a level go; a stop is the number of a place: homes, then marks, then a free place."""

    stops: list[list[int]]
    """By thing, at each of the same times."""
    taken: list[float]
    """Frame from which each mark is gone; infinite if it stays."""


def plan(level: Level, which: int) -> Plan:
    """The plan `which` (`RIGHT`, `ELSEWHERE`, `OTHER`) of a level."""
    homes, free = list(range(level.things)), level.things + level.marks
    visits = list(range(len(level.way)))
    if which == OTHER:
        visits[-1] = level.marks - 1
    moments = [homes]
    arrivals: dict[int, int] = {}
    for number, (thing, mark) in enumerate(zip(level.way, visits, strict=True)):
        if number and level.way[number - 1] != thing:
            moments.append(homes)
        arrivals[mark] = len(moments)
        moments.append([level.things + mark if home == thing else home for home in homes])
    moments.append([free if which == ELSEWHERE and home == level.way[-1] else home for home in homes])
    step = (FRAMES - 1) / (len(moments) - 1)
    taken = [math.ceil(arrivals[mark] * step) if mark in arrivals else math.inf for mark in range(level.marks)]
    return Plan([list(stops) for stops in zip(*moments, strict=True)], taken)


class LeaveReturn(SceneWorld):
    """See the module. Out of domain, things have other colours and shapes, and at `hard` the way is longer."""

    name: ClassVar[str] = "leave_return"
    summary: ClassVar[str] = "go to the marks that the prompt names and return to the unmarked place"
    group: ClassVar[str] = "memory"
    difficulties: ClassVar[tuple[str, ...]] = tuple(LEVELS)

    TEMPLATES: ClassVar[tuple[str, ...]] = (
        "The {thing} goes to the {marks} mark and returns to its place",
        "The {thing} leaves its place, takes the {marks} mark and moves back",
        "The {thing} moves to the {marks} mark, then back to where it was",
    )

    def scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """See `SceneWorld.scenes`."""
        n, device = len(index), index.device
        level = FARTHER if (difficulty, split) == ("hard", "out_of_domain") else LEVELS[difficulty]
        things = different(index, level.things, key=key, split=split)
        marks = _mark_colours(things, index, key=key)[:, : level.marks]
        places = self._places(index, level, key=key, reach=REACH[difficulty])
        u = uniform(stream_key(key, "scene"), index, 2)

        plans = [plan(level, which) for which in (RIGHT, ELSEWHERE, OTHER)]
        stops = torch.tensor([each.stops for each in plans], device=device)  # [plan, thing, W]
        taken = torch.tensor([each.taken for each in plans], device=device)  # [plan, mark]
        followed = torch.stack([torch.zeros_like(index), 1 + pick(u[:, 0], 2)], dim=1)  # [n, A]: plans
        ways = places[torch.arange(n, device=device)[:, None, None, None], stops[followed]]
        legs = stops.shape[2] - 1
        moving = timed(ways, [(FRAMES - 1) * leg / legs for leg in range(legs + 1)]).transpose(2, 3)
        still = places[:, None, None, level.things : -1].expand(n, 2, FRAMES, level.marks, 2)
        there = torch.arange(FRAMES, device=device)[:, None] < taken[followed][:, :, None]  # [n, A, F, mark]

        half = torch.full((level.marks + level.things, 2), HALF, device=device)
        half[: level.marks] = MARK
        sprites = Sprites(
            centre=torch.cat([still, moving], dim=3),
            half=half[None, None, None],
            shape=torch.cat([torch.full_like(marks, shape_number("ex")), things.shape], dim=1)[:, None, None],
            colour=torch.cat([marks, things.colour], dim=1)[:, None, None],
            visible=torch.cat([there, torch.ones_like(moving[..., 0], dtype=torch.bool)], dim=3),
        )
        return Scenes(
            prompts=self._prompts(things, marks, level, pick(u[:, 1], len(self.TEMPLATES))),
            backdrop=blank(n, device),
            sprites=sprites,
            tracked=(
                *(f"mark {number}" for number in range(level.marks)),
                *(f"thing {number}" for number in range(level.things)),
            ),
            notes={
                "homes": places[:, : level.things],
                "marks": places[:, level.things : -1],
                "taken": there[:, 0].sum(dim=1),
                "away": (moving[:, 0] - moving[:, 0, :1]).norm(dim=-1) > 2 * HALF,
                "way": torch.tensor(level.way, device=device).expand(n, -1),
            },
        )

    @staticmethod
    def _places(index: Tensor, level: Level, *, key: int, reach: float) -> Tensor:
        """Where everything is, float32 `[n, P, 2]`: homes, marks, and last a place that is free."""
        ways = plan(level, RIGHT).stops
        legs = {(a, b) for way in ways for a, b in itertools.pairwise(way) if a != b}
        line = torch.tensor(SLOTS, device=index.device)
        return scatter_places(
            torch.cartesian_prod(line, line),
            index,
            sorted(legs),
            level.things + level.marks + 1,
            key=stream_key(key, "places"),
            clear=CLEAR,
            reach=reach,
        )

    def _prompts(self, things: Things, marks: Tensor, level: Level, templates: Tensor) -> list[str]:
        prompts: list[str] = []
        for names, colours, template in zip(things.names(), marks.tolist(), templates.tolist(), strict=True):
            trips: list[str] = []
            for thing in dict.fromkeys(level.way):
                visited = [_palette.NAMES[colours[mark]] for mark, visitor in enumerate(level.way) if visitor == thing]
                trips.append(self.TEMPLATES[template].format(thing=names[thing], marks=" mark, the ".join(visited)))
            prompts.append(". Then the ".join([trips[0], *(trip.removeprefix("The ") for trip in trips[1:])]) + ".")
        return prompts

    def labels(self, notes: Mapping[str, NDArray[np.int64]], i: int) -> Json:
        """Truths beside the common ones; places are centres (y, x) in pixels.

        `answers`: one list with the place to which each thing returns. `marks`: places of the marks; the first
        ones are visited, in this order. `visitors`: the thing that visits each of those. `taken`: frame from
        which each mark is gone, 17 if it stays. `away`: frames in which each thing is off its place.
        """
        return {
            "answers": [notes["homes"][i].tolist()],
            "marks": notes["marks"][i].tolist(),
            "visitors": notes["way"][i].tolist(),
            "taken": notes["taken"][i].tolist(),
            "away": [[int(frame) for frame in np.flatnonzero(away)] for away in notes["away"][i].T],
        }


def _mark_colours(things: Things, index: Tensor, *, key: int) -> Tensor:
    """Colours for marks, in domain always, those of things last, int64 `[n, colour]`."""
    known = _palette.classes(_palette.THINGS["in_domain"])
    order = shuffled(known, index, key=stream_key(key, "marks"))
    used = (order[:, :, None] == things.colour[:, None]).any(dim=2)
    return order.gather(1, used.int().argsort(dim=1, stable=True))


worlds.add(LeaveReturn.name, LeaveReturn())
