"""Leave and return: its contract, and that what left comes back by way of the marks that the prompt names."""

from __future__ import annotations

import re

import numpy as np

from interp.worlds import FRAMES
from tests.interp.worlds.contract import WorldContract, truth


class TestLeaveReturn(WorldContract):
    """The contract, and what is particular to trips."""

    family = "leave_return"

    def test_the_first_and_the_last_frame_differ_by_the_marks_that_the_prompt_names(self) -> None:
        for sample in self.samples:
            video, labels = truth(sample), sample.record.labels
            named = re.findall(r"(\w+) mark", sample.record.prompt)
            visited = [labels["colours"][f"mark {number}"] for number in range(len(named))]  # type: ignore[index]
            assert visited == named
            changed = (video[0] != video[-1]).any(axis=-1)
            for number, (y, x) in enumerate(labels["marks"]):  # type: ignore[arg-type, misc]
                patch = (slice(int(y) - 5, int(y) + 7), slice(int(x) - 5, int(x) + 7))
                assert changed[patch].any() == (number < len(named))
                changed[patch] = False
            assert not changed.any()

    def test_things_visit_the_marks_in_order_and_touch_no_other(self) -> None:
        for sample in self.samples:
            assert sample.tracks is not None
            labels = sample.record.labels
            marks, visitors = np.array(labels["marks"]), list(labels["visitors"])  # type: ignore[arg-type]
            count = len(marks)
            for thing, track in enumerate(sample.tracks[count:]):
                np.testing.assert_allclose(track[0], track[-1])
                far = np.linalg.norm(track[:, None] - marks, axis=-1)
                nearest = far.min(axis=0)
                mine = [number for number, visitor in enumerate(visitors) if visitor == thing]
                order = [int(far[:, number].argmin()) for number in mine]
                assert order == sorted(order)
                assert all(nearest[number] < 12 for number in mine)
                assert all(nearest[number] >= 13.9 for number in range(count) if number not in mine)
            taken = list(labels["taken"])  # type: ignore[arg-type]
            assert sorted(taken[: len(visitors)]) == taken[: len(visitors)]
            assert set(taken[len(visitors) :]) == {FRAMES}

    def test_one_thing_is_away_at_a_time_and_long(self) -> None:
        for sample in self.samples:
            away = [set(frames) for frames in sample.record.labels["away"]]  # type: ignore[union-attr, arg-type]
            movers = [frames for frames in away if frames]
            assert len(movers) == len(set(sample.record.labels["visitors"]))  # type: ignore[arg-type]
            assert sum(map(len, movers)) == len(set().union(*movers)) >= 8
