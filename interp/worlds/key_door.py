"""Key and door: the agent takes the key that has the colour of a door to that door, which opens.

Search with one answer. Keys of other colours lie about; at hard there are two doors, and the prompt says which
comes first. The wrong answer takes another key, none, or the doors in the other order.

Shapes: n samples, m tries, A answers, F frames, T things (doors, other keys, the agent, keys), W stops of the agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.worlds import _palette, _things, worlds
from interp.worlds._lattice import Tries, redraw
from interp.worlds._motion import along, ramp
from interp.worlds._random import pick, stream_key, uniform
from interp.worlds._scene import Scenes, SceneWorld, blank
from interp.worlds._sprites import SHAPES, Sprites, shape_number
from store.records import Json


class Level(NamedTuple):
    """What a difficulty has; a sample has as many keys as doors, and the others."""

    doors: int
    fewest: int
    others: int
    """Fewest and most keys of other colours."""


LEVELS: Final = {
    "in_domain": {"easy": Level(1, 0, 1), "medium": Level(1, 2, 2), "hard": Level(2, 1, 1)},
    "out_of_domain": {"easy": Level(1, 0, 1), "medium": Level(1, 2, 2), "hard": Level(2, 3, 3)},
}
SIDE: Final = 4
PITCH, FIRST = 24, 11.5
"""Pixels from site to site of the 4×4 sites, and to the first."""
DOOR, AGENT, KEY = 11.5, 8.0, 9.5
"""Half the size of things in pixels."""
CLEAR: Final = 16.0
"""Pixels between the agent's way and the middle of things that it passes."""
ARRIVAL: Final = 15
"""Frame in which the agent reaches the last door."""


BLACK: Final = _palette.NAMES.index("black")
"""The agent's colour, which no key has."""


