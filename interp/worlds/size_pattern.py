"""Size pattern: a black block shrinks, and in its place grows the last item of a sequence, to a size that continues it.

The k answers show at one place. What is shown fits more than one rule (`medium`), or sizes follow none (`hard`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Final, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.worlds import _palette, _sprites, worlds
from interp.worlds._base import FRAMES, SIZE
from interp.worlds._motion import ramp
from interp.worlds._random import pick, stream_key, uniform
from interp.worlds._scene import Scenes, SceneWorld, blank
from interp.worlds._sprites import Sprites, shape_number
from interp.worlds._things import colours
from store.records import Json

SIZES: Final = {"small": 5.0, "medium": 10.0, "large": 15.0}
"""Half sizes in pixels."""
COLUMNS, PITCH = 3, 32
"""Items in a row, and pixels from one to the next."""
STEP: Final = 8
"""Pixels between the heights at which the rows may stand: one cell."""
BLOCK: Final = 15.0
"""Half size of the block at first. Without it, the place would look the same before and around a small item."""
SHRUNK, GROWING, GROWN = 8, 6, 16
"""Frames at which the block is gone, and between which the item grows."""
KINDS: Final = {
    "in_domain": _sprites.KINDS["in_domain"],
    "out_of_domain": tuple(kind for kind in _sprites.KINDS["out_of_domain"] if kind != "star"),
}
"""Shapes of items; the arms of a small star would be too thin to be seen."""


class Level(NamedTuple):
    """What a difficulty means."""

    places: int
    """Length of the sequence; the block stands at the last place."""
    rules: tuple[tuple[int, ...], ...]
    """Periods that the prompt names; one entry is drawn for each sample."""
    fits: int
    """Values that continue the pattern after one of the periods."""
    free: bool
    """Whether the colours follow the pattern, and any size is right; otherwise the sizes follow it."""

    @property
    def valid(self) -> int:
        """Valid answers k."""
        return len(SIZES) if self.free else self.fits


LEVELS: Final = {
    "easy": Level(places=6, rules=((2,), (3,)), fits=1, free=False),
    "medium": Level(places=6, rules=((2, 5), (3, 4), (3, 5), (4, 5)), fits=2, free=False),
    "hard": Level(places=6, rules=((2, 3, 4),), fits=1, free=True),
}
LONGER: Final = Level(places=9, rules=((2, 3, 4),), fits=1, free=True)
"""`hard` out of domain."""
VALUES: Final = 3
"""Sizes, or colours, that a pattern is made of."""
NUMBERS: Final = ("zero", "one", "two", "three", "four", "five")


def continuations(shown: Sequence[int], periods: Sequence[int]) -> list[int]:
    """Values that may come after `shown` if the sequence starts again after one of `periods`."""

    def starts_again(sequence: Sequence[int], period: int) -> bool:
        return all(a == b for a, b in zip(sequence, sequence[period:], strict=False))

    return [v for v in range(VALUES) if any(starts_again([*shown, v], period) for period in periods)]


class Patterns(NamedTuple):
    """Every pattern of a level; those of each rule are repeated until all rules are equally frequent."""

    shown: Tensor
    """int64 `[pattern, place]`, without the last place."""
    rule: Tensor
    """int64 `[pattern]`, number of the periods in `Level.rules`."""
    fits: Tensor
    """bool `[pattern, value]`: what may come next."""


@cache
def patterns(level: Level) -> Patterns:
    """Every pattern that is not all the same and that exactly `level.fits` values continue, whichever rule is named."""
    found: list[list[tuple[tuple[int, ...], int, list[int]]]] = []
    for number, periods in enumerate(level.rules):
        sequences = itertools.product(range(VALUES), repeat=level.places - 1)
        ways = ((shown, number, continuations(shown, periods)) for shown in sequences if len(set(shown)) > 1)
        found.append([way for way in ways if len(way[2]) == level.fits])
    most = max(map(len, found))
    rows = [row for ways in found for row in ways * (most // len(ways))]
    return Patterns(
        shown=torch.tensor([shown for shown, _, _ in rows]),
        rule=torch.tensor([number for _, number, _ in rows]),
        fits=torch.tensor([[value in values for value in range(VALUES)] for _, _, values in rows]),
    )


class SizePattern(SceneWorld):
    """See the module. Out of domain, colours and shapes are other ones, and sequences at `hard` are longer.

    Items stand in rows of three, numbered row by row.
    """

    name: ClassVar[str] = "size_pattern"
    summary: ClassVar[str] = "add the last item of a sequence in one of k sizes that continue it"
    group: ClassVar[str] = "superposition"
    kind: ClassVar[str] = "superposition"
    difficulties: ClassVar[tuple[str, ...]] = tuple(LEVELS)

    TEMPLATES: ClassVar[tuple[str, ...]] = (
        "The pattern of sizes starts again after {periods} items. The last item takes the place of the black block.",
        "Row by row, sizes are the same again after {periods} items. Grow a valid item at the block.",
        "The last item appears and continues the sizes, which begin again after {periods} items.",
    )
    FREE_TEMPLATES: ClassVar[tuple[str, ...]] = (
        "The pattern of colours starts again after {periods} items. The last item has any one of the three sizes.",
        "Row by row, colours are the same again after {periods} items. Grow one of any size shown at the block.",
        "The last item appears in one of the three sizes, all valid, and continues the colours, "
        "which begin again after {periods} items.",
    )

    def scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """See `SceneWorld.scenes`."""
        n, device = len(index), index.device
        level = LONGER if (difficulty, split) == ("hard", "out_of_domain") else LEVELS[difficulty]
        k, last = level.valid, level.places - 1
        u = uniform(stream_key(key, "pattern"), index, 4)
        known = patterns(level)
        row = pick(u[:, 0], len(known.rule))
        shown, rule, fits = (table.to(device)[row] for table in known)
        palette = colours(split, index, key=key)
        chance = uniform(stream_key(key, "wrong"), index, VALUES)
        if level.free:
            size = _all_seen(index, key, last)
            right = fits.long().argmax(dim=1)
            present = torch.zeros_like(chance).scatter(1, shown, 1.0)
            wrong = (chance + present - 2 * fits).argmax(dim=1)  # another colour of the sequence
            sizes = torch.arange(k, device=device).expand(n, k)
            ends = torch.cat([sizes, pick(chance[:, :1], k)], dim=1)  # [n, A]
            paint = torch.cat([right[:, None].expand(n, k), wrong[:, None]], dim=1)
            valid = torch.ones_like(fits)
        else:
            size, valid = shown, fits
            ends = torch.where(fits, torch.arange(VALUES, device=device), VALUES + chance).argsort(dim=1)[:, : k + 1]
            shown, paint = torch.zeros_like(shown), torch.zeros_like(ends)

        top = STEP * pick(u[:, 2], (SIZE - PITCH * (level.places // COLUMNS)) // STEP + 1)
        place = torch.tensor([last, *range(level.places)], device=device)  # of the block and of the items
        down = top[:, None] + (PITCH - 1) / 2 + PITCH * (place // COLUMNS)
        across = (PITCH - 1) / 2 + PITCH * (place % COLUMNS)
        half = torch.tensor(list(SIZES.values()), device=device)
        block = (BLOCK * (1 - ramp(0, SHRUNK, device=device))).expand(n, k + 1, FRAMES)
        grown = half[ends][..., None] * ramp(GROWING, GROWN, device=device)  # [n, A, F]
        still = half[size][:, None, None].expand(*grown.shape, last)
        colour = torch.cat([shown[:, None].expand(n, k + 1, last), paint[..., None]], dim=2)
        black = torch.full((n, k + 1, 1), _palette.NAMES.index("black"), device=device)
        kinds = torch.tensor([shape_number(kind) for kind in KINDS[split]], device=device)
        shape = kinds[pick(u[:, 3], len(kinds))]
        square = torch.full((n, 1), shape_number("square"), device=device)
        sprites = Sprites(
            centre=torch.stack([down, across.expand_as(down)], dim=-1)[:, None, None],
            half=torch.cat([block[..., None], still, grown[..., None]], dim=3)[..., None].expand(-1, -1, -1, -1, 2),
            shape=torch.cat([square, shape[:, None].expand(n, level.places)], dim=1)[:, None, None],
            colour=torch.cat([black, palette.gather(1, colour.flatten(1)).view_as(colour)], dim=2)[:, :, None],
            visible=torch.ones(1, 1, 1, level.places + 1, dtype=torch.bool, device=device),
        )
        templates = self.FREE_TEMPLATES if level.free else self.TEMPLATES
        said = zip(pick(u[:, 1], len(templates)).tolist(), rule.tolist(), strict=True)
        periods = torch.tensor([[*r, *[0] * (VALUES - len(r))] for r in level.rules], device=device)
        return Scenes(
            prompts=[templates[template].format(periods=_spoken(level.rules[number])) for template, number in said],
            backdrop=blank(n, device),
            sprites=sprites,
            tracked=("block", *(f"item {number}" for number in range(level.places))),
            answers=torch.full((n,), k),
            notes={"sizes": size, "valid": valid, "colours": palette.gather(1, shown), "periods": periods[rule]},
        )

    def labels(self, notes: Mapping[str, NDArray[Any]], i: int) -> Json:
        """`answers`: sizes that are right; `sizes` and `sequence`: those shown, and their colours.

        `periods`: those that the prompt names.
        """
        names = list(SIZES)
        return {
            "answers": [name for name, valid in zip(names, notes["valid"][i], strict=True) if valid],
            "sizes": [names[size] for size in notes["sizes"][i]],
            "sequence": [_palette.NAMES[colour] for colour in notes["colours"][i]],
            "periods": [int(period) for period in notes["periods"][i] if period],
        }


def _all_seen(index: Tensor, key: int, count: int) -> Tensor:
    """Random sizes for `count` items, each of the sizes at least once, int64 `[n, count]`."""
    free = pick(uniform(stream_key(key, "sizes"), index, count - len(SIZES)), len(SIZES))
    each = torch.arange(len(SIZES), device=index.device).expand(len(index), -1)
    order = uniform(stream_key(key, "order"), index, count).argsort(dim=1)
    return torch.cat([each, free], dim=1).gather(1, order)


def _spoken(periods: Sequence[int]) -> str:
    """`two`, `two or three`, `two, three or four`."""
    *others, last = [NUMBERS[period] for period in periods]
    return f"{', '.join(others)} or {last}" if others else last


worlds.add(SizePattern.name, SizePattern())
