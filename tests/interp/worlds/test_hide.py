"""Hide: its contract, and that what was hidden is as it was."""

from __future__ import annotations

import itertools

import numpy as np

from tests.interp.worlds.contract import WorldContract, truth


class TestHide(WorldContract):
    """The contract, and what is particular to hiding."""

    family = "hide"

    def test_small_things_are_hidden_for_three_frames_one_after_the_other(self) -> None:
        for sample in self.samples:
            assert sample.segmentation is not None
            rests = list(sample.record.labels["rests"])  # type: ignore[arg-type]
            assert len(rests) == {"easy": 1, "medium": 2, "hard": 2}[sample.record.difficulty]
            for number, rest in enumerate(rests, start=1):
                assert len(rest) >= 3
                assert not (sample.segmentation[rest] == number).any()
            frames = list(itertools.chain.from_iterable(rests))  # type: ignore[arg-type]
            assert frames == sorted(set(frames))

    def test_small_things_are_whole_in_the_first_frame_and_as_they_were_in_the_last(self) -> None:
        for sample in self.samples:
            assert sample.segmentation is not None
            video, segmentation = truth(sample), sample.segmentation
            large = len(sample.record.labels["objects"])  # type: ignore[arg-type]
            for number in range(1, large):
                where = segmentation[0] == number
                assert where.sum() > 20
                np.testing.assert_array_equal(segmentation[-1] == number, where)
                assert (video[0][where] == video[-1][where]).all()

    def test_the_large_thing_touches_nothing_at_first_and_covers_the_box_at_last(self) -> None:
        for sample in self.samples:
            assert sample.segmentation is not None
            assert sample.tracks is not None
            assert np.abs(np.diff(sample.tracks[:-1], axis=1)).max() == 0
            box, large = sample.record.labels["box"], len(sample.tracks)
            np.testing.assert_allclose(sample.tracks[-1, -1], box)
            places = np.array([place for _, _, place in sample.record.labels["answers"][0]] + [box])  # type: ignore[index, union-attr]
            assert np.abs(places - sample.tracks[-1, 0]).max(axis=1).min() >= 14 + 8
            assert (sample.segmentation[0] == large).sum() == (sample.segmentation[-1] == large).sum()
            assert (truth(sample)[0] == 38).sum() > (truth(sample)[-1] == 38).sum() == 0

    def test_the_large_thing_stays_off_what_it_does_not_hide_at_the_time(self) -> None:
        for sample in self.samples:
            assert sample.tracks is not None
            hidden = len(sample.record.labels["rests"])  # type: ignore[arg-type]
            large = sample.tracks[-1]
            arrivals = [int(np.linalg.norm(large - small[0], axis=1).argmin()) for small in sample.tracks[:hidden]]
            assert arrivals == sorted(arrivals)
            for small in sample.tracks[hidden:-1]:
                assert np.linalg.norm(large - small, axis=1).min() > 16