def places(tries: Tries, *, key: int, things: int, stops: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Things on sites of their own, and whether the way along `stops`, int64 `[W]`, passes none of the others.

    Returns:
        `place` float32 `[m, T, 2]` in pixels, and bool `[m]`.
    """
    u = uniform(stream_key(key, "places", tries.attempt), tries.index, SIDE * SIDE)
    site = u.argsort(dim=1)[:, :things]
    place = torch.stack([site // SIDE, site % SIDE], dim=2).float() * PITCH + FIRST
    begin, end = place[:, stops[:-1], None], place[:, stops[1:], None]  # [m, W-1, 1, 2]
    leg, offset = end - begin, place[:, None] - begin
    part = ((offset * leg).sum(dim=3) / leg.square().sum(dim=3)).clamp(0, 1)
    near = (offset - part[..., None] * leg).norm(dim=3) < CLEAR  # [m, W-1, T]
    number = torch.arange(things, device=u.device)
    own = (number == stops[:-1, None]) | (number == stops[1:, None])
    return {"place": place}, ~(near & ~own).flatten(1).any(dim=1)


class KeyDoor(SceneWorld):
    """See the module. Out of domain, colours and the agent's shape are new, and hard has more other keys."""

    name: ClassVar[str] = "key_door"
    summary: ClassVar[str] = "take the key of a door's colour to it, for one or two doors in order"
    group: ClassVar[str] = "search"
    difficulties: ClassVar[tuple[str, ...]] = ("easy", "medium", "hard")

    TEMPLATES: ClassVar[dict[int, tuple[str, ...]]] = {
        1: (
            "The black {agent} takes the key that matches the door and opens the door with it.",
            "The {agent} goes to the key of the same colour as the door, then carries it to the door.",
            "Pick up the key with the colour of the door, then unlock the door. The {agent} is the player.",
        ),
        2: (
            "The black {agent} takes the {first} key to the {first} door and then the {second} key to its door.",
            "The {agent} opens the {first} door first and the {second} door second, each with the matching key.",
            "Unlock {first} first, then {second}: the {agent} carries each key to the door of the same colour.",
        ),
    }

    def scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """See `SceneWorld.scenes`."""
        n, device, level = len(index), index.device, LEVELS[split][difficulty]
        doors, others = level.doors, level.others
        agent, things = doors + others, 2 * doors + others + 1
        taken = [door + shift for door in range(doors) for shift in (agent + 1, 0)]
        right = torch.tensor([agent, *taken], device=device)
        place = redraw(index, partial(places, key=key, things=things, stops=right))["place"]
        u = uniform(stream_key(key, "look"), index, 3)
        there = level.fewest + pick(u[:, 0], others - level.fewest + 1)
        other_key = ((u[:, 1] < 0.5) & (there > 0))[:, None]
        if doors == 1:
            wrong = torch.where(other_key, right.new_tensor([agent, 1, 0]), right.new_tensor([agent, 0, 0]))
        else:
            wrong = torch.where(other_key, right.new_tensor([agent, agent + 1, 0, 2, 1]), right[[0, 3, 4, 1, 2]])
        stops = torch.stack([right.expand_as(wrong), wrong], dim=1)  # [n, A, W]

        share = ramp(0, ARRIVAL, device=device)
        row = torch.arange(n, device=device)[:, None, None]
        way = place[row, stops]  # [n, A, W, 2]
        passed = torch.nn.functional.pad(way.diff(dim=2).norm(dim=3).cumsum(dim=2), (1, 0))
        passed = passed / passed[:, :, -1:]  # share of the way at each stop
        number = torch.arange(things, device=device)
        at = stops[:, :, None] == number[:, None]  # [n, A, T, W]
        visited, stop = at.any(dim=3), at.long().argmax(dim=3)
        begin = passed.gather(2, stop)[..., None]
        end = torch.where(number == agent, 1.0, passed.gather(2, (stop + 1).clamp_max(len(right) - 1)))[..., None]
        moving = along(way[:, :, None].expand(-1, -1, things, -1, -1), torch.minimum(share.maximum(begin), end))
        moves = (visited & (number >= doors))[..., None] & (share > begin)  # [n, A, T, F]
        centre = torch.where(moves[..., None], moving, place[:, None, :, None]).transpose(2, 3)  # [n, A, F, T, 2]

        is_door, is_agent = number < doors, number == agent
        shape = torch.where(is_door, shape_number("square"), shape_number("key")).expand(n, -1)
        kind = _things.shapes(split, index, key=key)[:, 0]
        shape = torch.where(is_agent, kind[:, None], shape)[:, None, None]
        opened = (is_door & visited)[:, :, None] & (share[:, None] >= begin[:, :, None, :, 0] - 1e-4)
        pool = _things.colours(split, index, key=key)
        more = _things.colours("in_domain", index, key=stream_key(key, "more"))
        pool = pool if split == "in_domain" else torch.cat([pool, more], dim=1)
        colour = torch.cat([pool[:, : doors + others], torch.full_like(row[:, 0], BLACK), pool[:, :doors]], dim=1)
        size = torch.where(is_door, DOOR, torch.where(is_agent, AGENT, KEY))
        sprites = Sprites(
            centre=centre,
            half=size[:, None].expand(1, 1, 1, things, 2),
            shape=torch.where(opened, shape_number("frame"), shape),
            colour=colour[:, None, None],
            visible=((number < doors) | (number - doors < there[:, None]) | (number >= agent))[:, None, None],
        )
        texts = self.TEMPLATES[doors]
        prompts = [
            texts[t].format(agent=SHAPES[s], first=_palette.NAMES[a], second=_palette.NAMES[b])
            for t, s, a, b in zip(
                pick(u[:, 2], len(texts)).tolist(),
                kind.tolist(),
                colour[:, 0].tolist(),
                colour[:, 1].tolist(),
                strict=True,
            )
        ]
        return Scenes(
            prompts=prompts,
            backdrop=blank(n, device),
            sprites=sprites,
            tracked=(
                *(f"door {i + 1}" for i in range(doors)),
                *(f"other key {i + 1}" for i in range(others)),
                "agent",
                *(f"key {i + 1}" for i in range(doors)),
            ),
            notes={"place": place, "there": there, "frames": passed[:, 0, 1:] * ARRIVAL},
        )

    def labels(self, notes: Mapping[str, NDArray[Any]], i: int) -> Json:
        """`answers`: where the last door is, (y, x) in pixels; `order` of stops, and the `frames` that reach them."""
        doors = len(notes["frames"][i]) // 2
        place = notes["place"][i].tolist()
        return {
            "answers": [place[doors - 1]],
            "doors": place[:doors],
            "keys": place[-doors:],
            "other_keys": place[doors : doors + int(notes["there"][i])],
            "order": [f"{what} {door + 1}" for door in range(doors) for what in ("key", "door")],
            "frames": notes["frames"][i].tolist(),
        }


worlds.add(KeyDoor.name, KeyDoor())
