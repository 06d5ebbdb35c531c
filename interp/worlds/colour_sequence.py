"""Colour sequence: a black square is filled with one of k colours of a row below that no square next to it has.

The k answers show at one place, the black square, which fills from its centre.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Final, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.worlds import _palette, worlds
from interp.worlds._base import FRAMES, SIZE
from interp.worlds._motion import ramp
from interp.worlds._random import pick, stream_key, uniform
from interp.worlds._scene import Scenes, SceneWorld, blank
from interp.worlds._sprites import Sprites, shape_number
from store.records import Json


class Level(NamedTuple):
    """What a difficulty means."""

    rows: int
    columns: int
    valid: int
    """Colours that fit, k; the row below holds them and those of the squares next to the empty place."""


LEVELS: Final = {
    "easy": Level(rows=1, columns=3, valid=1),
    "medium": Level(rows=1, columns=4, valid=2),
    "hard": Level(rows=2, columns=4, valid=3),
}
LARGER: Final = Level(rows=3, columns=4, valid=3)
"""`hard` out of domain."""
PITCH, TOP = 24, 11.5
"""Pixels from square to square, and row of the highest ones' centres."""
SQUARE: Final = 10.0
"""Half size of a square in pixels."""
DOTS, DOT_PITCH, DOT = 83.5, 16, 6.0
"""Height, distance and half size of the dots that show what colours there are."""
MOST: Final = 3
"""Squares next to the empty place, at most."""


class Sites(NamedTuple):
    """The places of a level that may be empty."""

    place: Tensor
    """int64 `[site]`: places are numbered row by row."""
    beside: Tensor
    """int64 `[site, MOST]`: places left, right, above and below; -1 where there are fewer."""


@cache
def sites(level: Level) -> Sites:
    """Every place with at most `MOST` others next to it."""
    near = {place: neighbours(place, level) for place in range(level.rows * level.columns)}
    near = {place: beside for place, beside in near.items() if len(beside) <= MOST}
    return Sites(
        place=torch.tensor(list(near)),
        beside=torch.tensor([[*beside, *[-1] * (MOST - len(beside))] for beside in near.values()]),
    )


def neighbours(place: int, level: Level) -> list[int]:
    """Places left, right, above and below of `place`."""
    row, column = divmod(place, level.columns)
    near = ((row, column - 1), (row, column + 1), (row - 1, column), (row + 1, column))
    return [r * level.columns + c for r, c in near if 0 <= r < level.rows and 0 <= c < level.columns]


