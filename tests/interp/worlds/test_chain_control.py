"""Chain control: its contract, and that every run can be told from its own arrow and box."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np

from interp.worlds import _palette
from tests.interp.worlds.contract import WorldContract

STEPS = {"right": 1, "down": 6, "left": -1, "up": -6}


class TestChainControl(WorldContract):
    """The contract, and what is particular to the control."""

    family = "chain_control"

    def test_every_run_ends_at_the_first_box_ahead(self) -> None:
        for sample in self.samples:
            labels: dict[str, Any] = sample.record.labels
            corners = sample.first_frame[1::16, 1::16].reshape(36, 3)
            boxes = set(np.flatnonzero((corners == _palette.rgb("beige")).all(axis=1)).tolist())
            assert boxes == set(labels["stops"])
            for start, stop, direction, squares in zip(
                *(labels[key] for key in ("starts", "stops", "directions", "squares")), strict=True
            ):
                ahead = [start + step * STEPS[direction] for step in range(1, squares + 1)]
                assert [square for square in ahead if square in boxes] == [stop]
                assert ahead[-1] == stop

    def test_runs_neither_meet_nor_cross(self) -> None:
        for sample in self.samples:
            labels: dict[str, Any] = sample.record.labels
            used = list(labels["others"])
            for start, direction, squares in zip(
                labels["starts"], labels["directions"], labels["squares"], strict=True
            ):
                used += [start + step * STEPS[direction] for step in range(squares + 1)]
            assert len(set(used)) == len(used)

    def test_the_prompt_tells_the_order(self) -> None:
        for sample in self.samples:
            labels: dict[str, Any] = sample.record.labels
            said = [word for word in re.findall("[a-z]+", sample.record.prompt) if word in _palette.NAMES]
            assert said == [labels["colours"][name] for name in labels["order"]]
            assert len(set(said)) == len(said)
            assert not set(said) & {colour for name, colour in labels["colours"].items() if "other" in name}

    def test_arrows_run_one_after_another_at_one_speed(self) -> None:
        for sample in self.samples:
            labels: dict[str, Any] = sample.record.labels
            assert sample.tracks is not None
            steps = np.abs(np.diff(sample.tracks, axis=1)).sum(axis=2)
            np.testing.assert_allclose(steps.sum(axis=0), sum(labels["squares"]), atol=1e-3)
            moving = [np.flatnonzero(row > 1e-3) for row in steps[: labels["depth"] + 1]]
            for before, after in itertools.pairwise(moving):
                assert before.max() <= after.min()
