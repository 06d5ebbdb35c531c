"""Move two: two things go into boxes that the prompt names, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.worlds import _palette, worlds
from interp.worlds._motion import between, ramp
from interp.worlds._random import pick, stream_key, uniform
from interp.worlds._scene import Scenes, SceneWorld, blank
from interp.worlds._sprites import Sprites
from interp.worlds._things import different, shuffled
from store.records import Json

THINGS: Final = {"easy": 2, "medium": 2, "hard": 3}
"""Things by difficulty, of which the first two are to be moved; one more at `hard` out of domain."""
BOXES: Final = {"easy": 2, "medium": 4, "hard": 4}
"""Boxes by difficulty."""
HALF, BOX, LINE = 7.0, 13, 4
"""Half a thing and half a box, width of a box's lines, in pixels."""
NEAR, MIDDLE, FAR = 15.5, 47.5, 79.5
SIDES: Final = {"left": (MIDDLE, NEAR), "right": (MIDDLE, FAR), "top": (NEAR, MIDDLE), "bottom": (FAR, MIDDLE)}
"""Centres (y, x) of the boxes by their names."""
STARTS: Final = ((NEAR, NEAR), (NEAR, FAR), (FAR, NEAR), (FAR, FAR), (MIDDLE, MIDDLE))
"""Where things may stand at first: on its way to a box a thing at most brushes the corner of another."""


class MoveTwo(SceneWorld):
    """See the module. Out of domain, things have other colours and shapes, and at `hard` there is one more."""

    name: ClassVar[str] = "move_two"
    summary: ClassVar[str] = "move two things, one after the other, into the boxes that the prompt names"
    group: ClassVar[str] = "arrangement"
    difficulties: ClassVar[tuple[str, ...]] = tuple(THINGS)

    TEMPLATES: ClassVar[tuple[str, ...]] = (
        "Move the {first} to the {here} box and then the {second} to the {there} box.",
        "First the {first} moves into the {here} box, then the {second} moves into the {there} box.",
        "Put the {first} in the {here} box, then put the {second} in the {there} box.",
    )

    def scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """See `SceneWorld.scenes`."""
        n, device = len(index), index.device
        count = THINGS[difficulty] + ((difficulty, split) == ("hard", "out_of_domain"))
        things = different(index, count, key=key, split=split)
        boxes = shuffled(torch.arange(len(SIDES)), index, key=stream_key(key, "boxes"))[:, : BOXES[difficulty]]
        spots = torch.tensor(STARTS, device=device)[
            shuffled(torch.arange(len(STARTS)), index, key=stream_key(key, "starts"))[:, :count]
        ]
        ends = torch.tensor(list(SIDES.values()), device=device)[boxes[:, :2]]  # [n, 2, 2]
        ends = torch.stack([ends, ends.flip(1)], dim=1)  # [n, A, 2, 2]: right, and exchanged
        turns = torch.stack([ramp(0, 8, device=device), ramp(8, 16, device=device)])  # [2, F]
        moving = between(spots[:, None, :2].expand_as(ends), ends, turns).transpose(2, 3)  # [n, A, F, 2, 2]
        still = spots[:, None, None, 2:].expand(n, 2, moving.shape[2], count - 2, 2)
        sprites = Sprites(
            centre=torch.cat([moving, still], dim=3),
            half=torch.full((1, 1, 1, count, 2), HALF, device=device),
            shape=things.shape[:, None, None],
            colour=things.colour[:, None, None],
            visible=torch.ones(1, 1, 1, count, dtype=torch.bool, device=device),
        )
        names, sides = things.names(), list(SIDES)
        templates = pick(uniform(stream_key(key, "template"), index, 1)[:, 0], len(self.TEMPLATES)).tolist()
        return Scenes(
            prompts=[
                self.TEMPLATES[template].format(first=name[0], second=name[1], here=sides[here], there=sides[there])
                for template, name, (here, there) in zip(templates, names, boxes[:, :2].tolist(), strict=True)
            ],
            backdrop=with_boxes(blank(n, device), boxes),
            sprites=sprites,
            tracked=tuple(f"thing {number}" for number in range(count)),
            notes={"boxes": boxes, "spots": spots, "colour": things.colour, "shape": things.shape},
        )

    def labels(self, notes: Mapping[str, NDArray[np.int64]], i: int) -> Json:
        """Truths beside the common ones; things 0 and 1 are to be moved, in this order.

        `answers`: one list with the boxes of things 0 and 1. `boxes`: every box. `starts`: where things stand
        at first, centres (y, x) in pixels.
        """
        boxes = [list(SIDES)[side] for side in notes["boxes"][i]]
        return {"answers": [boxes[:2]], "boxes": boxes, "starts": notes["spots"][i].tolist()}


def with_boxes(backdrop: Tensor, boxes: Tensor) -> Tensor:
    """Draw hollow black boxes.

    Args:
        backdrop: uint8 `[n, H, W]`; changed in place.
        boxes: int64 `[n, box]`, numbers in `SIDES`.
    """
    ground, black = int(backdrop[0, 0, 0]), _palette.NAMES.index("black")
    for side, (y, x) in enumerate(SIDES.values()):
        there = (boxes == side).any(dim=1)[:, None, None]
        for reach, colour in ((BOX, black), (BOX - LINE, ground)):
            rows, columns = (slice(int(middle + 0.5) - reach, int(middle + 0.5) + reach) for middle in (y, x))
            backdrop[:, rows, columns] = torch.where(there, colour, backdrop[:, rows, columns])
    return backdrop


worlds.add(MoveTwo.name, MoveTwo())
