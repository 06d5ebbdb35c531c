"""Chain: its contract, and that the runs follow from the first frame, by a simulation of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from interp.worlds import worlds
from interp.worlds._runs import LEVELS
from tests.interp.worlds.contract import WorldContract

STEPS = {"right": (0, 1), "down": (1, 0), "left": (0, -1), "up": (-1, 0)}


def follow(arrows: dict[tuple[int, int], str], first: tuple[int, int]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Runs (from, to) that arrows make on the board when the one on `first` starts."""
    runs: list[tuple[tuple[int, int], tuple[int, int]]] = []
    arrows, at = dict(arrows), first
    while True:
        direction = arrows.pop(at)
        y, x = STEPS[direction]
        here = at
        while True:
            ahead = (here[0] + y, here[1] + x)
            if ahead in arrows or not (0 <= ahead[0] < 6 and 0 <= ahead[1] < 6):
                break
            here = ahead
        arrows[here] = "none"
        runs.append((at, here))
        if ahead not in arrows:
            return runs
        at = ahead


class TestChain(WorldContract):
    """The contract, and what is particular to the chain."""

    family = "chain"

    def test_a_simulation_of_the_first_frame_makes_the_same_runs(self) -> None:
        for sample in self.samples:
            labels: dict[str, Any] = sample.record.labels
            starts = [divmod(square, 6) for square in labels["starts"]]
            stops = [divmod(square, 6) for square in labels["stops"]]
            arrows = dict(zip(starts, labels["directions"], strict=True))
            arrows |= {divmod(square, 6): "none" for square in labels["others"]}
            assert len(arrows) == len(labels["objects"])
            assert follow(arrows, starts[0]) == list(zip(starts, stops, strict=True))
            assert labels["depth"] == len(starts) - 1
            assert labels["answers"] == [labels["stops"][-1]]

    def test_the_picture_shows_where_arrows_point(self) -> None:
        for sample in self.samples[::2]:
            labels: dict[str, Any] = sample.record.labels
            assert sample.segmentation is not None
            for number, (square, direction) in enumerate(zip(labels["starts"], labels["directions"], strict=True), 1):
                row, column = divmod(square, 6)
                tile = sample.segmentation[0, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] == number
                halves = {"up": tile[:8], "down": tile[8:], "left": tile[:, :8], "right": tile[:, 8:]}
                assert max(halves, key=lambda side: int(halves[side].sum())) == direction

    def test_arrows_run_one_after_another_at_one_speed(self) -> None:
        for sample in self.samples:
            labels: dict[str, Any] = sample.record.labels
            assert sample.tracks is not None
            tracks = sample.tracks[: labels["depth"] + 1]
            steps = np.abs(np.diff(tracks, axis=1)).sum(axis=2)
            np.testing.assert_allclose(steps.sum(axis=0), sum(labels["squares"]), atol=1e-3)
            begins = (np.abs(tracks - tracks[:, :1]).max(axis=2) > 1e-3).argmax(axis=1) - 1
            assert begins.tolist() == [int(frame + 1e-4) for frame in labels["frames"]]
            assert np.abs(np.diff(sample.tracks[labels["depth"] + 1 :], axis=1)).sum() == 0

    def test_depth_is_as_promised_and_the_first_colour_is_named(self) -> None:
        for sample in self.samples:
            labels: dict[str, Any] = sample.record.labels
            level = LEVELS[sample.record.split][sample.record.difficulty]
            assert level.least <= labels["depth"] <= level.deepest
            assert len(labels["others"]) == level.others
            first = labels["colours"]["arrow 1"]
            assert list(labels["colours"].values()).count(first) == 1
            assert first in sample.record.prompt

    def test_the_control_has_runs_of_the_same_lengths(self) -> None:
        for level, hard in (("medium", False), ("hard", True)):
            chains, controls = (
                [s.record.labels for s in worlds[name].generate(150, seed=9, difficulty=level)]
                for name in ("chain", "chain_control")
            )
            means: list[tuple[float, float]] = []
            for labels in (chains, controls):
                lengths: list[Any] = [label["squares"] for label in labels]
                means.append(
                    (float(np.mean([sum(run) for run in lengths])), float(np.mean([len(run) for run in lengths])))
                )
            assert abs(means[0][0] - means[1][0]) < 0.6, (level, means)
            assert abs(means[0][1] - means[1][1]) < (0.2 if hard else 1e-6), (level, means)

    def test_many_samples_can_be_made(self) -> None:
        for level in self.world.difficulties:
            batch = self.world.draw(torch.arange(100, 200), seed=2, difficulty=level, split="out_of_domain")
            assert len(batch) == 100
