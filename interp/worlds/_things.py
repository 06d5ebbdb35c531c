"""Things that a prompt can tell apart: no two in a sample share both colour and shape.

Shapes: n samples, T things.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from interp.worlds import _palette
from interp.worlds._random import pick, stream_key, uniform
from interp.worlds._sprites import KINDS, SHAPES, shape_number


class Things(NamedTuple):
    """Colour and shape of every thing."""

    colour: Tensor
    """int64 `[n, T]`, number in `_palette.NAMES`."""
    shape: Tensor
    """int64 `[n, T]`, number in `SHAPES`."""

    def names(self) -> list[list[str]]:
        """`red circle` and so on, by sample and thing."""
        return [
            [f"{_palette.NAMES[colour]} {SHAPES[shape]}" for colour, shape in zip(colours, shapes, strict=True)]
            for colours, shapes in zip(self.colour.tolist(), self.shape.tolist(), strict=True)
        ]


def shuffled(numbers: Tensor, index: Tensor, *, key: int) -> Tensor:
    """`numbers` int64 `[m]` in a random order for every sample, int64 `[n, m]`."""
    return numbers.to(index.device)[uniform(key, index, len(numbers)).argsort(dim=1)]


def colours(split: str, index: Tensor, *, key: int) -> Tensor:
    """Every colour of movable things in a random order, int64 `[n, colour]`."""
    return shuffled(_palette.classes(_palette.THINGS[split]), index, key=stream_key(key, "colours"))


def shapes(split: str, index: Tensor, *, key: int) -> Tensor:
    """Every shape of movable things in a random order, int64 `[n, shape]`."""
    known = torch.tensor([shape_number(name) for name in KINDS[split]])
    return shuffled(known, index, key=stream_key(key, "shapes"))


def different(index: Tensor, count: int, *, key: int, split: str) -> Things:
    """Things of different colours while there are colours, then of another shape than the one of that colour.

    Args:
        index: int64 `[n]`.
        count: Things T, at most twice the colours of the split.
        key: The stream.
        split: One of `SPLITS`.
    """
    order = colours(split, index, key=key)
    kinds = torch.tensor([shape_number(name) for name in KINDS[split]], device=index.device)
    u = uniform(stream_key(key, "kinds"), index, count)
    kind: list[Tensor] = []
    for thing in range(count):
        if thing < order.shape[1]:
            kind.append(pick(u[:, thing], len(kinds)))
        else:
            step = 1 + pick(u[:, thing], len(kinds) - 1)
            kind.append((kind[thing - order.shape[1]] + step) % len(kinds))
    columns = torch.arange(count, device=index.device) % order.shape[1]
    return Things(order[:, columns], kinds[torch.stack(kind, dim=1)])
