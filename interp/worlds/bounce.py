"""Bounce: a ball, whose direction two dots behind it show, bounces off walls until it hits a thing, which vanishes.

A way is laid out in an unfolded picture, where bouncing is going straight on into a mirror image of the room.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.worlds import _palette, worlds
from interp.worlds._base import CELL, FRAMES, SIZE
from interp.worlds._motion import along
from interp.worlds._paths import distance, first
from interp.worlds._random import pick, stream_key, uniform
from interp.worlds._scene import Scenes, SceneWorld, blank
from interp.worlds._sprites import Sprites, shape_number
from interp.worlds._things import different
from store.records import Json

BOUNCES: Final = {"easy": 0, "medium": 1, "hard": 2}
"""Bounces by difficulty; one more at `hard` out of domain."""
DECOYS: Final = {"easy": 0, "medium": 0, "hard": 2}
"""Things that the ball does not hit; one fewer where there is no room."""
LENGTHS: Final = ((36.0, 60.0), (72.0, 125.0), (105.0, 155.0), (160.0, 200.0))
"""Least and greatest way of the ball in pixels by bounces."""
WALL: Final = 4
"""Width of the walls in pixels."""
BALL, HALF = 6.0, 7.0
"""Half the ball and half a thing, in pixels."""
DOTS: Final = ((11.0, 4.0), (19.0, 3.0))
"""How far behind the ball each dot is, and half of it, in pixels."""
RUN: Final = 20.0
"""Way behind the ball at first that lies within the room, in pixels, so that the dots do."""
LEG, LAST = 16.0, 28.0
"""Least pixels between bounces, and from the last one to the thing."""
TRIES: Final = 256
"""Ways that a sample's is chosen from; the first fit one is taken."""
CLEAR: Final = 16.0
"""Pixels from the way of the ball to the middle of what it does not hit."""
APART: Final = 24.0
"""Pixels from the thing that is hit to where the wrong answer ends."""
LOW, HIGH = WALL + BALL, SIZE - 1 - WALL - BALL
"""Least and greatest row and column of the ball's centre."""


class Ways(NamedTuple):
    """Ways of balls, some perhaps unfit."""

    points: Tensor
    """float32 `[..., W, 2]`: `RUN` behind the start, the start, the bounces, the end."""
    fit: Tensor
    """bool `[...]`."""


