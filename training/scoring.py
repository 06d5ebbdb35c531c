"""Making and scoring samples on CPU cores, beside the GPU that makes the videos.

What travels between processes is small: a sample is named by its `Cell`, and made again where it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from analyses._evidence import Candidates
from interp.worlds import worlds
from store.records import Sample

P = ParamSpec("P")
R = TypeVar("R")
Videos = NDArray[np.uint8]


class Cell(NamedTuple):
    """Samples `start` to `start + n` of one stream of a world."""

    family: str
    split: str
    difficulty: str
    seed: int
    n: int
    start: int = 0

    def parts(self, size: int) -> list[Cell]:
        """The same samples in cells of at most `size`."""
        return [
            self._replace(start=self.start + first, n=min(size, self.n - first)) for first in range(0, self.n, size)
        ]


def samples(cell: Cell) -> list[Sample]:
    """The samples themselves."""
    world = worlds[cell.family]
    index = torch.arange(cell.start, cell.start + cell.n)
    batch = world.draw(index, seed=cell.seed, difficulty=cell.difficulty, split=cell.split)
    return world.samples(batch, difficulty=cell.difficulty, split=cell.split)


def questions(cell: Cell) -> tuple[Videos, list[str]]:
    """First frames `[n, H, W, 3]` and prompts."""
    batch = worlds[cell.family].draw(
        torch.arange(cell.start, cell.start + cell.n), seed=cell.seed, difficulty=cell.difficulty, split=cell.split
    )
    return batch.video[:, 0].numpy(), batch.prompts


def truths(cell: Cell) -> Videos:
    """True videos `[n, F, H, W, 3]`."""
    batch = worlds[cell.family].draw(
        torch.arange(cell.start, cell.start + cell.n), seed=cell.seed, difficulty=cell.difficulty, split=cell.split
    )
    return batch.video.numpy()


def scores(cell: Cell, videos: Videos) -> list[dict[str, float]]:
    """`answer`, `process` and `overall` of each of `videos` `[n, F, H, W, 3]`."""
    world = worlds[cell.family]
    return [world.score(sample, video) for sample, video in zip(samples(cell), videos, strict=True)]


def endings(cell: Cell, videos: Videos) -> list[int | None]:
    """Which valid answer of the cell's one sample each of `videos` ends in; None where it is a wrong one."""
    (sample,) = samples(cell)
    return [worlds[cell.family].which(sample, video) for video in videos]


def evidence(cell: Cell, videos: Videos) -> list[list[float]]:
    """Evidence of each valid answer of the cell's one sample in each of `videos` (x̂0, step by step)."""
    (sample,) = samples(cell)
    answers = sample.answer_videos
    assert answers is not None
    candidates = Candidates(sample.first_frame, answers)
    return [candidates.mixture(video).evidence.tolist() for video in videos]


def ambiguous(family: str, seed: int, n: int) -> list[tuple[Cell, int]]:
    """The first `n` samples in domain with several valid answers, difficulties in turn, with how many they have."""
    found: list[list[tuple[Cell, int]]] = []
    for difficulty in worlds[family].difficulties:
        cell = Cell(family, "in_domain", difficulty, seed, max(16, 2 * n))
        answers = [sample.record.answers for sample in samples(cell)]
        found.append([(cell._replace(start=i, n=1), k) for i, k in enumerate(answers) if k > 1])
    turns = [(turn, level, one) for level, ones in enumerate(found) for turn, one in enumerate(ones)]
    return [one for *_, one in sorted(turns)[:n]]


class Inline(Executor):
    """Runs at once, in this process."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """The finished call."""
        done: Future[R] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@contextmanager
def executor(workers: int) -> Iterator[Executor]:
    """Runs the functions of this module in `workers` processes, each on one thread; in this one where 0."""
    if workers == 0:
        yield Inline()
        return
    # Spawned: a forked copy of a process that has used CUDA is broken.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        yield pool


def _one_thread() -> None:
    torch.set_num_threads(1)


def kinds(families: tuple[str, ...]) -> dict[str, str]:
    """What an ambiguous sample of each family is, where it has any."""
    return {family: worlds[family].kind for family in families if worlds[family].kind != "single"}
