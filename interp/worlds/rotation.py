"""Rotation: an arrow turns, the short way round, until it points at one of k things of the colour that is asked for.

The k answers show at one place, where the arrow turns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple

import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from interp.worlds import _palette, worlds
from interp.worlds._base import FRAMES, SIZE
from interp.worlds._motion import ramp
from interp.worlds._random import pick, stream_key, uniform
from interp.worlds._scene import Scenes, SceneWorld, blank
from interp.worlds._sprites import SHAPES, Sprites, shape_number
from interp.worlds._things import colours, shapes
from store.records import Json


class Level(NamedTuple):
    """What a difficulty means."""

    targets: int
    """Things that the arrow may end at, k."""
    distractors: int
    """Things of other colours."""


LEVELS: Final = {
    "easy": Level(targets=1, distractors=1),
    "medium": Level(targets=2, distractors=2),
    "hard": Level(targets=3, distractors=3),
}
FULL: Final = Level(targets=3, distractors=5)
"""`hard` out of domain: no slot is empty."""
SLOTS: Final = 8
"""Places on the circle, 45° apart; slot 0 is the first one clockwise from where the arrow points at first."""
STARTS: Final = 8
"""Directions that the arrow may point in at first, 45° apart."""
NEAREST: Final = 22.5
"""Angle from where the arrow points at first to slot 0, in degrees."""
ENDS: Final = (1, 2, 5, 6)
"""Slots 67.5° and 112.5° away, so that the short way to them is clear: where targets are, and one distractor."""
MIDDLE, RADIUS = (SIZE - 1) / 2, 36.0
"""Row and column of the arrow, and pixels from there to the things."""
ARROW, THING = (11.0, 18.0), 7.0
"""Half the breadth and half the length of the arrow, half size of a thing, in pixels."""


class Rotation(SceneWorld):
    """See the module. Out of domain, colours and shapes are other ones, and `hard` has more distractors."""

    name: ClassVar[str] = "rotation"
    summary: ClassVar[str] = "turn an arrow to one of k things of a colour"
    group: ClassVar[str] = "superposition"
    kind: ClassVar[str] = "superposition"
    difficulties: ClassVar[tuple[str, ...]] = tuple(LEVELS)

    TEMPLATES: ClassVar[tuple[str, ...]] = (
        "Turn the arrow until it points at a {colour} {shape}.",
        "The arrow rotates the short way and stops when it points to one {colour} {shape}.",
        "Rotate the black arrow towards any {colour} {shape} by the shortest turn.",
    )

    def scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """See `SceneWorld.scenes`."""
        n, device = len(index), index.device
        level = FULL if (difficulty, split) == ("hard", "out_of_domain") else LEVELS[difficulty]
        k, things = level.targets, level.targets + level.distractors
        u = uniform(stream_key(key, "angles"), index, 2)
        slot = _slots(index, key, targets=k)[:, :things]  # [n, thing]: targets, the distractor that is wrong, others
        away = NEAREST + slot * (360 / SLOTS)  # degrees clockwise from the arrow
        turn = torch.where(away > 180, away - 360, away)
        start = 2 * math.pi / STARTS * pick(u[:, 0], STARTS)
        bearing = start[:, None] + torch.deg2rad(turn)  # [n, thing]

        still = MIDDLE + RADIUS * torch.stack([bearing.sin(), bearing.cos()], dim=-1)
        middle = torch.full((n, 1, 2), MIDDLE, device=device)
        turning = start[:, None, None] + torch.deg2rad(turn[:, : k + 1, None]) * ramp(0, FRAMES - 1, device=device)
        upright = torch.zeros(n, k + 1, FRAMES, things, device=device)
        palette = colours(split, index, key=key)
        other = torch.arange(level.distractors, device=device) % (palette.shape[1] - 1)
        colour = torch.cat([palette[:, :1].expand(n, k), palette[:, 1 + other]], dim=1)
        shape = shapes(split, index, key=key)[:, :1]
        arrow = torch.full((n, 1), shape_number("arrow"), device=device)
        black = torch.full((n, 1), _palette.NAMES.index("black"), device=device)
        half = torch.tensor([ARROW] + [(THING, THING)] * things, device=device)
        sprites = Sprites(
            centre=torch.cat([middle, still], dim=1)[:, None, None],
            half=half[None, None, None],
            shape=torch.cat([arrow, shape.expand(n, things)], dim=1)[:, None, None],
            colour=torch.cat([black, colour], dim=1)[:, None, None],
            visible=torch.ones(1, 1, 1, things + 1, dtype=torch.bool, device=device),
            angle=torch.cat([turning[..., None], upright], dim=3),
        )
        said = zip(
            pick(u[:, 1], len(self.TEMPLATES)).tolist(), colour[:, 0].tolist(), shape[:, 0].tolist(), strict=True
        )
        return Scenes(
            prompts=[self.TEMPLATES[t].format(colour=_palette.NAMES[c], shape=SHAPES[s]) for t, c, s in said],
            backdrop=blank(n, device),
            sprites=sprites,
            tracked=(
                "arrow",
                *(f"target {i}" for i in range(k)),
                *(f"distractor {i}" for i in range(level.distractors)),
            ),
            answers=torch.full((n,), k),
            notes={"turn": turn, "start": torch.rad2deg(start), "k": torch.full((n,), k)},
        )

    def labels(self, notes: Mapping[str, NDArray[Any]], i: int) -> Json:
        """`answers`: turns to the targets; `distractors`: turns to the other things; `start`: where the arrow points.

        All in degrees, clockwise on the picture; `start` counts from the right.
        """
        turns: list[JsonValue] = [round(float(turn), 3) for turn in notes["turn"][i]]
        k = int(notes["k"][i])
        return {"answers": turns[:k], "distractors": turns[k:], "start": round(float(notes["start"][i]), 3)}


def _slots(index: Tensor, key: int, *, targets: int) -> Tensor:
    """Slots in the order in which things take them: targets clockwise, a distractor of `ENDS`, then all others.

    Returns:
        int64 `[n, SLOTS]`.
    """
    ends = torch.tensor(ENDS, device=index.device)
    order = uniform(stream_key(key, "ends"), index, len(ENDS)).argsort(dim=1)
    aims = ends[order[:, :targets].sort(dim=1).values]
    wrong = ends[order[:, targets : targets + 1]]
    used = torch.zeros(len(index), SLOTS, device=index.device).scatter(1, torch.cat([aims, wrong], dim=1), 1.0)
    rest = (uniform(stream_key(key, "rest"), index, SLOTS) + used).argsort(dim=1)[:, : SLOTS - targets - 1]
    return torch.cat([aims, wrong, rest], dim=1)


worlds.add(Rotation.name, Rotation())
