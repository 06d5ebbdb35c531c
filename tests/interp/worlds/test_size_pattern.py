"""Size pattern: its contract, and that exactly the sizes that continue a pattern are right."""

from __future__ import annotations

import re

import numpy as np

from interp.worlds import _palette
from interp.worlds.size_pattern import LEVELS, NUMBERS, PITCH, SIZES, continuations
from tests.interp.worlds.contract import WorldContract


class TestSizePattern(WorldContract):
    """The contract, and what is particular to sequences."""

    family = "size_pattern"

    def test_answers_are_all_the_sizes_that_repeat_with_a_period_of_the_prompt(self) -> None:
        for sample in self.samples:
            labels = sample.record.labels
            rule = sample.record.prompt.split("after")[1].split("items")[0]
            periods = [NUMBERS.index(word) for word in re.findall(r"\w+", rule) if word in NUMBERS]
            assert periods == labels["periods"]
            free = "colours" in sample.record.prompt
            assert free == (sample.record.difficulty == "hard")
            sizes, colours = list(labels["sizes"]), list(labels["sequence"])  # type: ignore[arg-type]
            if free:
                assert labels["answers"] == list(SIZES)
                last = labels["colours"][labels["objects"][-1]]  # type: ignore[index,call-overload]
                assert {colours[-period] for period in periods if _starts_again(colours, period)} == {last}
            else:
                fits = {sizes[-period] for period in periods if _starts_again(sizes, period)}
                assert set(labels["answers"]) == fits  # type: ignore[arg-type]
            assert sample.record.answers == LEVELS[sample.record.difficulty].valid

    def test_items_have_the_sizes_and_colours_that_the_labels_say(self) -> None:
        names = [*_palette.THINGS["in_domain"], *_palette.THINGS["out_of_domain"]]
        for sample in self.samples:
            assert sample.answer_videos is not None
            assert sample.tracks is not None
            labels = sample.record.labels
            right = labels["colours"][labels["objects"][-1]]  # type: ignore[index,call-overload]
            for answer, video in zip(labels["answers"], sample.answer_videos, strict=True):  # type: ignore[arg-type]
                expected = zip([*labels["sizes"], answer], [*labels["sequence"], right], strict=True)  # type: ignore[misc]
                for place, (size, colour) in enumerate(expected):
                    y, x = np.floor(sample.tracks[place + 1, -1]).astype(int) - PITCH // 2 + 1
                    tile = video[-1, y : y + PITCH, x : x + PITCH]
                    classes = _palette.classify(tile.astype(np.float32), _palette.rgb(*names))
                    assert {names[c] for c in np.unique(classes) if c != _palette.OTHER} == {colour}
                    height = (classes != _palette.OTHER).any(axis=1).sum() / 2
                    assert abs(height - SIZES[size]) < 2.5  # the tips of a triangle and of a star are thin

    def test_continuations(self) -> None:
        assert continuations([0, 1, 0, 1, 0], [2]) == [1]
        assert continuations([0, 1, 0, 1, 0], [2, 5]) == [0, 1]
        assert continuations([0, 0, 1, 0, 0], [3, 4]) == [0, 1]
        assert continuations([0, 1, 2], [4]) == [0, 1, 2]
        assert continuations([0, 0, 1], [2]) == []


def _starts_again(values: list[object], period: int) -> bool:
    return values[period:] == values[: len(values) - period]
