"""A board of 6×6 squares of 16 pixels: neighbours, rays, random choices and redrawing, for whole batches.

A square is numbered row by row, 0-35; `OFF` stands for what lies outside. Directions are numbered clockwise from
right, as the quarter turns of a sprite. Shapes: n samples, m tries, D = 4 directions, R = 5 squares of the longest ray.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import Tensor

SIDE: Final = 6
SQUARES: Final = SIDE * SIDE
OFF: Final = SQUARES
"""Number of what lies outside the board."""
PITCH: Final = 16
"""Pixels from square to square."""
HALF: Final = 7.5
"""Half of what fills a square, in pixels."""
TRIES: Final = 8
"""Tries of one sample that are made at once."""
ATTEMPTS: Final = 100
STEPS: Final = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""Rows and columns of a step right, down, left, up."""


def _rays() -> list[list[list[int]]]:
    """Squares that lie ahead of each square in each direction, nearest first, then `OFF`."""
    rays: list[list[list[int]]] = []
    for square in range(SQUARES):
        row, column = divmod(square, SIDE)
        ahead = [[(row + s * y, column + s * x) for s in range(1, SIDE)] for y, x in STEPS]
        rays.append(
            [[r * SIDE + c if 0 <= r < SIDE and 0 <= c < SIDE else OFF for r, c in squares] for squares in ahead]
        )
    return rays


RAYS: Final = torch.tensor(_rays())
"""int64 `[36, D, R]`."""
NEXT: Final = RAYS[:, :, 0]
"""Neighbours, int64 `[36, D]`."""


def centres(square: Tensor) -> Tensor:
    """Middle (y, x) in pixels of squares, int64 `[...]`: float32 `[..., 2]`."""
    return torch.stack([square // SIDE, square % SIDE], dim=-1).float() * PITCH + HALF


def tiles(colours: Tensor, mask: Tensor | None = None) -> Tensor:
    """A backdrop of coloured squares.

    Args:
        colours: Class of each square, integer `[n, 36]`.
        mask: Where a square shows its colour, bool `[16, 16]`; None for everywhere. The rest is white (class 0).

    Returns:
        uint8 `[n, 96, 96]`.
    """
    n = len(colours)
    whole = colours.to(torch.uint8).view(n, SIDE, 1, SIDE, 1).expand(n, SIDE, PITCH, SIDE, PITCH)
    if mask is not None:
        whole = whole * mask.to(colours.device)[None, None, :, None, :]
    return whole.reshape(n, SIDE * PITCH, SIDE * PITCH)


def choose(u: Tensor, allowed: Tensor) -> Tensor:
    """One of the allowed options, each as likely.

    Args:
        u: Uniform numbers, float32 `[n]`.
        allowed: bool `[n, option]`.

    Returns:
        int64 `[n]`; 0 where nothing is allowed.
    """
    rank = allowed.long().cumsum(dim=1)
    wanted = (u * rank[:, -1]).long() + 1
    return (rank >= wanted[:, None]).long().argmax(dim=1)


class Tries(NamedTuple):
    """What an attempt at m tries may depend on."""

    attempt: int
    """Number of the attempt, for the key of its random numbers."""
    index: Tensor
    """int64 `[m]`: number of each try, for the same."""
    row: Tensor
    """int64 `[m]`: which of the n samples each is a try of."""


def redraw(index: Tensor, attempt: Callable[[Tries], tuple[dict[str, Tensor], Tensor]]) -> dict[str, Tensor]:
    """Try until every sample fits, `TRIES` times at once for each.

    Args:
        index: int64 `[n]`, the samples.
        attempt: From tries to named tensors with first axis m, and which of them fit, bool `[m]`.

    Returns:
        The same names with first axis n: the first try of each sample that fits.

    Raises:
        RuntimeError: if some sample does not fit in `ATTEMPTS` attempts.
    """
    kept: dict[str, Tensor] = {}
    left = torch.arange(len(index), device=index.device)
    each = torch.arange(TRIES, device=index.device)
    for number in range(ATTEMPTS):
        tries = (index[left, None] * TRIES + each).flatten()
        tried, fits = attempt(Tries(number, tries, left.repeat_interleave(TRIES)))
        fits = fits.view(-1, TRIES)
        found = fits.any(dim=1)
        first = (torch.arange(len(left), device=left.device) * TRIES + fits.long().argmax(dim=1))[found]
        for name, values in tried.items():
            if number == 0:
                kept[name] = torch.zeros(len(index), *values.shape[1:], dtype=values.dtype, device=values.device)
            kept[name][left[found]] = values[first]
        left = left[~found]
        if not len(left):
            return kept
    raise RuntimeError(f"{len(left)} of {len(index)} samples do not fit in {ATTEMPTS} attempts")
