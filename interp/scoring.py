"""What worlds say of generated videos."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import joblib
import numpy as np
from numpy.typing import NDArray

from interp.worlds import in_time, worlds
from store import Sample, Score

MANY: Final = 64
"""Videos that are scored in processes of their own: fewer are done before the processes have started."""
PROCESSES: Final = max(1, min(8, (os.cpu_count() or 1) // 2))


class Shown(NamedTuple):
    """A video that is to be scored."""

    sample: Sample
    video: NDArray[np.uint8]
    """`[f, y, x, 3]`."""
    step: int | None
    """Of which x̂0 it is; None for the finished one."""


def scorable(sample: Sample, shape: tuple[int, ...]) -> bool:
    """Whether a world can say something of a sample's videos.

    Not of a picture and prompt of the user's own, not of a video of another size than the true one, as a scorer reads
    cells, and not of a single frame. A video of another length is shown in as many frames as the true one.
    """
    true = sample.video
    return sample.record.family in worlds and true is not None and true.shape[1:] == shape[1:] and shape[0] > 1


def scored(shown: Sequence[Shown]) -> list[list[Score]]:
    """Scores of each video; none where no world can say anything of it.

    A score takes a CPU up to 27 ms of Python: a batch of runs with x̂0 at each step would keep the interpreter from the
    model for many times as long as a GPU takes to make them. So many videos are scored in other processes. They are
    joblib's, which do not import the script that the user has started.
    """
    alone = len(shown) < MANY or multiprocessing.current_process().daemon  # which may have no children
    if alone or PROCESSES == 1:
        return [_score(one) for one in shown]
    done: Any = joblib.Parallel(n_jobs=PROCESSES)(joblib.delayed(_score)(one) for one in shown)
    return list(done)


def _score(shown: Shown) -> list[Score]:
    sample, video, step = shown
    if not scorable(sample, video.shape):
        return []
    family = sample.record.family
    assert sample.video is not None
    values = worlds[family].score(sample, in_time(video, len(sample.video)))
    return [Score(scorer=family, metric=metric, value=value, step=step) for metric, value in values.items()]
