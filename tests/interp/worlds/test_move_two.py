"""Move two: its contract, and that the named things end in the named boxes, in the named order."""

from __future__ import annotations

import itertools
import re

import numpy as np

from interp.worlds import _palette
from interp.worlds.move_two import BOX, HALF, SIDES, STARTS
from tests.interp.worlds.contract import WorldContract, truth


class TestMoveTwo(WorldContract):
    """The contract, and what is particular to two moves."""

    family = "move_two"

    def test_the_named_things_end_in_the_named_boxes(self) -> None:
        for sample in self.samples:
            assert sample.tracks is not None
            labels = sample.record.labels
            shown = [f"{labels['colours'][name]} {labels['shapes'][name]}" for name in labels["objects"]]  # type: ignore[index, union-attr, call-overload]
            assert len(set(shown)) == len(shown)
            prompt = sample.record.prompt
            said = re.findall(rf"(\w+ (?:{'|'.join(s.split()[1] for s in shown)}))", prompt)
            sides = re.findall(r"(\w+) box", prompt)
            assert len(said) == len(sides) == 2
            for thing, side in zip(said, sides, strict=True):
                number = shown.index(thing)
                np.testing.assert_array_equal(sample.tracks[number, -1], SIDES[side])
                colour = _palette.rgb(thing.split()[0])[0]
                y, x = (int(middle) for middle in SIDES[side])
                around = truth(sample)[-1, y - 8 : y + 9, x - 8 : x + 9]
                assert (around == colour).all(axis=-1).any()
                black = (around == _palette.rgb("black")[0]).all(axis=-1)
                assert not black.any(), "a thing in a box touches its lines"

    def test_one_moves_after_the_other_and_the_rest_stays(self) -> None:
        for sample in self.samples:
            assert sample.tracks is not None
            moved = np.abs(np.diff(sample.tracks, axis=1)).max(axis=2) > 0  # [object, frame - 1]
            assert moved[0, :8].all()
            assert not moved[0, 8:].any()
            assert moved[1, 8:].all()
            assert not moved[1, :8].any()
            assert not moved[2:].any()

    def test_a_thing_on_its_way_at_most_brushes_another(self) -> None:
        share = np.linspace(0, 1, 50)[:, None]
        spots = [*STARTS, *SIDES.values()]
        for start, end in itertools.product(STARTS, SIDES.values()):
            way = np.array(start) + (np.array(end) - np.array(start)) * share
            for other in spots:
                if other not in (start, end):
                    assert np.abs(way - np.array(other)).max(axis=1).min() >= 2 * HALF - 4

    def test_boxes_lie_inside_the_picture_and_apart(self) -> None:
        for (y, x), (v, u) in itertools.combinations(SIDES.values(), 2):
            assert max(abs(y - v), abs(x - u)) > 2 * BOX
