"""Grounding: on a blank background, a box slides from the middle onto the thing that the prompt names.

The first frame alone does not tell which one it is: the same picture with another prompt has another answer,
which is what a swap of activations between two prompts needs (`World.pairs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.worlds import _palette, worlds
from interp.worlds._base import CELL, SIZE
from interp.worlds._motion import between, ramp
from interp.worlds._random import pick, stream_key, uniform
from interp.worlds._scene import Scenes, SceneWorld, blank
from interp.worlds._sprites import Sprites, shape_number
from interp.worlds._things import Things, colours, shapes
from store.records import Json

HALF, BOX = 7.0, 13.0
"""Half a thing and half the box, in pixels."""
NEAR, SIDE = 2, 8
"""First cell of the square that things lie on the border of, and cells along its side."""
APART: Final = 5
"""Least cells along that border between things: three cells apart in the picture, around a corner too."""
BOTH, BY_SHAPE, BY_COLOUR = range(3)
"""How a prompt names the target."""


def border() -> Tensor:
    """Centres of the border's cells, clockwise from the upper left, float32 `[28, 2]` (y, x)."""
    last = SIDE - 1
    cells = [
        *((0, i) for i in range(last)),
        *((i, last) for i in range(last)),
        *((last, last - i) for i in range(last)),
        *((last - i, 0) for i in range(last)),
    ]
    return (torch.tensor(cells, dtype=torch.float32) + NEAR) * CELL + (CELL - 1) / 2


