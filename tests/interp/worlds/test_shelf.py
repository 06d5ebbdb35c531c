"""Shelf: its contract, and that the answers are the levels that are empty in the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from interp.worlds import _palette
from interp.worlds.shelf import BOARD, FLOOR, FORMS, TALL
from tests.interp.worlds.contract import WorldContract


def same(picture: NDArray[np.uint8], colour: str) -> NDArray[np.bool_]:
    """Pixels of `picture` `[..., channel]` that have a colour."""
    return (picture == _palette.rgb(colour)[0]).all(axis=-1)


def empty(picture: NDArray[np.uint8], first: NDArray[np.uint8]) -> list[bool]:
    """Whether each level of the shelf of `first` is empty in `picture`, read off the pixels from the upper one down."""
    black = same(first, "black")[:FLOOR]
    above = black.sum(axis=0)
    within = (above > 0) & (above < above.max())  # columns of the boards without the back wall
    boards = np.flatnonzero(black[:, within].all(axis=1))
    lasts = boards[BOARD - 1 :: BOARD]
    begins = [0, *(lasts[:-1] + 1)]
    return [
        bool(same(picture[begin : last + 1 - BOARD, within], "white").all())
        for begin, last in zip(begins, lasts, strict=True)
    ]


class TestShelf(WorldContract):
    """The contract, and what is particular to shelves."""

    family = "shelf"

    def test_answers_are_all_the_empty_levels_and_no_others(self) -> None:
        for sample in self.samples:
            levels = empty(sample.first_frame, sample.first_frame)
            tall = (sample.record.split, sample.record.difficulty) == ("out_of_domain", "hard")
            form = TALL if tall else FORMS[sample.record.difficulty]
            assert len(levels) == form.levels
            assert np.flatnonzero(levels).tolist() == sample.record.labels["answers"]
            assert sample.record.answers in form.free

    def test_each_answer_fills_its_level_only(self) -> None:
        for sample in self.samples:
            videos, answers = sample.answer_videos, sample.record.labels["answers"]
            assert videos is not None
            assert isinstance(answers, list)
            for video, level in zip(videos, answers, strict=True):
                left = np.flatnonzero(empty(video[-1], sample.first_frame)).tolist()
                assert left == [other for other in answers if other != level]
