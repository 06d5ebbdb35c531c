"""Shelf: a thing is lifted from the floor and slides onto one of k free levels of a shelf.

Search with k answers in different places: the other levels hold a thing already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.worlds import _palette, worlds
from interp.worlds._base import FRAMES, SIZE
from interp.worlds._motion import along, ramp
from interp.worlds._random import pick, stream_key, uniform
from interp.worlds._scene import Scenes, SceneWorld, blank
from interp.worlds._sprites import KINDS, Sprites, shape_number
from store.records import Json


class Form(NamedTuple):
    """What shelves of one difficulty look like."""

    levels: int
    """Levels, from the top one down."""
    pitch: int
    """Pixels from level to level."""
    half: float
    """Half the size of things in pixels."""
    free: tuple[int, ...]
    """Numbers of free levels k, equally frequent."""


FORMS: Final = {
    "easy": Form(levels=3, pitch=24, half=8.0, free=(1,)),
    "medium": Form(levels=4, pitch=20, half=6.5, free=(2,)),
    "hard": Form(levels=5, pitch=16, half=5.0, free=(3, 4)),
}
"""Shelves by difficulty."""
TALL: Final = Form(levels=6, pitch=15, half=5.0, free=(4,))
"""Shelves of the hard level out of domain."""
BOARD, DEPTH, FLOOR = 4, 28, 92
"""Thickness of boards, depth of the shelf with its back wall, first row of the floor; pixels."""


class Shelf(SceneWorld):
    """See the module. The picture is mirrored at random."""

    name: ClassVar[str] = "shelf"
    summary: ClassVar[str] = "put a thing on one of k free levels of a shelf"
    group: ClassVar[str] = "multi-path"
    kind: ClassVar[str] = "multi-path"
    difficulties: ClassVar[tuple[str, ...]] = ("easy", "medium", "hard")

    TEMPLATES: ClassVar[tuple[str, ...]] = (
        "Put the {thing} on a free shelf.",
        "Lift the {thing} from the floor and place it on an empty shelf.",
        "The {thing} moves to one of the shelves that are free.",
    )

    def scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """See `SceneWorld.scenes`."""
        n, device = len(index), index.device
        form = TALL if (split, difficulty) == ("out_of_domain", "hard") else FORMS[difficulty]
        u = uniform(stream_key(key, "room"), index, 7)
        mirrored = u[:, 0] < 0.5
        edge = 48 + 4 * pick(u[:, 1], 5)  # where the shelf begins
        top = pick(u[:, 2], min(8, FLOOR - BOARD - form.levels * form.pitch) + 1) if form is not TALL else 0 * edge
        under = top[:, None] + form.pitch * (1 + torch.arange(form.levels, device=device))  # first row below a board
        rows = under - BOARD - form.half - 0.5

        k = torch.tensor(form.free, device=device)[pick(u[:, 3], len(form.free))]
        rank = uniform(stream_key(key, "free"), index, form.levels).argsort(dim=1).argsort(dim=1)
        occupied = rank >= k[:, None]
        order = (occupied * form.levels + torch.arange(form.levels, device=device)).argsort(dim=1)
        free = order[:, : max(form.free)]
        taken = order[:, -1:]

        # ways: to every free level; the wrong one ends where a thing is, or elsewhere on the floor
        begin = 10.5 + 4.0 * pick(u[:, 4], 3)[:, None]
        ground = torch.full_like(begin, FLOOR - form.half - 0.5)
        spot = (edge + (DEPTH - BOARD) / 2 - 0.5)[:, None]
        stays = u[:, 5:6] < 0.5
        end_rows = torch.cat([rows.gather(1, free), torch.where(stays, ground, rows.gather(1, taken))], dim=1)
        end_columns = torch.cat(
            [spot.expand(free.shape), torch.where(stays, edge[:, None] - form.half - 4, spot)], dim=1
        )
        begins = begin.expand(end_rows.shape)
        way = torch.stack(
            [
                torch.stack([ground.expand(end_rows.shape), end_rows, end_rows], dim=-1),
                torch.stack([begins, begins, end_columns], dim=-1),
            ],
            dim=-1,
        )  # [n, A, 3, 2]
        moving = along(way, ramp(0, FRAMES - 1, device=device).expand(*end_rows.shape, FRAMES))
        stored = torch.stack([rows, spot.expand(rows.shape)], dim=-1)
        centre = torch.cat([stored[:, None, None].expand(*moving.shape[:3], -1, 2), moving[:, :, :, None]], dim=3)
        y, x = centre.unbind(dim=-1)
        x = torch.where(mirrored.view(n, 1, 1, 1), SIZE - 1 - x, x)

        names, kinds = _palette.THINGS[split], KINDS[split]
        colours = uniform(stream_key(key, "colours"), index, len(names)).argsort(dim=1)
        # the thing has the first colour, the others have the next ones by rank; those of free levels are not seen
        others = (form.levels - rank).clamp_max(len(names) - 1)
        number = torch.cat([colours.gather(1, others), colours[:, :1]], dim=1)
        kind = pick(uniform(stream_key(key, "shapes"), index, form.levels + 1), len(kinds))
        shapes = torch.tensor([shape_number(name) for name in kinds], device=device)
        sprites = Sprites(
            centre=torch.stack([y, x], dim=-1),
            half=torch.full((1, 1, 1, form.levels + 1, 2), form.half, device=device),
            shape=shapes[kind][:, None, None],
            colour=_palette.classes(names, device=device)[number][:, None, None],
            visible=torch.cat([occupied, torch.ones_like(occupied[:, :1])], dim=1)[:, None, None],
        )
        templates = pick(u[:, 6], len(self.TEMPLATES)).tolist()
        looks = zip(templates, number[:, -1].tolist(), kind[:, -1].tolist(), strict=True)
        return Scenes(
            prompts=[self.TEMPLATES[t].format(thing=f"{names[c]} {kinds[s]}") for t, c, s in looks],
            backdrop=_backdrop(edge, under, mirrored),
            sprites=sprites,
            tracked=(*(f"level {level}" for level in range(form.levels)), "thing"),
            answers=k,
            wrong=torch.full_like(k, free.shape[1]),
            notes={"free": free, "k": k, "occupied": occupied, "mirrored": mirrored},
        )

    def labels(self, notes: Mapping[str, NDArray[np.int64]], i: int) -> Json:
        """`answers`: free levels, 0 for the upper one; `occupied`: whether each is; `side` of the shelf."""
        return {
            "answers": notes["free"][i, : int(notes["k"][i])].tolist(),
            "occupied": notes["occupied"][i].tolist(),
            "side": "left" if notes["mirrored"][i] else "right",
        }


def _backdrop(edge: Tensor, under: Tensor, mirrored: Tensor) -> Tensor:
    """Floor, boards and back wall, uint8 `[n, H, W]`.

    Args:
        edge: int64 `[n]`, first column of the shelf.
        under: int64 `[n, level]`, first row below each board.
        mirrored: bool `[n]`, whether left and right are swapped.
    """
    n, device = len(edge), edge.device
    pixel = torch.arange(SIZE, device=device)
    column = torch.where(mirrored[:, None], SIZE - 1 - pixel, pixel)  # [n, W]
    below = under[:, :, None] - pixel  # rows from each row to the one under the board, [n, level, H]
    board = ((below > 0) & (below <= BOARD)).any(dim=1)
    deep = column - edge[:, None]
    within = (deep >= 0) & (deep < DEPTH)
    wall = within & (deep >= DEPTH - BOARD)
    black = board[:, :, None] & within[:, None]
    black |= (pixel < under[:, -1:])[:, :, None] & wall[:, None]
    black |= (pixel >= FLOOR)[:, None]
    backdrop = blank(n, device)
    backdrop[black] = _palette.NAMES.index("black")
    return backdrop


worlds.add(Shelf.name, Shelf())
