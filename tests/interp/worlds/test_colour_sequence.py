"""Colour sequence: its contract, and that exactly the offered colours that no neighbour has are right."""

from __future__ import annotations

import numpy as np
import pytest

from interp.worlds import _palette
from interp.worlds.colour_sequence import DOTS, LARGER, LEVELS, Level, sites
from tests.interp.worlds.contract import WorldContract


class TestColourSequence(WorldContract):
    """The contract, and what is particular to colours side by side."""

    family = "colour_sequence"

    def test_answers_are_all_the_offered_colours_that_no_square_next_to_the_place_has(self) -> None:
        for sample in self.samples:
            labels = sample.record.labels
            grid: list[list[str | None]] = labels["grid"]  # type: ignore[assignment]
            row, column = labels["empty"]  # type: ignore[misc]
            beside = {
                colour
                for r, colours in enumerate(grid)
                for c, colour in enumerate(colours)
                if abs(r - row) + abs(c - column) == 1  # type: ignore[operator]
            }
            offered: list[str] = labels["offered"]  # type: ignore[assignment]
            assert grid[row][column] is None  # type: ignore[index]
            assert [colour for colour in offered if colour not in beside] == labels["answers"]
            assert beside < set(offered)
            assert len(set(offered)) == len(offered)
            assert sample.record.answers == LEVELS[sample.record.difficulty].valid

    def test_squares_side_by_side_differ(self) -> None:
        for sample in self.samples:
            grid = np.array(sample.record.labels["grid"], dtype=object)
            assert (grid[:, 1:] != grid[:, :-1]).all()
            assert (grid[1:] != grid[:-1]).all()

    def test_the_picture_shows_what_the_labels_say(self) -> None:
        palette = _palette.rgb(*_palette.NAMES)
        for sample in self.samples:
            assert sample.answer_videos is not None
            assert sample.tracks is not None
            labels = sample.record.labels
            for answer, video in zip(labels["answers"], sample.answer_videos, strict=True):  # type: ignore[arg-type]
                classes = _palette.classify(video[-1].astype(np.float32), palette)
                y, x = np.floor(sample.tracks[:, -1]).astype(int).T
                shown = [_palette.NAMES[c] for c in classes[y, x]]
                squares = [colour or answer for colours in labels["grid"] for colour in colours]  # type: ignore[union-attr]
                count = len(squares)
                assert shown[:count] == squares
                below = sorted(zip(x[count:-1], shown[count:-1], strict=True))
                assert [name for _, name in below] == labels["offered"]
                assert (sample.tracks[count:-1, :, 0] == DOTS).all()

    @pytest.mark.parametrize("level", [*LEVELS.values(), LARGER])
    def test_sites_know_the_places_next_to_them(self, level: Level) -> None:
        known = sites(level)
        for place, beside in zip(known.place.tolist(), known.beside.tolist(), strict=True):
            at = np.array(divmod(place, level.columns))
            others = range(level.rows * level.columns)
            near = [other for other in others if np.abs(at - divmod(other, level.columns)).sum() == 1]
            assert sorted(other for other in beside if other >= 0) == near
