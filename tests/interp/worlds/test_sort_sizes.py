"""Sort by size: its contract, and that the picture ends sorted as the prompt says."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray

from interp.worlds import _palette
from interp.worlds.sort_sizes import LEVELS, exchanged
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
            assert min(abs(a - b) for a, b in itertools.pairwise(last)) >= 6
            assert falling == sample.record.labels["falling"]
            ground = _palette.rgb("white")[0]
            for frame, empty in ((0, slice(48, None)), (-1, slice(None, 48))):
                assert (truth(sample)[frame][empty] == ground).all()

    def test_no_more_than_two_bars_are_on_their_way_at_once(self) -> None:
        for sample in self.samples:
            assert sample.tracks is not None
            rows = sample.tracks[:, :, 0]
            under_way = ((rows > rows[:, :1] + 0.01) & (rows < rows[:, -1:] - 0.01)).sum(axis=0)
            assert 1 <= under_way[1:-1].max() <= 2

    def test_bars_start_in_any_order(self) -> None:
        starts = [s.record.labels["starts"] for s in self.samples if s.record.difficulty == "hard"]
        assert len({tuple(start) for start in starts}) > len(starts) / 2  # type: ignore[arg-type]

    def test_only_hard_prompts_name_either_direction(self) -> None:
        seen = {(s.record.difficulty, s.record.labels["falling"]) for s in self.samples}
        assert seen == {("easy", False), ("medium", False), ("hard", False), ("hard", True)}

    def test_the_wrong_order_is_wrong_in_two_places(self) -> None:
        for level in LEVELS.values():
            ends = torch.arange(level.bars).flip(0)[None]
            for u in (0.0, 0.3, 0.6, 0.99):
                wrong = exchanged(ends, torch.full((1,), u))
                assert torch.equal(wrong.sort(dim=1).values, ends.flip(1))
                assert (wrong != ends).sum() == 2