class Bounce(SceneWorld):
    """See the module. Out of domain, things have other colours and shapes, and at `hard` there is one more bounce."""

    name: ClassVar[str] = "bounce"
    summary: ClassVar[str] = "bounce off walls and hit the thing on the way"
    group: ClassVar[str] = "dynamics"
    difficulties: ClassVar[tuple[str, ...]] = tuple(BOUNCES)

    TEMPLATES: ClassVar[tuple[str, ...]] = (
        "The {ball} ball keeps its direction, bounces off each wall it reaches and hits a thing, which disappears.",
        "The {ball} ball rolls forward and bounces off each wall until it hits a thing and makes it disappear.",
        "Follow the {ball} ball: it moves forward, bounces off each wall, and the thing that it hits disappears.",
    )

    def scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """See `SceneWorld.scenes`."""
        n, device, decoys = len(index), index.device, DECOYS[difficulty]
        bounces = BOUNCES[difficulty] + ((difficulty, split) == ("hard", "out_of_domain"))
        things = different(index, 2 + decoys, key=key, split=split)  # thing 1 has the colour of the ball
        way = self._way(index, bounces, key=key)
        spots, room = self._spots(way, index, max(1, decoys), key=key)
        strays = torch.cat([way[:, :-1], spots[:, :1]], dim=1)
        ways = torch.stack([way, strays], dim=1)  # [n, A, W, 2]
        length = ways.diff(dim=2).norm(dim=-1).sum(dim=-1, keepdim=True)  # [n, A, 1]
        done = RUN + (length - RUN) * torch.arange(FRAMES, device=device) / (FRAMES - 1)  # [n, A, F]: pixels
        behind = (0.0, *(back for back, _ in DOTS))
        rolling = torch.stack([along(ways, (done - back) / length) for back in behind], dim=3)  # [n, A, F, 3, 2]

        standing = torch.cat([way[:, -1:], spots[:, :decoys]], dim=1)[:, None, None]  # [n, 1, 1, thing, 2]
        hit = (rolling[:, :, :, :1] - standing).norm(dim=-1) < BALL + HALF - 1
        there = torch.cat([torch.ones(n, 1, dtype=torch.bool, device=device), room[:, :decoys]], dim=1)
        count = 1 + decoys
        mine = things.colour[:, 1:2]
        black = torch.full_like(mine, _palette.NAMES.index("black"))
        others = [0, *range(2, 2 + decoys)]
        ball = torch.full_like(mine, shape_number("circle"))
        halves = [BALL, *([HALF] * count), *(half for _, half in DOTS)]
        sprites = Sprites(
            centre=torch.cat(
                [rolling[:, :, :, :1], standing.expand(n, 2, FRAMES, count, 2), rolling[:, :, :, 1:]], dim=3
            ),
            half=torch.tensor(halves, device=device)[:, None].expand(-1, 2)[None, None, None],
            shape=torch.cat([ball, things.shape[:, others], ball, ball], dim=1)[:, None, None],
            colour=torch.cat([mine, things.colour[:, others], black, black], dim=1)[:, None, None],
            visible=torch.cat(
                [
                    torch.ones_like(hit[..., :1]),
                    there[:, None, None] & (hit.cumsum(dim=2) == 0),
                    torch.ones_like(hit[..., :1]).expand(n, 2, FRAMES, len(DOTS)),
                ],
                dim=3,
            ),
        )
        templates = pick(uniform(stream_key(key, "template"), index, 1)[:, 0], len(self.TEMPLATES)).tolist()
        return Scenes(
            prompts=[
                self.TEMPLATES[template].format(ball=_palette.NAMES[colour])
                for template, colour in zip(templates, mine[:, 0].tolist(), strict=True)
            ],
            backdrop=_room(n, device),
            sprites=sprites,
            tracked=("ball", "target", *(f"decoy {number}" for number in range(decoys))),
            notes={"way": way[:, 1:], "decoys": spots[:, :decoys], "room": room[:, :decoys]},
        )

    @staticmethod
    def _way(index: Tensor, bounces: int, *, key: int) -> Tensor:
        """A way with so many bounces, float32 `[n, W, 2]`."""
        u = uniform(stream_key(key, "way"), index, TRIES * 4).view(len(index), TRIES, 4)
        least, greatest = LENGTHS[bounces]
        angle = u[..., 2] * 2 * math.pi
        ways = unfold(
            u[..., :2] * (HIGH - LOW) + LOW,
            torch.stack([angle.sin(), angle.cos()], dim=-1),
            least + (greatest - least) * u[..., 3],
            bounces,
        )
        return first(ways.fit, ways.points)

    @staticmethod
    def _spots(way: Tensor, index: Tensor, count: int, *, key: int) -> tuple[Tensor, Tensor]:
        """Places off the way, of which the ball would reach the first one after a wrong last bounce.

        Returns:
            Places float32 `[n, count, 2]`, and whether each is off the ways, bool `[n, count]`.
        """
        device = way.device
        line = torch.arange(1, 10, 2, device=device)
        cells = torch.cartesian_prod(line, line)  # [P, 2]
        u = uniform(stream_key(key, "spots"), index, len(cells) * count + 2)
        slots = (cells + pick(u[:, :2], 2)[:, None]) * CELL + (CELL - 1) / 2  # [n, P, 2]
        end, turn = way[:, -1:], way[:, -2:-1]
        off = (distance(slots, way[:, :-1], way[:, 1:]) >= CLEAR).all(dim=2)
        stray = distance(end, turn.expand_as(slots), slots)[:, 0]  # from the right end to the wrong last leg
        far = ((slots - end).norm(dim=-1) >= APART) & (stray >= CLEAR) & ((slots - turn).norm(dim=-1) >= LAST)
        best = (u[:, 2 : 2 + len(cells)] + 2 * far + (off & far)).argmax(dim=1)
        chosen, room = [_at(slots, best)], [_at(off & far, best)]
        near = distance(slots, turn, chosen[0][:, None])[..., 0]  # to the wrong last leg
        free = off & (near >= CLEAR) & ((slots - end).norm(dim=-1) >= APART)
        for number in range(1, count):
            best = (u[:, 2 + number * len(cells) :][:, : len(cells)] + free).argmax(dim=1)
            chosen.append(_at(slots, best))
            room.append(_at(free, best))
            free = free & (torch.arange(len(cells), device=device) != best[:, None])
        return torch.stack(chosen, dim=1), torch.stack(room, dim=1)

    def labels(self, notes: Mapping[str, NDArray[np.int64]], i: int) -> Json:
        """Truths beside the common ones; places are centres (y, x) in pixels.

        `answers`: where the thing is that the ball hits. `way`: the ball's start, bounces and end. `bounces`: how
        many. `direction`: unit vector (y, x) at first. `decoys`: where the others are.
        """
        way, room = notes["way"][i], notes["room"][i]
        run = way[1] - way[0]
        return {
            "answers": [way[-1].tolist()],
            "way": way.tolist(),
            "bounces": len(way) - 2,
            "direction": (run / np.linalg.norm(run)).tolist(),
            "decoys": notes["decoys"][i][room].tolist(),
        }