class Grounding(SceneWorld):
    """See the module. Out of domain, things have other colours and shapes, and at `hard` there is one more."""

    name: ClassVar[str] = "grounding"
    summary: ClassVar[str] = "box the thing that the prompt names"
    group: ClassVar[str] = "grounding"
    difficulties: ClassVar[tuple[str, ...]] = ("easy", "medium", "hard")

    TEMPLATES: ClassVar[tuple[str, ...]] = (
        "Box the {thing}.",
        "The black box moves onto the {thing}.",
        "Put the box around the {thing}.",
        "Mark the {thing} with the box.",
    )

    def scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """See `SceneWorld.scenes`."""
        return self._scenes(index, key=key, difficulty=difficulty, split=split)

    def twin_scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """See `SceneWorld.twin_scenes`: the same picture, and the prompt names another thing of it."""
        return self._scenes(index, key=key, difficulty=difficulty, split=split, twin=True)

    def _scenes(self, index: Tensor, *, key: int, difficulty: str, split: str, twin: bool = False) -> Scenes:
        n, device = len(index), index.device
        things, naming = self._things(index, key=key, difficulty=difficulty, split=split)
        count = things.colour.shape[1]
        u = uniform(stream_key(key, "target"), index, 3)
        target = pick(u[:, 0], count)
        other = (target + 1 + pick(u[:, 1], count - 1)) % count
        if twin:
            target, other = other, target
        places = self._places(index, count, key=key)  # [n, T, 2]
        ends = places.gather(1, torch.stack([target, other], dim=1)[..., None].expand(-1, -1, 2))  # [n, A, 2]
        start = torch.full_like(ends, (SIZE - 1) / 2)
        box = between(start, ends, ramp(0, 16, device=device))[:, :, :, None]  # [n, A, F, 1, 2]
        still = places[:, None, None].expand(n, 2, box.shape[2], count, 2)
        half = torch.full((count + 1, 2), HALF, device=device)
        half[count] = BOX
        sprites = Sprites(
            centre=torch.cat([still, box], dim=3),
            half=half[None, None, None],
            shape=_and_one(things.shape, shape_number("frame")),
            colour=_and_one(things.colour, _palette.NAMES.index("black")),
            visible=torch.ones(1, 1, 1, count + 1, dtype=torch.bool, device=device),
        )
        template = pick(u[:, 2], len(self.TEMPLATES))
        notes = {
            "target": target,
            "places": places,
            "colour": things.colour,
            "shape": things.shape,
            "naming": naming,
            "template": template,
        }
        rows = zip(target.tolist(), phrases(things, naming), template.tolist(), strict=True)
        return Scenes(
            prompts=[self.TEMPLATES[number].format(thing=thing[which]) for which, thing, number in rows],
            backdrop=blank(n, device),
            sprites=sprites,
            tracked=(*(f"thing {number}" for number in range(count)), "box"),
            notes=notes,
        )

    @staticmethod
    def _things(index: Tensor, *, key: int, difficulty: str, split: str) -> tuple[Things, Tensor]:
        """Colours and shapes `[n, T]`, and how each prompt names its target, int64 `[n]`."""
        colour, shape = colours(split, index, key=key), shapes(split, index, key=key)
        naming = torch.full_like(index, BOTH)
        if difficulty == "easy":
            return Things(colour[:, :2], shape[:, :2]), naming
        if difficulty == "medium":
            naming = 1 + pick(uniform(stream_key(key, "naming"), index, 1)[:, 0], 2)
            by_shape = (naming == BY_SHAPE)[:, None]
            return Things(
                torch.where(by_shape, colour[:, :1], colour[:, :2]), torch.where(by_shape, shape[:, :2], shape[:, :1])
            ), naming
        # Each of four shares its colour with one and its shape with another, so that both words are needed.
        pairs = [(0, 0), (1, 1), (0, 1), (1, 0)] + [(2, 0)] * (split == "out_of_domain")
        return Things(colour[:, [c for c, _ in pairs]], shape[:, [s for _, s in pairs]]), naming

    @staticmethod
    def _places(index: Tensor, count: int, *, key: int) -> Tensor:
        """Where things lie, at least `APART` cells of the border from each other, float32 `[n, T, 2]`."""
        cells = border().to(index.device)
        u = uniform(stream_key(key, "places"), index, count + 1)
        spare = len(cells) - APART * count
        steps = pick(u[:, :count], spare + 1).sort(dim=1).values + APART * torch.arange(count, device=index.device)
        turned = (steps + pick(u[:, count:], len(cells))) % len(cells)
        order = uniform(stream_key(key, "order"), index, count).argsort(dim=1)
        return cells[turned.gather(1, order)]

    def labels(self, notes: Mapping[str, NDArray[np.int64]], i: int) -> Json:
        """Truths beside the common ones.

        `answers`, `target`: number of the named thing. `names`: `red circle` and so on, by thing. `positions`:
        their centres (y, x) in pixels. `prompts`: what to ask for to have each of them boxed.
        """
        things = Things(torch.from_numpy(notes["colour"][i : i + 1]), torch.from_numpy(notes["shape"][i : i + 1]))
        named = phrases(things, torch.from_numpy(notes["naming"][i : i + 1]))[0]
        template = self.TEMPLATES[int(notes["template"][i])]
        return {
            "answers": [int(notes["target"][i])],
            "target": int(notes["target"][i]),
            "names": [*things.names()[0]],
            "positions": notes["places"][i].tolist(),
            "prompts": [template.format(thing=thing) for thing in named],
        }


def phrases(things: Things, naming: Tensor) -> list[list[str]]:
    """What a prompt calls each thing, by sample: by both words, by its shape, or by its colour."""
    said: list[list[str]] = []
    for how, names in zip(naming.tolist(), things.names(), strict=True):
        words = [name.split() for name in names]
        said.append([(f"{colour} {shape}", shape, f"{colour} thing")[how] for colour, shape in words])
    return said


def _and_one(numbers: Tensor, last: int) -> Tensor:
    """`[n, T]` and one more sprite: `[n, 1, 1, T + 1]`."""
    return torch.cat([numbers, torch.full_like(numbers[:, :1], last)], dim=1)[:, None, None]


worlds.add(Grounding.name, Grounding())
