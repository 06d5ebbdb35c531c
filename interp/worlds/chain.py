"""Chain: an arrow runs until it hits the next one, which then runs in its own direction, and so on.

Dynamics with serial depth: where the d-th hit happens follows only from the one before. `chain_control` shows as
much movement without that. In the wrong answer the last arrow runs in another direction.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from torch import Tensor

from interp.worlds import worlds
from interp.worlds._lattice import redraw
from interp.worlds._runs import Level, Runs, chained
from interp.worlds._scene import blank


class Chain(Runs):
    """See the module and `Runs`."""

    name: ClassVar[str] = "chain"
    summary: ClassVar[str] = "follow d hits, each of which sets off the next arrow"
    dependent: ClassVar[bool] = True

    TEMPLATES: ClassVar[tuple[str, ...]] = (
        "The {first} arrow starts. Each arrow moves forward until it hits the next one, then that one starts.",
        "A chain of hits: {first} is first, moves in its direction, hits another arrow and stops, and that goes on.",
        "Start with {first}: it goes where its arrow points. What it hits moves next, until the last is at the edge.",
    )

    def place(self, index: Tensor, *, key: int, level: Level, depth: Tensor) -> dict[str, Tensor]:
        """See `Runs.place`."""
        return redraw(index, partial(chained, key=key, level=level, depth=depth))

    def backdrop(self, ends: Tensor) -> Tensor:
        """Nothing."""
        return blank(len(ends), ends.device)


worlds.add(Chain.name, Chain())
