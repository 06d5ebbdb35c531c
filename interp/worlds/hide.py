"""Hide: a large thing slides over small ones, rests on each so that it is hidden altogether, and goes on to a box.

What it has left is as it was: same place, colour and shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.worlds import _palette, worlds
from interp.worlds._base import CELL, FRAMES, SIZE
from interp.worlds._paths import scatter_places, timed
from interp.worlds._random import pick, stream_key, uniform
from interp.worlds._scene import Scenes, SceneWorld, blank
from interp.worlds._sprites import Sprites, shape_number
from interp.worlds._things import Things, different
from store.records import Json


class Level(NamedTuple):
    """How much there is in a picture."""

    hidden: int
    """Small things that the large one hides, one after the other."""
    others: int
    """Small things that it does not hide."""


LEVELS: Final = {"easy": Level(1, 0), "medium": Level(2, 1), "hard": Level(2, 2)}
FARTHER: Final = Level(2, 3)
"""At `hard` out of domain."""
KNOTS: Final = {1: (0, 6, 10, 16), 2: (0, 4, 6, 10, 12, 16)}
"""By small things to hide: frames at which the large one leaves its place, comes to a small one, leaves it, …, and
comes to the box. It rests at each for at least three frames."""
COLUMNS: Final = (2, 5, 8)
"""Cells of the rows and columns that things lie in; both may be one cell further."""
LARGE, SMALL, BOX, LINE = 14.0, 7.0, 8, 4
"""Half the large thing, half a small one, half the box and width of its lines, in pixels."""
CLEAR: Final = 16.5
"""Pixels that the way of the large thing keeps from the middle of what it does not hide."""
COVERS: Final = ("square", "circle")
"""Shapes of the large thing, with no gap that shows what is hidden."""


class Hide(SceneWorld):
    """See the module. Out of domain, colours and small shapes are others, and at `hard` there is one more thing."""

    name: ClassVar[str] = "hide"
    summary: ClassVar[str] = "slide over small things and leave them as they were"
    group: ClassVar[str] = "memory"
    difficulties: ClassVar[tuple[str, ...]] = tuple(LEVELS)

    TEMPLATES: ClassVar[tuple[str, ...]] = (
        "The large {large} hides the {small}, then stops on the black box.",
        "The large {large} slides over the {small} and goes on to the black box.",
        "The large {large} stops over the {small} and at last over the black box.",
    )

    def scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """See `SceneWorld.scenes`."""
        n, device = len(index), index.device
        hidden, others = FARTHER if (difficulty, split) == ("hard", "out_of_domain") else LEVELS[difficulty]
        u = uniform(stream_key(key, "scene"), index, 6)
        things = different(index, 1 + hidden + others, key=key, split=split)
        covers = torch.tensor([shape_number(name) for name in COVERS], device=device)
        large = Things(things.colour[:, 0], covers[pick(u[:, 0], len(COVERS))])
        places = self._places(index, hidden, others, key=key, u=u[:, 1:3])
        small, box = torch.cat([places[:, 1 : hidden + 1], places[:, hidden + 2 :]], dim=1), places[:, hidden + 1]

        knots = KNOTS[hidden]
        stops = [0, *(stop for rest in range(1, hidden + 1) for stop in (rest, rest)), hidden + 1]
        moving = timed(places[:, stops], knots)  # [n, F, 2]
        count = hidden + others
        still = small[:, None].expand(n, FRAMES, count, 2)
        colour, visible = self._looks(things, pick(u[:, 3], min(hidden, 2)), u[:, 4] < 0.5, knots)
        half = torch.full((count + 1, 2), SMALL, device=device)
        half[count] = LARGE
        sprites = Sprites(
            centre=torch.cat([still, moving[:, :, None]], dim=2)[:, None],
            half=half[None, None, None],
            shape=torch.cat([things.shape[:, 1:], large.shape[:, None]], dim=1)[:, None, None],
            colour=torch.cat([colour, large.colour[:, None, None, None].expand(n, 2, FRAMES, 1)], dim=3),
            visible=torch.cat([visible, torch.ones(n, 2, FRAMES, 1, dtype=torch.bool, device=device)], dim=3),
        )
        frames = torch.arange(FRAMES, device=device)
        rest = torch.stack([(frames >= knots[2 * s + 1]) & (frames <= knots[2 * s + 2]) for s in range(hidden)])
        return Scenes(
            prompts=self._prompts(things, large, hidden, pick(u[:, 5], len(self.TEMPLATES))),
            backdrop=with_box(blank(n, device), box),
            sprites=sprites,
            tracked=(*(f"small {number}" for number in range(count)), "large"),
            notes={
                "colour": things.colour[:, 1:],
                "shape": things.shape[:, 1:],
                "small": small,
                "box": box,
                "rest": rest.expand(n, -1, -1),
            },
        )

    @staticmethod
    def _places(index: Tensor, hidden: int, others: int, *, key: int, u: Tensor) -> Tensor:
        """Where everything is, float32 `[n, P, 2]`: the large thing, what it hides, the box, other small things."""
        line = torch.tensor(COLUMNS, dtype=torch.float32, device=index.device)
        legs = [(stop, stop + 1) for stop in range(hidden + 1)]
        cells = scatter_places(
            torch.cartesian_prod(line, line) * CELL,
            index,
            legs,
            2 + hidden + others,
            key=stream_key(key, "places"),
            clear=CLEAR,
            reach=CELL,
        )
        return cells + pick(u, 2)[:, None] * CELL + (CELL - 1) / 2

    @staticmethod
    def _looks(things: Things, which: Tensor, gone: Tensor, knots: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Colours int64 and visibility bool of small things, `[n, A, F, small]`: right, and one of them changed.

        Args:
            things: The large thing and the small ones.
            which: int64 `[n]`, the small thing that changes while it is hidden.
            gone: bool `[n]`: it vanishes, or else it takes the colour of the large thing.
            knots: One of `KNOTS`.
        """
        device = which.device
        middles = torch.tensor([(a + b) / 2 for a, b in zip(knots[1::2], knots[2::2], strict=False)], device=device)
        after = torch.arange(FRAMES, device=device) >= middles[which][:, None]  # [n, F]
        small = torch.arange(things.colour.shape[1] - 1, device=device)
        changed = after[..., None] & (small == which[:, None])[:, None]  # [n, F, small]
        gone = gone[:, None, None]
        right = things.colour[:, None, 1:].expand(changed.shape)
        recoloured = torch.where(changed & ~gone, things.colour[:, :1, None], right)
        there = torch.stack([torch.ones_like(changed), ~(changed & gone)], dim=1)
        return torch.stack([right, recoloured], dim=1), there

    def _prompts(self, things: Things, large: Things, hidden: int, templates: Tensor) -> list[str]:
        covers = Things(large.colour[:, None], large.shape[:, None]).names()
        return [
            self.TEMPLATES[template].format(large=cover[0], small=", then the ".join(names[1 : hidden + 1]))
            for template, cover, names in zip(templates.tolist(), covers, things.names(), strict=True)
        ]

    def labels(self, notes: Mapping[str, NDArray[np.int64]], i: int) -> Json:
        """Truths beside the common ones; places are centres (y, x) in pixels.

        `answers`: one list with what every small thing is in the end: colour, shape, place; those that get hidden
        come first, in their order. `rests`: frames in which the large thing rests on each of them. `box`: where it
        ends.
        """
        small = Things(torch.from_numpy(notes["colour"][i : i + 1]), torch.from_numpy(notes["shape"][i : i + 1]))
        places = notes["small"][i].tolist()
        return {
            "answers": [[[*name.split(), place] for name, place in zip(small.names()[0], places, strict=True)]],
            "rests": [[int(frame) for frame in np.flatnonzero(rest)] for rest in notes["rest"][i]],
            "box": notes["box"][i].tolist(),
        }


def with_box(backdrop: Tensor, middle: Tensor) -> Tensor:
    """Draw a hollow black box.

    Args:
        backdrop: uint8 `[n, H, W]`.
        middle: Its centre (y, x) in pixels, float32 `[n, 2]`.

    Returns:
        uint8 `[n, H, W]`.
    """
    line = torch.arange(SIZE, device=backdrop.device)
    off = (line - middle[..., None]).abs()  # [n, 2, pixel]
    away = torch.maximum(off[:, 0, :, None], off[:, 1, None])
    drawn = (away <= BOX) & (away > BOX - LINE)
    return torch.where(drawn, _palette.NAMES.index("black"), backdrop)


worlds.add(Hide.name, Hide())
