"""Detour: a thing goes around black walls to a target, and draws its path; k routes are equally long.

Search with k answers in different places. Every wall may be passed on two sides unless it reaches the border
there. Where two walls follow each other, a gate in the middle makes all routes meet between them, so that none
is a shortcut. All routes end at one target: the path that stays on the board tells them apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import ClassVar, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.worlds import _palette, worlds
from interp.worlds._base import SIZE
from interp.worlds._motion import along, ramp
from interp.worlds._random import pick, stream_key, uniform
from interp.worlds._scene import Scenes, SceneWorld, blank
from interp.worlds._sprites import KINDS, Sprites, shape_number
from store.records import Json

WALLS: Final = {"easy": 1, "medium": 1, "hard": 2}
"""Walls in the way by difficulty."""
CLOSED: Final = {"easy": 1.0, "medium": 0.0, "hard": 1 / 3}
"""Share of samples in which one wall reaches the border on one side, so that half of the routes are left."""
START, END, MIDDLE = 8.5, 86.5, 47.5
"""Where routes begin and end, and the middle of the board; pixels along the way."""
SHORT, LONG = (12.0, 20.0), (24.0, 28.0)
"""Half the lengths of walls, in domain and at the hard level out of domain."""
REACH: Final = {1: 16.0, 2: 13.0}
"""Pixels before and behind the middle of a wall at which routes turn, by the number of walls."""
THICK, ROOM, GATE = 3.0, 12.0, 12.0
"""Half a wall's thickness, how far from its end the routes pass, half the opening of the gate."""
THING, TARGET, DOT = 6.0, 8.0, 3.0
"""Half sizes in pixels."""
STEP, BEHIND = 8, 10
"""Pixels from dot to dot of the drawn path, and how far behind the thing a dot appears."""
ARRIVAL: Final = 14
"""Frame in which the thing reaches the target and takes it away."""
STOP: Final = 0.6
"""Share of the way after which a wrong video stops, if it does not go through a wall."""


class Plan(NamedTuple):
    """Where walls stand and routes run, on a board that is crossed from left to right."""

    level: Tensor
    """float32 `[n]`: row of start and target."""
    half: Tensor
    """float32 `[n]`: how far walls reach to either side of that row, unless they reach the border."""
    columns: Tensor
    """float32 `[n, wall]`: middles of the walls."""
    closed: Tensor
    """bool `[n, wall, 2]`: whether the wall reaches the upper and the lower border."""


def points(plan: Plan, sides: Tensor, *, straight: Tensor | None = None) -> Tensor:
    """Way points of routes, from left to right.

    Args:
        plan: Of n samples.
        sides: int64 `[n, route, wall]`: 0 above the wall, 1 below it.
        straight: bool `[n, route]`, routes that go through the walls instead; None for none.

    Returns:
        float32 `[n, route, 4·wall + 2, 2]`.
    """
    away = (sides * 2 - 1) * (plan.half + ROOM)[:, None, None]
    if straight is not None:
        away = away * ~straight[..., None]
    level = plan.level[:, None, None].expand(away.shape)
    rows = torch.stack([level, level + away, level + away, level], dim=-1).flatten(2)
    reach = REACH[plan.columns.shape[1]]
    turns = torch.tensor([-reach, -reach, reach, reach], device=away.device)
    columns = (plan.columns[..., None] + turns).flatten(1)[:, None].expand(rows.shape)
    ends = [torch.full_like(columns[..., :1], column) for column in (START, END)]
    return torch.stack(
        [torch.cat([rows[..., :1], rows, rows[..., -1:]], dim=-1), torch.cat([ends[0], columns, ends[1]], dim=-1)],
        dim=-1,
    )


def walls(plan: Plan, y: Tensor, x: Tensor) -> Tensor:
    """Whether there is a wall or the gate at rows `y`, columns `x` `[n, H, W]`: bool `[n, H, W]`."""
    level = plan.level[:, None, None]
    black = torch.zeros_like(y, dtype=torch.bool)
    for wall in range(plan.columns.shape[1]):
        here = (x - plan.columns[:, wall, None, None]).abs() <= THICK
        above, below = (plan.closed[:, wall, side, None, None] for side in (0, 1))
        away = y - level
        black |= here & ((away >= -plan.half[:, None, None]) | above) & ((away <= plan.half[:, None, None]) | below)
    if plan.columns.shape[1] > 1:
        black |= ((x - MIDDLE).abs() <= THICK) & ((y - level).abs() > GATE)
    return black


