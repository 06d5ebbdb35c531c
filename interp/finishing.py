"""Completing runs whose videos are there: what is under way is written, videos are scored, runs become visible."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from interp.rows import Row
from interp.scoring import Shown, scored
from interp.stream import Stream
from store import Run, RunExists, Score, StepInfo

_log = logging.getLogger(__name__)

_COMMITS: Final = 4
"""Runs of a batch that are completed at once: most of it is waiting for the disk."""


class Made(NamedTuple):
    """What became of a run."""

    run: Run
    now: bool
    """False where another process has made the same run in the meantime; its result is the same."""


class Generated:
    """Runs whose videos are there, and which the store does not have yet: `finish` them, or `discard` them."""

    def __init__(
        self,
        rows: Sequence[Row],
        gone: Sequence[Run],
        stream: Stream | None,
        videos: Sequence[NDArray[np.uint8]],
        steps: tuple[StepInfo, ...],
        seconds: float,
        opened: ExitStack,
    ) -> None:
        self._rows, self._gone, self._stream, self._videos, self._steps = rows, gone, stream, videos, steps
        self._seconds = seconds
        self._opened = opened

    def finish(self) -> list[Made]:
        """Write what is under way, score, and make each run visible.

        Raises:
            StoreError: if the store cannot be written; runs that were committed until then are kept.
        """
        found = [Made(run, now=False) for run in self._gone]
        if self._stream is None:
            return found
        with self._opened:
            self._stream.drain()
            ends = [Shown(row.sample, video, None) for row, video in zip(self._rows, self._videos, strict=True)]
            waiting = [row.waiting for row in self._rows]
            scores = iter(scored([*ends, *(shown for some in waiting for shown in some)]))
            last = [next(scores) for _ in ends]
            for row, some in zip(self._rows, waiting, strict=True):
                row.scores += [score for _ in some for score in next(scores)]
            with ThreadPoolExecutor(min(_COMMITS, len(self._rows))) as pool:
                return found + list(pool.map(self._complete, self._rows, self._videos, last))

    def _complete(self, row: Row, video: NDArray[np.uint8], last: list[Score]) -> Made:
        row.write_video(video)
        row.writer.set_steps(self._steps)
        row.writer.add_scores([*sorted(row.scores, key=lambda score: score.step or 0), *last])
        try:
            row.writer.commit(seconds=self._seconds)
        except RunExists:
            return Made(row.run, now=False)
        return Made(row.run, now=True)

    def discard(self) -> None:
        """Leave nothing of them."""
        self._opened.close()


class Finisher:
    """Completes batches beside the thread that generates them, one at a time.

    A sweep has at most one batch in generation and one that is being completed. An error in completing one is raised
    by the next call; leaving the context waits for what is under way.

    Args:
        done: Told of each run that is complete, by the thread that generates.
    """

    def __init__(self, done: Callable[[Made], object]) -> None:
        self._done = done
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="stepscope-finisher")
        self._pending: Future[list[Made]] | None = None

    def take(self, batch: Generated) -> None:
        """Complete a batch once the one before it is complete."""
        try:
            self._wait()
        except BaseException:
            batch.discard()
            raise
        self._pending = self._pool.submit(batch.finish)

    def check(self) -> None:
        """Raise what has gone wrong until now."""
        if self._pending is not None and self._pending.done():
            self._wait()

    def _wait(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            for made in pending.result():
                self._done(made)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._wait()
        except Exception as second:
            if error is None:
                raise
            _log.error("the runs before could not be completed either: %s", second)
        finally:
            self._pool.shutdown()
