"""Occlusion: its contract, and that what is hidden comes out as it was."""

from __future__ import annotations

import numpy as np

from interp.worlds import SIZE
from tests.interp.worlds.contract import WorldContract, truth


class TestOcclusion(WorldContract):
    """The contract, and what is particular to things behind a panel."""

    family = "occlusion"

    def test_each_thing_is_hidden_in_the_frames_that_its_label_says(self) -> None:
        for sample in self.samples:
            assert sample.segmentation is not None
            for number, hidden in enumerate(sample.record.labels["hidden"], start=1):  # type: ignore[arg-type]
                seen = (sample.segmentation == number).any(axis=(1, 2))
                assert np.flatnonzero(~seen).tolist() == hidden
                assert len(hidden) >= 5
                assert 0 < hidden[0] < hidden[-1] < len(seen) - 1

    def test_the_last_frame_mirrors_the_places_and_keeps_the_looks(self) -> None:
        for sample in self.samples:
            video, starts = truth(sample), sample.record.labels["starts"]
            ends = [place for _, _, place in sample.record.labels["answers"][0]]  # type: ignore[index, union-attr]
            for start, end in zip(starts, ends, strict=True):  # type: ignore[arg-type]
                moved = np.abs(np.subtract(end, start)) > 0
                assert sorted(moved.tolist()) == [False, True]
                np.testing.assert_allclose(np.add(start, end)[moved], SIZE - 1)
                (y, x), (v, u) = (tuple(int(c) for c in place) for place in (start, end))
                before, after = video[0, y - 7 : y + 9, x - 7 : x + 9], video[-1, v - 7 : v + 9, u - 7 : u + 9]
                assert (before == after).all(axis=-1).mean() > 0.9

    def test_things_come_from_both_sides_only_when_it_is_hard(self) -> None:
        for sample in self.samples:
            starts = np.array(sample.record.labels["starts"])
            ends = np.array([place for _, _, place in sample.record.labels["answers"][0]])  # type: ignore[index, union-attr]
            ways = {tuple(way) for way in np.sign(ends - starts).astype(int).tolist()}
            assert len(ways) == 1 + (sample.record.difficulty == "hard")
