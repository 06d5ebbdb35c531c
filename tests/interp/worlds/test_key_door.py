"""Key and door: its contract, and that only the matching key opens a door, read from the picture."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp.worlds import _palette
from interp.worlds.key_door import LEVELS
from store.records import Sample
from tests.interp.worlds.contract import WorldContract

COLOURS = set(_palette.NAMES) - {"black"}


def track(sample: Sample, name: str) -> NDArray[np.float32]:
    """Where the object called `name` is, `[F, 2]`."""
    objects: Any = sample.record.labels["objects"]
    assert sample.tracks is not None
    return sample.tracks[objects.index(name)]


class TestKeyDoor(WorldContract):
    """The contract, and what is particular to keys."""

    family = "key_door"

    def test_each_door_has_exactly_one_key_of_its_colour(self) -> None:
        for sample in self.samples:
            labels: dict[str, Any] = sample.record.labels
            colours = labels["colours"]
            keys = [colour for name, colour in colours.items() if "key" in name]
            assert len(set(keys)) == len(keys)
            for door in range(len(labels["doors"])):
                assert colours[f"door {door + 1}"] == colours[f"key {door + 1}"]

    def test_the_agent_takes_the_keys_to_their_doors_in_order(self) -> None:
        for sample in self.samples:
            labels: dict[str, Any] = sample.record.labels
            agent = track(sample, "agent")
            for stop, frame in zip(labels["order"], labels["frames"], strict=True):
                at = [round(frame)]
                assert np.abs(agent[at] - track(sample, stop)[at]).max() < 8
            for door in range(len(labels["doors"])):
                key = track(sample, f"key {door + 1}")
                np.testing.assert_allclose(key[-1], track(sample, f"door {door + 1}")[0], atol=1e-3)
                moving = np.abs(np.diff(key, axis=0)).sum(axis=1) > 1
                carried = np.abs(key[1:] - agent[1:]).max(axis=1) < 1e-3
                assert carried[moving][:-1].all()

    def test_the_prompt_says_which_door_comes_first(self) -> None:
        for sample in self.samples:
            labels: dict[str, Any] = sample.record.labels
            said = [word for word in re.findall("[a-z]+", sample.record.prompt.lower()) if word in COLOURS]
            if len(labels["doors"]) == 2:
                assert list(dict.fromkeys(said)) == [labels["colours"]["door 1"], labels["colours"]["door 2"]]

    def test_other_keys_stay_and_are_as_many_as_promised(self) -> None:
        for sample in self.samples:
            labels: dict[str, Any] = sample.record.labels
            level = LEVELS[sample.record.split][sample.record.difficulty]
            others = [name for name in labels["objects"] if name.startswith("other")]
            assert level.fewest <= len(others) == len(labels["other_keys"]) <= level.others
            for name in others:
                assert np.ptp(track(sample, name), axis=0).max() == 0

    def test_the_way_passes_no_other_thing(self) -> None:
        for sample in self.samples[::2]:
            agent = track(sample, "agent")
            for place in sample.record.labels["other_keys"]:  # type: ignore[union-attr]
                assert np.linalg.norm(agent - np.array(place), axis=1).min() >= 15.9
