"""Which cells of a grid are changed: boxes, and masks of single cells, both as data."""

from __future__ import annotations

import base64
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from interp.errors import BadIntervention
from interp.geometry import Grid
from store.records import Record

Span = tuple[int, int] | None
"""First and last position, both included; None takes all."""


class Box(Record):
    """Cells between first and last positions along each axis of the grid."""

    frame: Span = None
    y: Span = None
    x: Span = None

    @field_validator("frame", "y", "x")
    @classmethod
    def _in_order(cls, span: Span) -> Span:
        if span is not None and not 0 <= span[0] <= span[1]:
            raise ValueError(f"a span goes from its first to its last position, both included, not {span}")
        return span

    def mask(self, grid: Grid, *, kind: str) -> NDArray[np.bool_]:
        """The cells, bool `[f, y, x]`.

        Raises:
            BadIntervention: if the grid is smaller.
        """
        cells = np.ones(grid, bool)
        for axis, (name, span) in enumerate((("frame", self.frame), ("y", self.y), ("x", self.x))):
            if span is None:
                continue
            if span[1] >= grid[axis]:
                raise BadIntervention(
                    f"{kind}: the region asks for {name} {span[0]} to {span[1]}, but the grid has {grid[axis]} of them"
                )
            inside = np.zeros(grid[axis], bool)
            inside[span[0] : span[1] + 1] = True
            cells &= inside.reshape([-1 if one == axis else 1 for one in range(3)])
        return cells


class Mask(Record):
    """Any cells of a grid of a known size."""

    size: tuple[int, int, int]
    """Frames, rows and columns."""
    bits: str
    """A bit a cell, frame by frame and row by row, packed as `numpy.packbits` does it, in base 64."""

    @classmethod
    def of(cls, cells: NDArray[np.bool_]) -> Self:
        """The mask of an array bool `[f, y, x]`.

        Example:
            >>> cells = np.zeros((2, 3, 4), bool)
            >>> cells[1, 2, 3] = True
            >>> int(Mask.of(cells).mask(Grid(2, 3, 4), kind="patch").sum())
            1
        """
        frames, rows, columns = cells.shape
        bits = base64.b64encode(np.packbits(cells.astype(bool)).tobytes()).decode()
        return cls(size=(frames, rows, columns), bits=bits)

    def mask(self, grid: Grid, *, kind: str) -> NDArray[np.bool_]:
        """The cells, bool `[f, y, x]`.

        Raises:
            BadIntervention: if the grid has another size, or the bits are too few.
        """
        if self.size != tuple(grid):
            raise BadIntervention(
                f"{kind}: the region is a mask of {_times(self.size)} cells, but the grid has {_times(grid)}"
            )
        count = int(np.prod(grid))
        try:
            packed = np.frombuffer(base64.b64decode(self.bits, validate=True), np.uint8)
        except ValueError as error:
            raise BadIntervention(f"{kind}: the region's bits cannot be read: {error}") from error
        if len(packed) != -(-count // 8):
            raise BadIntervention(f"{kind}: the region has {8 * len(packed)} bits for {count} cells; use Mask.of")
        return np.unpackbits(packed, count=count).astype(bool).reshape(grid)


Region = Box | Mask


def _times(sizes: tuple[int, ...]) -> str:
    return "×".join(map(str, sizes))
