"""How a video is compared with a true one: frame by frame, by the worst place in each frame.

Every pixel must have a colour that the other picture has within one pixel of that place, so that a blurred
or slightly shifted edge costs nothing; what disagrees is counted in every 8×8 window, and the worst window
decides. So a single wrong, missing or invented thing is seen, however large the rest of the picture.

Shapes: k answers, F frames, H×W pixels.

Each step of a run is scored, so what is compared lies channel by channel: pixels of a channel are neighbours in memory,
and what the true video alone decides is kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

COLOUR_TOLERANCE: Final = 48
"""Largest difference in a colour channel (0-255) that still counts as equal."""
WINDOW: Final = 8
"""Pixels along the window in which disagreeing pixels are counted."""
ANSWER_LIMIT: Final = 0.25
"""Largest share of a window that may disagree in the last frame."""
PROCESS_LIMIT: Final = 0.4
"""The same in the frames on the way, where things move: about four pixels off."""
SLACK: Final = 2
"""Frames that a video may run ahead of the true one, or behind it."""

Frames = NDArray[np.uint8]


class Envelope(NamedTuple):
    """Frames `[..., 3, H, W]`, and the least and greatest value that counts as equal to one of the 3×3 pixels there."""

    frames: Frames
    low: Frames
    high: Frames


def envelope(frames: Frames) -> Envelope:
    """The envelope of frames uint8 `[..., H, W, 3]`."""
    planes = np.ascontiguousarray(np.moveaxis(frames, -1, -3))
    low, high = _spread(planes, np.minimum), _spread(planes, np.maximum)
    least, greatest = np.uint8(COLOUR_TOLERANCE), np.uint8(255 - COLOUR_TOLERANCE)
    return Envelope(planes, np.maximum(low, least) - least, np.minimum(high, greatest) + least)


def _spread(values: Frames, better: np.ufunc) -> Frames:
    """The best of each 3×3 pixels `[..., H, W]`."""
    rows = values.copy()
    better(rows[..., 1:, :], values[..., :-1, :], out=rows[..., 1:, :])
    better(rows[..., :-1, :], values[..., 1:, :], out=rows[..., :-1, :])
    out = rows.copy()
    better(out[..., 1:], rows[..., :-1], out=out[..., 1:])
    better(out[..., :-1], rows[..., 1:], out=out[..., :-1])
    return out


def worst_window(a: Envelope, i: int, b: Envelope, j: int) -> float:
    """Share of pixels that disagree between frame `i` of `a` and frame `j` of `b` in the worst window, 0 to 1."""
    wrong = (a.frames[i] < b.low[j]) | (a.frames[i] > b.high[j]) | (b.frames[j] < a.low[i]) | (b.frames[j] > a.high[i])
    bad = np.bitwise_or.reduce(wrong, axis=0)
    if not bad.any():
        return 0.0
    total = np.zeros((bad.shape[0] + 1, bad.shape[1] + 1), np.int32)
    total[1:, 1:] = bad.cumsum(axis=0, dtype=np.int32).cumsum(axis=1)
    w = WINDOW
    return float((total[w:, w:] - total[:-w, w:] - total[w:, :-w] + total[:-w, :-w]).max()) / w**2


class Verdict(NamedTuple):
    """What a video shows of the valid answers."""

    answer: int | None
    """Number of the valid answer that its last frame shows, or None."""
    process: float
    """See `judge`."""


def judge(video: Frames, truths: Frames) -> Verdict:
    """Compare a video with the true videos of all valid answers.

    The *answer* is the one whose last frame is nearest, if its worst window is good enough (`ANSWER_LIMIT`).
    The *process* is the share of later frames that show, in order and at most `SLACK` frames early or late, what
    the true video of that answer shows (`PROCESS_LIMIT`), counted from what the best jump from the first to the
    last true frame would reach: such a jump has 0, the true video 1.

    Args:
        video: uint8 `[F, H, W, 3]`.
        truths: uint8 `[k, F, H, W, 3]`.
    """
    seen = envelope(video)
    last = len(video) - 1
    ends = envelope(truths[:, last])
    distances = [worst_window(seen, last, ends, answer) for answer in range(len(truths))]
    nearest = int(np.argmin(distances))
    true, floor = _known(truths[nearest].tobytes(), truths[nearest].shape)
    reached = _in_order(_Matches(seen, true), list(range(last + 1)))
    return Verdict(
        answer=nearest if distances[nearest] <= ANSWER_LIMIT else None,
        process=max(0.0, (reached - floor) / (last - floor)) if floor < last else 0.0,
    )


@lru_cache(maxsize=32)
def _known(video: bytes, shape: tuple[int, ...]) -> tuple[Envelope, int]:
    """Envelope of a true video, and how many of its frames the best jump from the first to the last one reaches."""
    true = envelope(np.frombuffer(video, np.uint8).reshape(shape))
    jump, last = _Matches(true, true), shape[0] - 1
    return true, max(_in_order(jump, [0] * cut + [last] * (last + 1 - cut)) for cut in range(1, last + 1))


class _Matches(dict[tuple[int, int], bool]):
    """Whether frame i of one video can pass for frame j of another; found out when it is asked."""

    def __init__(self, seen: Envelope, true: Envelope) -> None:
        super().__init__()
        self._seen, self._true = seen, true

    def __missing__(self, pair: tuple[int, int]) -> bool:
        self[pair] = worst_window(self._seen, pair[0], self._true, pair[1]) <= PROCESS_LIMIT
        return self[pair]


def _in_order(matches: _Matches, frames: list[int]) -> int:
    """How many of `frames`, from the second one on, are found in the true video in order and near their time."""
    at, found = 0, 0
    for time in range(1, len(frames)):
        for candidate in range(max(at, time - SLACK), min(len(frames) - 1, time + SLACK) + 1):
            if matches[frames[time], candidate]:
                at, found = candidate, found + 1
                break
    return found
