"""Chain control: arrows run one after another, each to a box of its own.

Dynamics without serial depth, beside `chain`: as many runs, as long, in the same frames, but every one can be told
from the first frame and the prompt alone. In the wrong answer the last arrow runs in another direction.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Final

import torch
from torch import Tensor

from interp.worlds import _palette, worlds
from interp.worlds._lattice import OFF, PITCH, redraw, tiles
from interp.worlds._runs import Level, Runs, apart, chained

BOX: Final = _palette.NAMES.index("beige")
"""Colour of the marks."""


class ChainControl(Runs):
    """See the module and `Runs`."""

    name: ClassVar[str] = "chain_control"
    summary: ClassVar[str] = "run d + 1 arrows to their boxes in order, none set off by another"
    dependent: ClassVar[bool] = False

    TEMPLATES: ClassVar[tuple[str, ...]] = (
        "Each arrow moves to the box where it points, one after another: {all}.",
        "The order is {all}. Each one goes forward to the next box and stops there.",
        "One after the other, {all} move where they point, each until it is in a box.",
    )

    def place(self, index: Tensor, *, key: int, level: Level, depth: Tensor) -> dict[str, Tensor]:
        """See `Runs.place`: lengths are those of a chain."""
        lengths = redraw(index, partial(chained, key=key, level=level, depth=depth))["far"]
        return redraw(index, partial(apart, key=key, level=level, far=lengths))

    def backdrop(self, ends: Tensor) -> Tensor:
        """A box at the end of each run."""
        square = torch.zeros(len(ends), OFF + 1, dtype=torch.int64, device=ends.device).scatter(1, ends, BOX)
        pixel = torch.arange(PITCH, device=ends.device)
        inner = (pixel > 0) & (pixel < PITCH - 1)
        return tiles(square[:, :OFF], inner[:, None] & inner)


worlds.add(ChainControl.name, ChainControl())
