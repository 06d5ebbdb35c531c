"""Sprites: flat shapes that stand, move, turn and grow over a backdrop, drawn for a whole batch at once.

A shape is a mask over the unit square, looked up in a table, so that every pixel of every sprite of every
frame costs one gather, on a CPU and on a GPU alike.

Shapes: n samples, A answers, F frames, O sprites, H×W pixels, P pixels along the window that a sprite is drawn in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache
from typing import Final

import torch
from torch import Tensor

from interp.worlds._base import FRAMES, SIZE

_RESOLUTION: Final = 65
"""Samples along a side of a shape's mask."""

SHAPES: Final = (
    *("square", "circle", "triangle", "diamond", "cross", "ring", "star"),
    *("frame", "arrow", "ex", "key"),
)
"""Names by number. The first seven are things that prompts name, the others are marks and tools."""

KINDS: Final[dict[str, tuple[str, ...]]] = {
    "in_domain": ("square", "circle", "triangle", "diamond", "cross"),
    "out_of_domain": ("ring", "star"),
}
"""Shapes of movable things by split; the bundled model was not trained on those of `out_of_domain`."""


def shape_number(name: str) -> int:
    """Number of the shape called `name`."""
    return SHAPES.index(name)


@cache
def masks(device: torch.device) -> Tensor:
    """Every shape's mask over v, u in -1…1 (down, right), bool `[shape, 65, 65]`."""
    line = torch.linspace(-1, 1, _RESOLUTION)
    v, u = torch.meshgrid(line, line, indexing="ij")
    radius, angle = torch.hypot(v, u), torch.atan2(u, -v)
    inside = {
        "square": torch.ones_like(v) > 0,
        "circle": radius <= 1,
        "triangle": u.abs() <= (v + 1) / 2,
        "diamond": u.abs() + v.abs() <= 1,
        "cross": torch.minimum(u.abs(), v.abs()) <= 0.34,
        "ring": (radius <= 1) & (radius >= 0.55),
        "star": radius <= _star(angle),
        "frame": torch.maximum(u.abs(), v.abs()) >= 0.66,
        "arrow": ((v.abs() <= 0.3) & (u <= 0.1)) | ((u >= 0) & (v.abs() <= 1 - u)),
        "ex": torch.minimum((u - v).abs(), (u + v).abs()) <= 0.42,
        "key": (torch.hypot(v, u + 0.5) <= 0.5)
        | ((v.abs() <= 0.2) & (u >= 0))
        | ((u >= 0.6) & ((v - 0.3).abs() <= 0.3)),
    }
    return torch.stack([inside[name] for name in SHAPES]).to(device)


def _star(angle: Tensor) -> Tensor:
    """Radius of a five-pointed star by the angle from its upper tip."""
    sector = (angle % (2 * math.pi / 5) - math.pi / 5).abs()
    tip, notch = 1.0, 0.42
    away = math.pi / 5 - sector  # from the nearest tip
    return (tip * notch * math.sin(math.pi / 5)) / (notch * torch.sin(math.pi / 5 - away) + tip * torch.sin(away))


@dataclass(frozen=True, kw_only=True)
class Sprites:
    """What is drawn over the backdrop; every field broadcasts to `[n, A, F, O]`; a later sprite covers an earlier one.

    An axis that does not matter has length 1: a colour that never changes is `[n, 1, 1, O]`.
    """

    centre: Tensor
    """float32 `[n, A, F, O, 2]`: (y, x) in pixels; the middle of pixel i is i."""
    half: Tensor
    """float32 `[n, A, F, O, 2]`: half the height and half the width in pixels."""
    shape: Tensor
    """int64, number in `SHAPES`."""
    colour: Tensor
    """int64, number in `_palette.NAMES`."""
    visible: Tensor
    """bool."""
    angle: Tensor | None = None
    """float32 radians, clockwise on the picture; None where nothing turns."""

    @property
    def count(self) -> int:
        """Number of sprites O."""
        return self.centre.shape[3]

    def of(self, answer: Tensor) -> Sprites:
        """The sprites of one answer per sample: `answer` int64 `[n]`; the answer axis gets length 1."""
        chosen: dict[str, Tensor | None] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value.shape[1] > 1:
                row = torch.arange(len(value), device=value.device)
                value = value[row, answer.to(value.device).expand(len(value))][:, None]
            chosen[field.name] = value
        return Sprites(**chosen)  # pyright: ignore[reportArgumentType]