class ColourSequence(SceneWorld):
    """See the module. Squares side by side never share a colour.

    Out of domain, the colours that fit are ones that training never shows, as far as there are any, and `hard` has
    another row of squares.
    """

    name: ClassVar[str] = "colour_sequence"
    summary: ClassVar[str] = "fill a place with one of k colours that no square next to it has"
    group: ClassVar[str] = "superposition"
    kind: ClassVar[str] = "superposition"
    difficulties: ClassVar[tuple[str, ...]] = tuple(LEVELS)

    TEMPLATES: ClassVar[tuple[str, ...]] = (
        "Fill the black square with a colour of the bottom row, but not with one of a square next to it.",
        "The black square fills with any colour of the dots below that no square beside, above or below it has.",
        "Choose one of the dots. The black square becomes this colour and is different from the squares next to it.",
    )

    def scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """See `SceneWorld.scenes`."""
        n, device = len(index), index.device
        level = LARGER if (difficulty, split) == ("hard", "out_of_domain") else LEVELS[difficulty]
        k, places = level.valid, level.rows * level.columns
        u = uniform(stream_key(key, "place"), index, 4)
        site = pick(u[:, 0], len(sites(level).place))
        empty, beside = (table.to(device)[site] for table in sites(level))
        count = (beside >= 0).sum(dim=1)
        order = _order(index, key, split)  # [n, colour]: those that fit, those next to the empty place, others
        painted = _painted(index, key, level, order, empty, beside)

        slots = k + MOST
        offered = torch.arange(slots, device=device) < (k + count)[:, None]
        turn = (uniform(stream_key(key, "dots"), index, slots) + ~offered).argsort(dim=1).argsort(dim=1)
        fitting = turn[:, :k].argsort(dim=1)  # from left to right
        wrong = k + (u[:, 1] * count).long().clamp_max(count - 1)
        ends = order.gather(1, torch.cat([fitting, wrong[:, None]], dim=1))  # [n, A]

        left = (SIZE - 1) / 2 + DOT_PITCH * (turn - (k + count[:, None] - 1) / 2)
        dots = torch.stack([torch.full_like(left, DOTS), left], dim=-1)
        place = torch.arange(places, device=device)
        high = TOP + PITCH * pick(u[:, 2], LARGER.rows - level.rows + 1)[:, None] + PITCH * (place // level.columns)
        across = (SIZE - 1) / 2 + PITCH * (place % level.columns - (level.columns - 1) / 2)
        squares = torch.stack([high, across.expand_as(high)], dim=-1)
        middle = squares.gather(1, empty[:, None, None].expand(n, 1, 2))
        half = torch.tensor([SQUARE] * places + [DOT] * slots + [0.0], device=device).repeat(FRAMES, 1)
        half[:, places + slots] = SQUARE * ramp(0, FRAMES - 1, device=device)
        kinds = ["square"] * places + ["circle"] * slots + ["square"]
        fixed = torch.cat([painted, order[:, :slots]], dim=1)[:, None].expand(n, k + 1, places + slots)
        always = torch.ones(n, places, dtype=torch.bool, device=device)
        sprites = Sprites(
            centre=torch.cat([squares, dots, middle], dim=1)[:, None, None],
            half=half[None, None, :, :, None].expand(-1, -1, -1, -1, 2),
            shape=torch.tensor([shape_number(kind) for kind in kinds], device=device).view(1, 1, 1, -1),
            colour=torch.cat([fixed, ends[..., None]], dim=2)[:, :, None],
            visible=torch.cat([always, offered, always[:, :1]], dim=1)[:, None, None],
        )
        return Scenes(
            prompts=[self.TEMPLATES[template] for template in pick(u[:, 3], len(self.TEMPLATES)).tolist()],
            backdrop=blank(n, device),
            sprites=sprites,
            tracked=(*(f"square {i}" for i in range(places)), *(f"dot {i}" for i in range(slots)), "fill"),
            answers=torch.full((n,), k),
            notes={
                "answers": ends[:, :k],
                "squares": painted,
                "empty": empty,
                "dots": order.gather(1, (turn + 2 * slots * ~offered).argsort(dim=1)),
                "offered": k + count,
                "columns": torch.full((n,), level.columns),
            },
        )

    def labels(self, notes: Mapping[str, NDArray[Any]], i: int) -> Json:
        """`answers`: colours that fit, from left to right below.

        `grid`: rows of colours, None where it is `empty`, which is [row, column]. `offered`: colours of the dots from
        left to right.
        """
        names, columns, empty = _palette.NAMES, int(notes["columns"][i]), int(notes["empty"][i])
        squares = [None if place == empty else names[colour] for place, colour in enumerate(notes["squares"][i])]
        return {
            "answers": [names[colour] for colour in notes["answers"][i]],
            "grid": [squares[first : first + columns] for first in range(0, len(squares), columns)],
            "empty": list(divmod(empty, columns)),
            "offered": [names[colour] for colour in notes["dots"][i, : notes["offered"][i]]],
        }


def _order(index: Tensor, key: int, split: str) -> Tensor:
    """Every colour in a random order, int64 `[n, colour]`; out of domain, new colours come before known ones."""
    own = _palette.THINGS[split]
    names = own if split == "in_domain" else (*own, *_palette.THINGS["in_domain"])
    known = torch.arange(len(names), device=index.device) >= len(own)
    order = (uniform(stream_key(key, "colours"), index, len(names)) + known).argsort(dim=1)
    return _palette.classes(names, device=index.device)[order]


def _painted(index: Tensor, key: int, level: Level, order: Tensor, empty: Tensor, beside: Tensor) -> Tensor:
    """Colours of the squares, of which no two side by side are the same.

    Those next to the empty place have the colours that follow the first k of `order`, the others any.

    Returns:
        int64 `[n, place]`, classes; the empty place is black.
    """
    places, number = level.rows * level.columns, torch.arange(level.rows * level.columns, device=index.device)
    fixed = (beside[:, :, None] == number).long()  # [n, MOST, place]
    rank = torch.arange(level.valid, level.valid + MOST, device=index.device)
    chosen = torch.where(fixed.any(dim=1), (fixed * rank[:, None]).sum(dim=1), -1)  # [n, place], place in `order`
    known = order.shape[1]
    chance = uniform(stream_key(key, "squares"), index, places * known).view(len(index), places, known)
    for place in range(places):
        taken = torch.zeros(len(index), known + 1, device=index.device).scatter(
            1, chosen[:, neighbours(place, level)] % (known + 1), 1.0
        )
        free = (chance[:, place] - taken[:, :known]).argmax(dim=1)
        chosen[:, place] = torch.where((chosen[:, place] < 0) & (empty != place), free, chosen[:, place])
    black = torch.full_like(chosen, _palette.NAMES.index("black"))
    return torch.where(number == empty[:, None], black, order.gather(1, chosen.clamp_min(0)))


worlds.add(ColourSequence.name, ColourSequence())