class Detour(SceneWorld):
    """See the module. The board is turned at random; out of domain, walls of the hard level are longer."""

    name: ClassVar[str] = "detour"
    summary: ClassVar[str] = "go around walls on one of k equally long routes and draw the path"
    group: ClassVar[str] = "multi-path"
    kind: ClassVar[str] = "multi-path"
    difficulties: ClassVar[tuple[str, ...]] = ("easy", "medium", "hard")

    TEMPLATES: ClassVar[tuple[str, ...]] = (
        "The {thing} goes around the wall to the {target} target and leaves a trail.",
        "Take a detour: move the {thing} around the obstacle to the {target} square and draw its path.",
        "Find a short free path for the {thing} to the {target} goal and mark the way.",
    )

    def scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """See `SceneWorld.scenes`."""
        n, device = len(index), index.device
        plan = _plan(index, key=key, difficulty=difficulty, longer=(split, difficulty) == ("out_of_domain", "hard"))
        sides, valid = _routes(plan.closed)
        u = uniform(stream_key(key, "look"), index, 7)

        stops = u[:, 0] < 0.4
        crosses = torch.where(stops[:, None], sides[:, 0], sides[:, -1])  # the last route is closed if any is
        every = torch.cat([sides, crosses[:, None]], dim=1)
        entry = torch.arange(every.shape[1], device=device)
        bad = (entry == every.shape[1] - 1).expand(n, -1)
        way = points(plan, every, straight=bad & (~stops & (valid == sides.shape[1]))[:, None])
        share = ramp(0, ARRIVAL, device=device) * torch.where(bad & stops[:, None], STOP, 1.0)[..., None]
        thing = along(way, share)  # [n, A, F, 2]
        dots, drawn = _path(way, share)

        turned, flipped = u[:, 1] < 0.5, u[:, 2] < 0.5
        target = way[:, :, -1:].expand_as(thing)
        still = dots[:, :, None].expand(*thing.shape[:3], -1, 2)
        centre = torch.cat([target[:, :, :, None], thing[:, :, :, None], still], dim=3)
        y, x = centre.unbind(dim=-1)
        pixel = torch.arange(SIZE, device=device, dtype=torch.float32).expand(n, SIZE, SIZE)
        backdrop = blank(n, device)
        backdrop[walls(plan, *_turn(pixel.mT, pixel, turned, flipped, inverse=True))] = _palette.NAMES.index("black")

        names, kinds = _palette.THINGS[split], KINDS[split]
        things = _palette.classes(names, device=device)
        shapes = torch.tensor([shape_number(kind) for kind in kinds], device=device)
        first, kind = pick(u[:, 3], len(names)), pick(u[:, 4], len(kinds))
        second = (first + 1 + pick(u[:, 5], len(names) - 1)) % len(names)
        square = torch.full((n, 1), shape_number("square"), device=device)
        count = dots.shape[2]
        sprites = Sprites(
            centre=torch.stack(_turn(y, x, turned, flipped), dim=-1),
            half=torch.tensor([TARGET, THING, *[DOT] * count], device=device)[:, None].expand(1, 1, 1, -1, 2),
            shape=torch.cat([square, shapes[kind][:, None], square.expand(n, count)], dim=1)[:, None, None],
            colour=things[torch.stack([second, first, *[first] * count], dim=1)][:, None, None],
            visible=torch.cat([(share < 1)[..., None], torch.ones_like(drawn[..., :1]), drawn], dim=-1),
        )
        rows = zip(
            pick(u[:, 6], len(self.TEMPLATES)).tolist(), first.tolist(), kind.tolist(), second.tolist(), strict=True
        )
        return Scenes(
            prompts=[self.TEMPLATES[t].format(thing=f"{names[a]} {kinds[s]}", target=names[b]) for t, a, s, b in rows],
            backdrop=backdrop,
            sprites=sprites,
            tracked=("target", "thing"),
            answers=valid,
            wrong=torch.full_like(valid, sides.shape[1]),
            notes={
                "sides": sides,
                "valid": valid,
                "turned": turned,
                "flipped": flipped,
                "length": way[:, 0].diff(dim=1).norm(dim=-1).sum(dim=1),
            },
        )

    def labels(self, notes: Mapping[str, NDArray[np.int64]], i: int) -> Json:
        """`answers`: the side of each wall, in the order of the way; `direction` of the way; `length` in pixels."""
        turned, flipped = bool(notes["turned"][i]), bool(notes["flipped"][i])
        sides = ("left", "right") if turned else ("above", "below")
        routes = notes["sides"][i, : int(notes["valid"][i])].tolist()
        return {
            "answers": [[sides[side] for side in route] for route in routes],
            "direction": (("right", "left"), ("down", "up"))[turned][flipped],
            "length": float(notes["length"][i]),
        }