def unfold(start: Tensor, direction: Tensor, length: Tensor, bounces: int) -> Ways:
    """Ways of balls that walls throw back.

    Args:
        start: float32 `[..., 2]`, centres (y, x) in pixels.
        direction: float32 `[..., 2]`, unit vectors (y, x).
        length: float32 `[...]`, pixels.
        bounces: How many there are to be; other ways are not fit, nor are those with a short leg, dots in a wall,
            or an end that is in a wall or was passed before.
    """
    side = HIGH - LOW
    at, go = (start - LOW) / side, direction * length[..., None] / side  # rooms from the upper left corner
    number = torch.arange(bounces, device=start.device)
    wall = torch.where(go[..., None] > 0, 1 + number, -number)  # [..., 2, bounce]
    times = ((wall - at[..., None]) / go[..., None]).flatten(-2).sort(dim=-1).values[..., :bounces]
    zero = torch.zeros_like(length)[..., None]
    times = torch.cat([-RUN / length[..., None], zero, times.clamp_max(1), zero + 1], dim=-1)  # [..., W]
    straight = at[..., None, :] + go[..., None, :] * times[..., None]
    points = LOW + side * (1 - (straight % 2 - 1).abs())

    run, end = straight[..., 0, :], points[..., -1, :]
    legs = times.diff(dim=-1) * length[..., None]
    passed = distance(end[..., None, :], points[..., :-2, :], points[..., 1:-1, :])[..., 0, :]
    margin = WALL + HALF + 2
    fit = (straight[..., -1, :].floor().abs().sum(dim=-1) == bounces) & ((run > 0) & (run < 1)).all(dim=-1)
    fit &= (legs[..., :-1] >= LEG).all(dim=-1) & (legs[..., -1] >= LAST) & (passed >= CLEAR).all(dim=-1)
    fit &= ((end >= margin) & (end <= SIZE - 1 - margin)).all(dim=-1)
    return Ways(points, fit)


def _room(n: int, device: torch.device) -> Tensor:
    """A backdrop with walls around, uint8 `[n, H, W]`."""
    backdrop = blank(n, device, "black")
    backdrop[:, WALL:-WALL, WALL:-WALL] = _palette.NAMES.index("white")
    return backdrop


def _at(values: Tensor, number: Tensor) -> Tensor:
    """Entry `number` int64 `[n]` of each row of `[n, P, ...]`."""
    return values[torch.arange(len(values), device=values.device), number]


worlds.add(Bounce.name, Bounce())
