"""Match shape: its contract, and that the answers are the things that look like the reference but for the colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from interp.worlds import _palette
from interp.worlds.match_shape import COLUMNS, FRAME, ROWS, THING
from tests.interp.worlds.contract import Video, WorldContract

PLACES = [(row, column) for row in ROWS for column in COLUMNS]


def outline(picture: Video, y: float, x: float) -> NDArray[np.bool_]:
    """What is not white around (y, x), as far as a thing reaches."""
    top, left = (round(value + 0.5 - THING) for value in (y, x))
    size = int(2 * THING)
    return (picture[top : top + size, left : left + size] != _palette.rgb("white")[0]).any(axis=-1)


class TestMatchShape(WorldContract):
    """The contract, and what is particular to matching."""

    family = "match_shape"

    def test_answers_are_all_the_things_shaped_like_the_reference(self) -> None:
        for sample in self.samples:
            assert sample.tracks is not None
            reference = outline(sample.first_frame, *sample.tracks[0, 0])
            matches = [
                number
                for number, place in enumerate(PLACES)
                if np.array_equal(outline(sample.first_frame, *place), reference)
            ]
            assert matches == sample.record.labels["answers"]

    def test_each_answer_ends_with_the_frame_around_its_place(self) -> None:
        for sample in self.samples:
            videos, answers = sample.answer_videos, sample.record.labels["answers"]
            assert videos is not None
            assert isinstance(answers, list)
            for video, number in zip(videos, answers, strict=True):
                y, x = PLACES[number]  # type: ignore[index]
                changed = (video[-1] != sample.first_frame).any(axis=-1)
                changed[: int(ROWS[0] - FRAME)] = False  # where the frame came from
                rows, columns = np.nonzero(changed)
                edges = (rows.min(), rows.max(), columns.min(), columns.max())
                assert edges == (y - FRAME + 0.5, y + FRAME - 0.5, x - FRAME + 0.5, x + FRAME - 0.5)

    def test_things_differ_in_colour(self) -> None:
        for sample in self.samples:
            colours = sample.record.labels["colours"]
            assert isinstance(colours, dict)
            things = [colour for name, colour in colours.items() if name.startswith("place")]
            assert len(set(things)) == len(things) == sum(sample.record.labels["occupied"])  # type: ignore[arg-type]
