"""A synthetic store whose samples are multi-path, superposition or single by construction, in six families.

x̂0 of a step is a known mixture of the valid answers, greyed and noisy as early x̂0 are: `weights` says of what.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store import Sample, SampleRecord
from tests.planted import Planted

FAMILIES = {
    "corners": "multi-path",
    "lanes": "multi-path",
    "colours": "superposition",
    "sizes": "superposition",
    "walk": "single",
    "fill": "single",
}
"""Family → kind of its samples."""
COLOURS = np.array([[214, 60, 40], [40, 90, 214], [30, 150, 70]])


@dataclass(frozen=True, kw_only=True)
class PlantedKinds(Planted):
    """Sample i is of family i modulo their number; each run settles on answer `seed` modulo k."""

    samples: int = 2 * len(FAMILIES)
    seeds: tuple[int, ...] = (0,)
    size: int = 48
    video_frames: int = 6
    arrays: tuple[str, ...] = ("x0_hat/pixels",)
    scored: bool = False
    families: tuple[str, ...] = tuple(FAMILIES)
    early: float = 1.0
    """1: the first x̂0 holds all answers alike; 0: it holds but one, as if the model never explored."""
    grain: float = 6.0
    """Standard deviation of the noise of the first x̂0, of 255."""
    only_noise: bool = False
    """Every x̂0 is noise, and fresh at each step."""

    def family(self, position: int) -> str:
        """Of the sample at `position`."""
        return self.families[position % len(self.families)]

    def first(self, position: int) -> NDArray[np.uint8]:
        """First frame: a light board with a dark bar at a place of the sample's own, `[y, x, channel]`."""
        picture = np.full((self.size, self.size, 3), 236, np.uint8)
        picture[3 + position % 5 : 6 + position % 5, 8:40] = 40
        return picture

    def answers(self, position: int) -> NDArray[np.uint8]:
        """The valid answers, uint8 `[k, frame, y, x, channel]`."""
        family, turn = self.family(position), position // len(self.families)
        count = {"corners": 3, "colours": 3 if turn % 2 else 2, "lanes": 2, "sizes": 2}.get(family, 1)
        videos = np.repeat(np.repeat(self.first(position)[None, None], self.video_frames, axis=1), count, axis=0)
        colour = COLOURS[turn % 3]
        for answer in range(count):
            for frame in range(1, self.video_frames):
                along = frame / (self.video_frames - 1)
                y, x, half = self._pose(family, answer, along, turn)
                paint = COLOURS[(turn + answer) % 3] if family == "colours" else colour
                videos[answer, frame, y - half : y + half, x - half : x + half] = paint
        return videos

    def _pose(self, family: str, answer: int, along: float, turn: int) -> tuple[int, int, int]:
        """Row, column and half the side of what is painted."""
        grow = 1 + round(5 * along)
        if family == "corners":
            y, x = ((17, 8), (38, 38), (17, 38))[answer]
            return y, x + turn % 3, grow
        if family == "lanes":
            return (16, 40)[answer], 8 + round(30 * along), 4
        if family == "walk":
            return 28 + turn % 4, 8 + round(30 * along), 4
        if family == "sizes":
            return 28, 24 + turn % 3, max(1, round((4, 9)[answer] * along))
        return 28, 20 + turn % 6, grow

    def weights(self, position: int, seed: int) -> NDArray[np.float64]:
        """Share of each answer in each x̂0, `[step, answer]`: even at first, one alone from the middle on."""
        count = len(self.answers(position))
        other = self.early * np.clip(1 - 2 * np.arange(self.steps) / self.steps, 0, 1) / count
        shares = np.repeat(other[:, None], count, axis=1)
        shares[:, seed % count] = 1 - other * (count - 1)
        return shares

    def videos(self, sample: int, seed: int) -> np.ndarray:
        """Decoded x̂0, uint8 `[step, frame, y, x, channel]`."""
        rng = np.random.default_rng([sample, seed, 7])
        answers = self.answers(sample).astype(np.float64)
        shape = (self.steps, *answers.shape[1:])
        if self.only_noise:
            return rng.normal(128, 50, shape).clip(0, 255).astype(np.uint8)
        left = np.linspace(1, 0, self.steps)[:, None, None, None, None]
        mixed = np.tensordot(self.weights(sample, seed), answers, axes=1)
        greyed = (1 - 0.2 * left) * mixed + 0.2 * left * mixed.mean(axis=(1, 2, 3), keepdims=True)
        return (greyed + self.grain * left * rng.standard_normal(shape)).clip(0, 255).round().astype(np.uint8)

    def sample(self, position: int) -> Sample:
        """The sample at `position`, with the true video of every answer."""
        answers, family = self.answers(position), self.family(position)
        record = SampleRecord(
            family=family,
            prompt=f"Planted {family} {position}.",
            answers=len(answers),
            labels={"kind": FAMILIES[family], "position": position},
        )
        return Sample(record, first_frame=self.first(position), video=answers[0], videos=answers)