def _plan(index: Tensor, *, key: int, difficulty: str, longer: bool) -> Plan:
    """Where the walls of samples `index` stand."""
    n, device, count = len(index), index.device, WALLS[difficulty]
    u = uniform(stream_key(key, "walls"), index, 6)
    shorter, other = LONG if longer else SHORT
    half = torch.where(u[:, 0] < 0.5, shorter, other)
    level = MIDDLE + 4.0 * (pick(u[:, 1], 3) - 1) * (half < max(LONG))  # the longest walls leave no room for another
    if count == 1:
        columns = (MIDDLE + 8.0 * (pick(u[:, 2], 3) - 1))[:, None]
    else:
        columns = torch.tensor([START + REACH[2], END - REACH[2]], device=device).expand(n, 2)
    one = pick(u[:, 3], 2 * count)[:, None] == torch.arange(2 * count, device=device)
    closed = one & (u[:, 4] < CLOSED[difficulty])[:, None]
    return Plan(level, half, columns, closed.view(n, count, 2))


def _routes(closed: Tensor) -> tuple[Tensor, Tensor]:
    """Every route as the side of each wall, open ones first, int64 `[n, route, wall]`, and how many are open `[n]`."""
    count, device = closed.shape[1], closed.device
    routes = torch.tensor(list(itertools.product((0, 1), repeat=count)), device=device)
    shut = closed[:, torch.arange(count, device=device), routes].any(dim=-1)
    order = (shut * len(routes) + torch.arange(len(routes), device=device)).argsort(dim=1)
    return routes[order], (~shut).sum(dim=1)


def _path(way: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """The dots of the drawn path.

    Args:
        way: Way points float32 `[n, A, W, 2]`.
        share: Share of the way that is done, float32 `[n, A, F]`.

    Returns:
        Centres float32 `[n, A, dot, 2]`, and when they can be seen, bool `[n, A, F, dot]`.
    """
    walls = (way.shape[2] - 2) // 4
    longest = END - START + 2 * walls * (max(LONG) + ROOM)
    length = way.diff(dim=2).norm(dim=-1).sum(dim=2)
    at = torch.arange(0, int(longest) - BEHIND, STEP, device=way.device, dtype=torch.float32)
    dots = along(way, (at / length[..., None]).clamp_max(1))
    return dots, (share * length[..., None])[..., None] >= at + BEHIND


def _turn(y: Tensor, x: Tensor, turned: Tensor, flipped: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """Rows and columns on the picture of places on the board, `[n, …]` each; `inverse` the other way round."""
    shape = (-1,) + (1,) * (y.ndim - 1)
    turned, flipped = turned.view(shape), flipped.view(shape)
    if inverse:
        y, x = torch.where(turned, x, y), torch.where(turned, y, x)
        return y, torch.where(flipped, SIZE - 1 - x, x)
    x = torch.where(flipped, SIZE - 1 - x, x)
    return torch.where(turned, x, y), torch.where(turned, y, x)


worlds.add(Detour.name, Detour())
