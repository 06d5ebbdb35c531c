"""Sort by size: its contract, and that the picture ends sorted as the prompt says."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray

from interp.worlds import _palette
from interp.worlds.sort_sizes import LEVELS, exchanged, shuffles
from store.records import Sample
from tests.interp.worlds.contract import WorldContract, truth


def heights(sample: Sample, frame: int) -> list[int]:
    """Heights of bars from left to right, read off the pixels of a frame in which no bars touch."""
    ground = _palette.rgb("white")[0]
    painted = (truth(sample)[frame] != ground).any(axis=-1).sum(axis=0)
    starts: NDArray[np.intp] = np.flatnonzero((painted[1:] > 0) & (painted[:-1] == 0)) + 1
    return painted[starts].tolist()


class TestSortSizes(WorldContract):
    """The contract, and what is particular to sorting."""

    family = "sort_sizes"

    def test_bars_end_in_the_order_that_the_prompt_names(self) -> None:
        for sample in self.samples:
            first, last = heights(sample, 0), heights(sample, -1)
            prompt = sample.record.prompt
            falling = prompt.index("tallest") < prompt.index("shortest")
            assert last == sorted(first, reverse=falling)
            assert min(abs(a - b) for a, b in itertools.pairwise(last)) >= 8
            assert first != last
            assert falling == sample.record.labels["falling"]

    def test_only_hard_prompts_name_either_direction(self) -> None:
        seen = {(s.record.difficulty, s.record.labels["falling"]) for s in self.samples}
        assert seen == {("easy", False), ("medium", False), ("hard", False), ("hard", True)}

    def test_the_wrong_order_is_wrong_and_has_something_move(self) -> None:
        for level in LEVELS.values():
            starts = shuffles(level)
            ends = torch.arange(level.bars).expand_as(starts)
            for u in (0.0, 0.3, 0.6, 0.99):
                wrong = exchanged(ends, starts, torch.full((len(starts),), u))
                assert torch.equal(wrong.sort(dim=1).values, ends)
                assert ((wrong != ends).sum(dim=1) == 2).all()
                assert (wrong != starts).any(dim=1).all()