def draw(backdrop: Tensor, sprites: Sprites) -> tuple[Tensor, Tensor]:
    """Draw the sprites of one answer over the backdrop, in every frame.

    Args:
        backdrop: uint8 `[n, H, W]`, classes of `_palette.NAMES`.
        sprites: With an answer axis of length 1, see `Sprites.of`.

    Returns:
        Classes uint8 `[n, F, H, W]`, and which sprite is on top, uint8 `[n, F, H, W]`: 0 for the backdrop,
        i for the i-th sprite counted from 1.
    """
    n, device = len(backdrop), backdrop.device
    classes = torch.empty(n * FRAMES, SIZE * SIZE + 1, dtype=torch.uint8, device=device)  # the last one is a bin
    classes.view(n, FRAMES, -1)[:, :, :-1] = backdrop.reshape(n, 1, -1)
    top = torch.zeros_like(classes)
    reaches = sprites.half.amax(dim=(0, 1, 2, 4)).tolist()  # all at once: each look at a number stops the GPU
    for number in range(sprites.count):
        reach = reaches[number if len(reaches) > 1 else 0] * (1.0 if sprites.angle is None else math.sqrt(2))
        where = _pixels(sprites, number, n, math.ceil(reach)).flatten(0, 1)
        colour = _of(sprites.colour, number).expand(n, FRAMES).reshape(-1, 1).to(torch.uint8)
        classes.scatter_(1, where, colour.expand_as(where))
        top.scatter_(1, where, number + 1)
    shape = (n, FRAMES, SIZE, SIZE)
    return classes[:, :-1].view(shape), top[:, :-1].view(shape)


def _of(values: Tensor, number: int) -> Tensor:
    """One sprite's part `[n or 1, F or 1, …]` of a field whose answer axis is 1 long."""
    return values[:, 0, :, number if values.shape[3] > 1 else 0]


def _pixels(sprites: Sprites, number: int, n: int, reach: int) -> Tensor:
    """Pixels of one sprite, int64 `[n, F, P·P]`; the bin stands for those that it does not cover.

    Looks at the pixels up to `reach` away from its centre.
    """
    half = _of(sprites.half, number).expand(n, FRAMES, 2)
    centre = _of(sprites.centre, number).expand(n, FRAMES, 2)
    window = torch.arange(-reach, reach + 2, device=half.device)
    y = (centre[..., 0].floor().long()[..., None] + window)[..., :, None]
    x = (centre[..., 1].floor().long()[..., None] + window)[..., None, :]
    v, u = y - centre[..., 0, None, None], x - centre[..., 1, None, None]
    if sprites.angle is not None:
        angle = _of(sprites.angle, number).expand(n, FRAMES)[..., None, None]
        cos, sin = angle.cos(), angle.sin()
        v, u = v * cos - u * sin, u * cos + v * sin
    v = v / half[..., 0, None, None].clamp_min(1e-3)
    u = u / half[..., 1, None, None].clamp_min(1e-3)
    inside = (v.abs() <= 1) & (u.abs() <= 1) & (y >= 0) & (y < SIZE) & (x >= 0) & (x < SIZE)
    inside &= _of(sprites.visible, number).expand(n, FRAMES)[..., None, None]
    scale = (_RESOLUTION - 1) / 2
    row, column = (((w.clamp(-1, 1) + 1) * scale).round().long() for w in (v, u))
    shape = _of(sprites.shape, number).expand(n, FRAMES)[..., None, None]
    inside &= masks(half.device)[shape, row, column]
    return torch.where(inside, y * SIZE + x, SIZE * SIZE).flatten(2)
