"""Weighted grid: a walker takes the only cheapest way to the goal and leaves a trail.

Search with one answer. White squares cost 1 to enter, beige ones `COSTLY`; grids are redrawn until exactly one way
is cheapest, and a way with the fewest steps is another one. The wrong answer takes that.

Shapes: n samples, m tries, 36 squares, D = 4 directions, L legs of the longest way.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.worlds import _palette, _things, worlds
from interp.worlds._lattice import NEXT, SIDE, SQUARES, Tries, centres, choose, redraw, tiles
from interp.worlds._motion import along, ramp
from interp.worlds._random import pick, stream_key, uniform
from interp.worlds._scene import Scenes, SceneWorld
from interp.worlds._sprites import SHAPES, Sprites, shape_number
from store.records import Json

COSTLY: Final = 4
"""What a beige square costs."""
GOAL, WALKER, TRAIL = 7.0, 6.5, 4.0
"""Half the size of the goal, the walker and a square of its trail, in pixels."""
BEHIND: Final = 0.65
"""Steps that the walker is ahead of the place where a piece of trail appears."""


class Level(NamedTuple):
    """What a difficulty asks for."""

    fewest: int
    most: int
    """Steps of the cheapest way."""
    costly: float
    """Share of squares that are costly."""
    detour: int
    """Steps that it has more than the shortest way, at least."""


ARRIVAL: Final = 14
"""Frame in which the walker reaches the goal and takes it away."""
LEVELS: Final = {
    "in_domain": {"easy": Level(3, 4, 0.25, 0), "medium": Level(5, 7, 0.35, 0), "hard": Level(7, 9, 0.45, 2)},
    "out_of_domain": {"easy": Level(3, 4, 0.25, 0), "medium": Level(5, 7, 0.35, 0), "hard": Level(10, 13, 0.45, 2)},
}
STEP: Final = 2.0**-6
"""A step beside costs: less than 1 for any way, and exact in float32."""
ROUNDS: Final = SQUARES - 1
"""Steps of the longest way that visits no square twice."""


def ahead(values: Tensor, outside: float) -> Tensor:
    """Values `[m, 36]` at the neighbours of each square, `[m, 36, D]`, `outside` beyond the edge."""
    edge = torch.full_like(values[:, :1], outside)
    return torch.cat([values, edge], dim=1)[:, NEXT.to(values.device)]


def distances(cost: Tensor, goal: Tensor) -> Tensor:
    """Cheapest ways from everywhere to the goal, by Bellman and Ford.

    Args:
        cost: What it costs to enter a square, float32 `[m, 36]`.
        goal: int64 `[m]`.

    Returns:
        float32 `[m, 36]`; the square that a way starts from costs nothing.
    """
    distance = torch.full_like(cost, torch.inf).scatter(1, goal[:, None], 0.0)
    for _ in range(ROUNDS):
        distance = torch.minimum(distance, ahead(distance + cost, torch.inf).amin(dim=2))
    return distance


def ways(cost: Tensor, distance: Tensor) -> Tensor:
    """How many cheapest ways lead from each square to the goal, float32 `[m, 36]`; 2 stands for more.

    Args:
        cost: float32 `[m, 36]`, whole numbers.
        distance: See `distances`.
    """
    good = ahead(distance + cost, torch.inf) == distance[:, :, None]
    at_goal = (distance == 0).float()
    count = at_goal
    for _ in range(ROUNDS):
        count = (at_goal + (ahead(count, 0.0) * good).sum(dim=2)).clamp_max(2.0)
    return count


def walk(cost: Tensor, distance: Tensor, start: Tensor, legs: int) -> Tensor:
    """A cheapest way from `start`, int64 `[m, legs + 1]`: its squares, the goal repeated at the end."""
    toward = ahead(distance + cost, torch.inf)
    row = torch.arange(len(start), device=start.device)
    squares = [start]
    for _ in range(legs):
        here = squares[-1]
        after = NEXT.to(start.device)[here, toward[row, here].argmin(dim=1)]
        squares.append(torch.where(distance[row, here] > 0, after, here))
    return torch.stack(squares, dim=1)


def attempt(tries: Tries, *, key: int, level: Level) -> tuple[dict[str, Tensor], Tensor]:
    """Grids with their cheapest and their shortest way, and which of them are as the level asks."""
    u = uniform(stream_key(key, "grid", tries.attempt), tries.index, 2 + 2 * SQUARES)
    row = torch.arange(len(u), device=u.device)
    goal = pick(u[:, 0], SQUARES)
    costly = u[:, 2 : 2 + SQUARES] < level.costly
    cost = torch.where(costly, float(COSTLY), 1.0)
    by_steps = distances(cost + STEP, goal)  # the cheapest, and of these the shortest
    distance = by_steps.floor()
    steps = (by_steps - distance) / STEP
    place = torch.arange(SQUARES, device=u.device)
    apart = (place // SIDE - goal[:, None] // SIDE).abs() + (place % SIDE - goal[:, None] % SIDE).abs()
    fits = (
        (ways(cost, distance) == 1) & (steps >= level.fewest) & (steps <= level.most) & (steps - apart >= level.detour)
    )
    start = choose(u[:, 1], fits)
    way = walk(cost, distance, start, level.most)
    on_way = torch.zeros_like(costly).scatter(1, way, True)
    plain = 1 + 0.01 * on_way + 0.001 * u[:, 2 + SQUARES :]  # shortest, away from the cheapest way, then by chance
    other = walk(plain, distances(plain, goal), start, level.most)
    found = {"costly": costly, "way": way, "other": other, "steps": steps[row, start].long()}
    return found, fits.any(dim=1) & (way != other).any(dim=1)


class WeightedGrid(SceneWorld):
    """See the module. Out of domain, colours and shapes are new, and hard ways are longer."""

    name: ClassVar[str] = "weighted_grid"
    summary: ClassVar[str] = "take the cheapest way over squares that cost 1 or 4"
    group: ClassVar[str] = "search"
    difficulties: ClassVar[tuple[str, ...]] = ("easy", "medium", "hard")

    TEMPLATES: ClassVar[tuple[str, ...]] = (
        "The {walker} takes the cheapest way to the {goal} square. A white cell has cost one, any other cell four.",
        "Find the cheapest path of the {walker} to the {goal} goal. The weight of white is one, of the other four.",
        "The {walker} walks to the {goal} square and leaves a trail. White has cost one, the other colour four.",
    )

    def scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """See `SceneWorld.scenes`."""
        device = index.device
        found = redraw(index, partial(attempt, key=key, level=LEVELS[split][difficulty]))
        colour = _things.colours(split, index, key=key)[:, :2]  # of walker and goal
        shape = _things.shapes(split, index, key=key)[:, 0]

        squares = torch.stack([found["way"], found["other"]], dim=1)  # [n, A, L+1]
        most = squares.shape[2] - 1
        legs = (squares.diff(dim=2) != 0).sum(dim=2)[:, :, None, None]
        points = centres(squares)
        share = ramp(0, ARRIVAL, device=device)
        walker = along(points, share)[:, :, :, None]  # [n, A, F, 1, 2]
        trail = points[:, :, None, :-1].expand(-1, -1, walker.shape[2], -1, -1)
        place = torch.arange(most, device=device)
        left = (share[:, None] * legs >= place + BEHIND) & (place < legs)  # [n, A, F, L]
        always = torch.ones_like(left[..., :1])
        there = (share < 1)[:, None].expand_as(always)
        square = torch.full_like(shape, shape_number("square"))[:, None]
        sprites = Sprites(
            centre=torch.cat([points[:, :, None, -1:].expand_as(walker), walker, trail], dim=3),
            half=torch.tensor([GOAL, WALKER, *[TRAIL] * most], device=device)[:, None].expand(1, 1, 1, -1, 2),
            shape=torch.cat([square, shape[:, None], square.expand(-1, most)], dim=1)[:, None, None],
            colour=torch.cat([colour[:, 1:], colour[:, :1].expand(-1, most + 1)], dim=1)[:, None, None],
            visible=torch.cat([there, always, left], dim=3),
        )
        templates = pick(uniform(stream_key(key, "prompt"), index, 1)[:, 0], len(self.TEMPLATES)).tolist()
        prompts = [
            self.TEMPLATES[t].format(walker=f"{_palette.NAMES[w]} {SHAPES[s]}", goal=_palette.NAMES[g])
            for t, s, (w, g) in zip(templates, shape.tolist(), colour.tolist(), strict=True)
        ]
        return Scenes(
            prompts=prompts,
            backdrop=tiles(found["costly"] * _palette.NAMES.index("beige")),
            sprites=sprites,
            tracked=("goal", "walker"),
            notes=found,
        )

    def labels(self, notes: Mapping[str, NDArray[Any]], i: int) -> Json:
        """`answers`: the way as squares 0-35, row by row; `shortest`: the wrong one; `squares`: what each costs."""
        steps = int(notes["steps"][i])
        way, cost = notes["way"][i, : steps + 1].tolist(), np.where(notes["costly"][i], COSTLY, 1)
        return {
            "answers": [way],
            "shortest": list(dict.fromkeys(notes["other"][i].tolist())),
            "start": way[0],
            "goal": way[-1],
            "steps": steps,
            "cost": int(cost[way[1:]].sum()),
            "squares": cost.tolist(),
        }


worlds.add(WeightedGrid.name, WeightedGrid())
