"""Sort by size: bars of an upper row slide down, the shortest first, to a lower row in which they are in order.

A bar sets out while the one before it is half way, so that no more than two are on their way at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.worlds import worlds
from interp.worlds._base import FRAMES, SIZE
from interp.worlds._motion import between, ramp
from interp.worlds._random import pick, stream_key, uniform
from interp.worlds._scene import Scenes, SceneWorld, blank
from interp.worlds._sprites import Sprites, shape_number
from interp.worlds._things import colours
from store.records import Json


class Level(NamedTuple):
    """What a difficulty means."""

    bars: int
    pitch: int
    """Pixels from place to place."""
    step: int
    """Pixels in half height from a bar to the next larger one."""


LEVELS: Final = {
    "easy": Level(bars=3, pitch=24, step=5),
    "medium": Level(bars=4, pitch=24, step=4),
    "hard": Level(bars=5, pitch=16, step=3),
}
LONGER: Final = Level(bars=6, pitch=16, step=3)
"""`hard` out of domain."""
SHORTEST, TALLEST, HALF_WIDTH = 4, 20, 6.0
"""Least and greatest half height, half the width, in pixels."""
UPPER, LOWER = 23.5, 71.5
"""Rows of the bars' middles, at first and in the end."""
MIDDLE: Final = (SIZE - 1) / 2
"""Column of the middle place."""
ORDERS: Final = (("shortest", "tallest"), ("tallest", "shortest"))
"""What stands on the left and on the right."""


def exchanged(ends: Tensor, u: Tensor) -> Tensor:
    """Places in which two bars of neighbouring sizes are exchanged.

    Args:
        ends: int64 `[n, bar]`, right places by size.
        u: float32 `[n]`, uniform, chooses the two.
    """
    bars = ends.shape[1]
    order = torch.arange(bars, device=ends.device).expand_as(ends)
    first = pick(u, bars - 1)[:, None]
    return ends.gather(1, torch.where(order == first, order + 1, torch.where(order == first + 1, order - 1, order)))


class SortSizes(SceneWorld):
    """See the module. At `hard` the prompt names either direction; out of domain there are other colours and more bars.

    Bars are numbered by size, `bar 0` is the shortest.
    """

    name: ClassVar[str] = "sort_sizes"
    summary: ClassVar[str] = "slide bars, one after another, into a row sorted by height"
    group: ClassVar[str] = "arrangement"
    difficulties: ClassVar[tuple[str, ...]] = tuple(LEVELS)

    TEMPLATES: ClassVar[tuple[str, ...]] = (
        "Sort the pieces by height in the row below, from {first} to {last}.",
        "Arrange the pieces below in order: the {first} on the left, the {last} on the right.",
        "One after another the pieces slide down until they are sorted by size, the {first} left and the {last} right.",
    )

    def scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """See `SceneWorld.scenes`."""
        n, device = len(index), index.device
        level = LONGER if (difficulty, split) == ("hard", "out_of_domain") else LEVELS[difficulty]
        bars = level.bars
        u = uniform(stream_key(key, "order"), index, 4)
        falling = pick(u[:, 0], 2) if difficulty == "hard" else torch.zeros_like(index)
        size = torch.arange(bars, device=device)
        ends = torch.where(falling[:, None] == 1, bars - 1 - size, size)  # [n, bar]: places by size
        starts = uniform(stream_key(key, "starts"), index, bars).argsort(dim=1)

        shortest = SHORTEST + pick(u[:, 1], TALLEST - SHORTEST - level.step * (bars - 1) + 1)
        half = (shortest[:, None] + level.step * size).float()
        answers = torch.stack([ends, exchanged(ends, u[:, 2])], dim=1)  # [n, A, bar]
        columns = [MIDDLE + level.pitch * (place - (bars - 1) / 2) for place in (starts[:, None], answers)]
        begin, end = (
            torch.stack([torch.full_like(column, row), column], dim=-1).expand(*answers.shape, 2)
            for row, column in zip((UPPER, LOWER), columns, strict=True)
        )
        wait = (FRAMES - 1) / (bars + 1)  # frames from one bar to the next
        centre = between(begin, end, ramp(size * wait, (size + 2) * wait)).transpose(2, 3)  # [n, A, F, bar, 2]
        palette = colours(split, index, key=key)
        colour = palette[:, size % palette.shape[1]]
        # The largest is drawn first, so that none hides a smaller one when they pass.
        sprites = Sprites(
            centre=centre.flip(3),
            half=torch.stack([half, torch.full_like(half, HALF_WIDTH)], dim=-1).flip(1)[:, None, None],
            shape=torch.full((1, 1, 1, bars), shape_number("square"), device=device),
            colour=colour.flip(1)[:, None, None],
            visible=torch.ones(1, 1, 1, bars, dtype=torch.bool, device=device),
        )
        said = zip(falling.tolist(), pick(u[:, 3], len(self.TEMPLATES)).tolist(), strict=True)
        return Scenes(
            prompts=[
                self.TEMPLATES[template].format(first=ORDERS[down][0], last=ORDERS[down][1]) for down, template in said
            ],
            backdrop=blank(n, device),
            sprites=sprites,
            tracked=tuple(f"bar {number}" for number in reversed(range(bars))),
            notes={"starts": starts, "ends": ends, "falling": falling, "heights": 2 * half},
        )

    def labels(self, notes: Mapping[str, NDArray[np.int64]], i: int) -> Json:
        """Truths beside the common ones, by bar from the shortest to the tallest.

        `answers`: one list of places (from the left) in which they are sorted. `starts`: places at first.
        `heights`: pixels. `falling`: whether the tallest belongs to the left.
        """
        return {
            "answers": [notes["ends"][i].tolist()],
            "starts": notes["starts"][i].tolist(),
            "heights": notes["heights"][i].tolist(),
            "falling": bool(notes["falling"][i]),
        }


worlds.add(SortSizes.name, SortSizes())
