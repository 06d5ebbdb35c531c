"""Rotation: its contract, and that the arrow ends at things of the right colour, the short way round."""

from __future__ import annotations

import numpy as np

from interp.worlds import _palette
from interp.worlds.rotation import LEVELS, MIDDLE, RADIUS
from tests.interp.worlds.contract import WorldContract


class TestRotation(WorldContract):
    """The contract, and what is particular to turning."""

    family = "rotation"

    def test_answers_are_all_the_things_of_the_colour_that_the_prompt_names(self) -> None:
        for sample in self.samples:
            labels = sample.record.labels
            colours: dict[str, str] = labels["colours"]  # type: ignore[assignment]
            (named,) = {word for word in sample.record.prompt.rstrip(".").split() if word in _palette.NAMES[2:]}
            targets = [thing for thing, colour in colours.items() if colour == named]
            assert targets == [f"target {i}" for i in range(LEVELS[sample.record.difficulty].targets)]
            for turn in labels["answers"]:  # type: ignore[union-attr]
                assert self.seen(sample.first_frame, labels["start"] + turn) == named  # type: ignore[operator]
            for turn in labels["distractors"]:  # type: ignore[union-attr]
                assert self.seen(sample.first_frame, labels["start"] + turn) not in {named, None}  # type: ignore[operator]

    def test_turns_are_short_and_ends_are_apart(self) -> None:
        for sample in self.samples:
            labels = sample.record.labels
            turns = np.array(labels["answers"])
            assert set(np.abs(turns)) <= {67.5, 112.5}
            ends = np.sort(np.concatenate([turns, labels["distractors"]]) % 360)
            assert np.diff(ends, append=ends[0] + 360).min() >= 45 - 1e-3

    def test_the_arrow_points_where_its_answer_says(self) -> None:
        along, across = 15.5, 8.0
        for sample in self.samples[::3]:
            assert sample.answer_videos is not None
            start: float = sample.record.labels["start"]  # type: ignore[assignment]
            for turn, video in zip(sample.record.labels["answers"], sample.answer_videos, strict=True):  # type: ignore[arg-type]
                for frame in (0, 8, 16):
                    angle = start + turn * frame / 16  # type: ignore[operator]
                    assert self.black(video[frame], along, angle)
                    assert not self.black(video[frame], along, angle - 20)
                    assert not self.black(video[frame], along, angle + 20)
                    assert self.black(video[frame], across, angle + 75)  # the head is broad,
                    assert not self.black(video[frame], across, angle + 105)  # the shaft is not

    @staticmethod
    def black(picture: np.ndarray, distance: float, bearing: float) -> bool:
        """Whether the picture is black at `distance` pixels from the middle, in the direction `bearing` in degrees."""
        y, x = np.round(
            MIDDLE + distance * np.array([np.sin(np.radians(bearing)), np.cos(np.radians(bearing))])
        ).astype(int)
        return bool((picture[y, x].astype(int) < 80).all())

    @staticmethod
    def seen(picture: np.ndarray, bearing: float) -> str | None:
        """Name of the colour nearest the middle of the thing at `bearing`, in degrees; rings are empty there."""
        middle = MIDDLE + RADIUS * np.array([np.sin(np.radians(bearing)), np.cos(np.radians(bearing))])
        y, x = np.round(middle).astype(int)
        patch = picture[y - 5 : y + 6, x - 5 : x + 6].reshape(-1, 3)
        names = [_palette.NAMES[c] for c in _palette.classify(patch.astype(np.float32), _palette.rgb(*_palette.NAMES))]
        things = [name for name in names if name not in {"white", "black"}]
        return max(set(things), key=things.count) if things else None
