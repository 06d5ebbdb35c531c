"""Which of two answers a video ends in, and how much of either it shows.

An experiment that puts one run's states into another asks whether the receiver's answer becomes the donor's. Both are
known: the true videos of all answers that are valid for either sample are the candidates, and the evidence of each in
a video (`analyses._evidence.Candidates`) is its weight, 0 where it does not show and 1 where the video is it.

- A video *ends in* the candidate of most evidence, if that is at least `SHOWN` and the video is near its true one
  (`NEAR`); else in none. A picture in which the answer is written into noise, as states from another noise level give
  it, shows much evidence and is no answer: measured on the bundled model, videos that the world's scorer calls right
  lie at 0.01, such pictures at 0.14 and above.
- The *margin* is the evidence of the donor's answer less that of the receiver's own: about -1 where nothing was
  flipped, about 1 where all of it was. It stands where a classifier has a difference of logits, and like that it moves
  before the answer does.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyses._evidence import Candidates
from analyses.errors import BadTruth
from store import Sample

SHOWN: Final = 0.5
"""Evidence from which on a video ends in a candidate: none else can then have more than the other half."""


NEAR: Final = 0.1
"""Squared distance to a true video, over that of the still first frame, up to which a video can end in it."""


class Shown(NamedTuple):
    """What a video shows of each candidate, float64 `[k]` each."""

    evidence: NDArray[np.float64]
    distance: NDArray[np.float64]
    """See `NEAR`."""

    def ending(self, valid: tuple[int, ...]) -> int | None:
        """The candidate that the video ends in, None where it is none of the valid ones."""
        best = int(self.evidence.argmax())
        found = self.evidence[best] >= SHOWN and self.distance[best] <= NEAR
        return best if found and best in valid else None


class Question:
    """The answers of a receiving sample and of the one that donates, prepared to be looked for in videos.

    Args:
        receiver: Its first frame is the one that every video begins with.
        donor: May be the same sample, where another seed donates.

    Raises:
        BadTruth: if the true videos are unknown, differ in size, or cannot be told apart.
    """

    def __init__(self, receiver: Sample, donor: Sample) -> None:
        known = [sample.answer_videos for sample in (receiver, donor)]
        if known[0] is None or known[1] is None or known[0].shape[1:] != known[1].shape[1:]:
            raise BadTruth(
                f"{receiver} and {donor} have no true videos of one size, so nobody can say whose answer a video shows"
            )
        found: list[NDArray[np.uint8]] = []
        places: list[list[int]] = []
        for videos in known:
            assert videos is not None
            places.append([_place(found, video) for video in videos])
        self.of_receiver, self.of_donor = (tuple(one) for one in places)
        """Which candidates are valid for either sample."""
        try:
            self._candidates = Candidates(receiver.first_frame, np.stack(found))
        except ValueError as error:
            raise BadTruth(f"the answers of {receiver} and {donor} cannot be told apart: {error}") from error
        self._videos = np.stack(found)
        moved = self._videos.astype(np.float32) - receiver.first_frame
        self._still = np.square(moved).sum(axis=(1, 2, 3, 4), dtype=np.float64)

    def look(self, video: NDArray[np.uint8]) -> Shown:
        """What a video uint8 `[F, H, W, 3]` shows.

        Raises:
            BadTruth: if the video has another size than the true ones.
        """
        if video.shape != self._videos.shape[1:]:
            raise BadTruth(
                f"a video is {_size(video.shape)}, the true ones are {_size(self._videos.shape[1:])}: sample at the "
                "size of the samples, or nobody can say which answer it shows"
            )
        off = np.array([np.square(video.astype(np.float32) - one).sum(dtype=np.float64) for one in self._videos])
        return Shown(self._candidates.mixture(video).evidence, off / self._still)

    def where(self, *answers: int) -> NDArray[np.bool_]:
        """Pixels where any of some candidates shows and differs from the others, bool `[F, H, W]`."""
        return np.asarray(self._candidates.supports[list(answers)].any(axis=0))


def _place(found: list[NDArray[np.uint8]], video: NDArray[np.uint8]) -> int:
    """Its number among the videos that were found before, or a new one."""
    for number, other in enumerate(found):
        if np.array_equal(other, video):
            return number
    found.append(video)
    return len(found) - 1


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} frames of {shape[1]}×{shape[2]}"
