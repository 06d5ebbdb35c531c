"""Bounce: its contract, and that a ball rolled step by step goes where the labels say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from interp.worlds.bounce import HIGH, LOW
from tests.interp.worlds.contract import WorldContract, truth


def roll(start: NDArray[np.float64], direction: NDArray[np.float64], length: float) -> tuple[NDArray[np.float64], int]:
    """A ball that rolls for `length` pixels in steps of 0.01 and turns back at walls: its way `[step, 2]`, bounces."""
    at, velocity, bounces = start.copy(), direction * 0.01, 0
    way = [at.copy()]
    for _ in range(round(length / 0.01)):
        at += velocity
        for axis in range(2):
            if not LOW <= at[axis] <= HIGH and (at[axis] < LOW) == (velocity[axis] < 0):
                velocity[axis] *= -1
                bounces += 1
        way.append(at.copy())
    return np.array(way), bounces


class TestBounce(WorldContract):
    """The contract, and what is particular to a ball."""

    family = "bounce"

    def test_a_ball_rolled_step_by_step_hits_the_thing_and_nothing_else(self) -> None:
        for sample in self.samples[::2]:
            labels, record = sample.record.labels, sample.record
            corners = np.array(labels["way"])
            length = float(np.linalg.norm(np.diff(corners, axis=0), axis=1).sum())
            way, bounces = roll(corners[0], np.array(labels["direction"]), length)
            hard = {"easy": 0, "medium": 1, "hard": 2 + (record.split == "out_of_domain")}
            assert bounces == labels["bounces"] == hard[record.difficulty]
            (target,) = np.array(labels["answers"])
            assert np.linalg.norm(way[-1] - target) < 0.5
            assert sample.tracks is not None
            frames = way[np.linspace(0, len(way) - 1, len(sample.tracks[0])).round().astype(int)]
            np.testing.assert_allclose(sample.tracks[0], frames, atol=0.5)
            for decoy in np.array(labels["decoys"]).reshape(-1, 2):
                assert np.linalg.norm(way - decoy, axis=1).min() > 15
            first_hit = int((np.linalg.norm(way - target, axis=1) < 13).argmax())
            assert first_hit > len(way) - 1400

    def test_the_thing_is_there_until_it_is_hit_and_decoys_stay(self) -> None:
        for sample in self.samples:
            assert sample.segmentation is not None
            names = list(sample.record.labels["objects"])  # type: ignore[arg-type]
            for number, name in enumerate(names, start=1):
                seen = (sample.segmentation == number).any(axis=(1, 2))
                assert seen[0]
                assert np.count_nonzero(seen[:-1] != seen[1:]) == (name == "target")
                assert seen[-1] == (name != "target")

    def test_dots_behind_the_ball_show_its_direction(self) -> None:
        for sample in self.samples:
            labels = sample.record.labels
            start, direction = np.array(labels["way"])[0], np.array(labels["direction"])  # type: ignore[index]
            for back in (11, 19):
                behind, ahead = (np.round(start + sign * back * direction).astype(int) for sign in (-1, 1))
                assert (truth(sample)[0][tuple(behind)] < 64).all()
                assert not (ahead.min() >= 4 and ahead.max() < 92 and (truth(sample)[0][tuple(ahead)] < 64).all())

    def test_in_domain_a_picture_is_as_full_as_its_difficulty_says(self) -> None:
        for sample in self.samples:
            decoys = len(sample.record.labels["decoys"])  # type: ignore[arg-type]
            if sample.record.difficulty == "hard":
                assert decoys >= 1
            else:
                assert decoys == 0
