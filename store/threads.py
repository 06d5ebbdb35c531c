"""Chunks worked on by as many threads as there are cores, in order, in bounded memory."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any, Final, TypeVar

from numpy.typing import NDArray

BUDGET: Final = 512 << 20
"""Bytes that encoding takes beyond what was handed in, in the whole process: chunks under way and those that wait to be
written. A single chunk that needs more goes alone."""

T = TypeVar("T")


class Budget:
    """A number of bytes that threads share.

    Args:
        nbytes: How many.
    """

    def __init__(self, nbytes: int) -> None:
        self._free = self._all = nbytes
        self._changed = threading.Condition()

    def take(self, nbytes: int, *, wait: bool) -> bool:
        """Take some; True when that is done.

        Args:
            nbytes: How many. More than there are in all is let through alone.
            wait: Wait until others gave back enough; else the answer may be False.
        """
        nbytes = min(nbytes, self._all)
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._free >= nbytes)
            if self._free < nbytes:
                return False
            self._free -= nbytes
            return True

    def give(self, nbytes: int) -> None:
        """Give back what was taken."""
        with self._changed:
            self._free += min(nbytes, self._all)
            self._changed.notify_all()


_budget = Budget(BUDGET)


def nbytes(chunk: NDArray[Any]) -> int:
    """Bytes of a chunk."""
    return chunk.nbytes


def in_order(
    work: Callable[[NDArray[Any]], T],
    chunks: Iterable[NDArray[Any]],
    *,
    needs: Callable[[NDArray[Any]], int] = nbytes,
) -> Iterator[T]:
    """`work` of each chunk, in order; one chunk more than there are cores is under way, less where `BUDGET` is used up.

    Args:
        work: Called on a thread of the pool; it should release the interpreter's lock.
        chunks: Taken one at a time.
        needs: Bytes that the work of a chunk holds at most, what it returns included.
    """
    waiting: deque[tuple[Future[T], int]] = deque()
    pool, ahead, budget = _pool(), cores() + 1, _budget
    try:
        for chunk in chunks:
            # Whoever waits for others holds nothing that they wait for.
            need = needs(chunk)
            while len(waiting) == ahead or not budget.take(need, wait=not waiting):
                yield waiting[0][0].result()
                budget.give(waiting.popleft()[1])
            waiting.append((pool.submit(work, chunk), need))
        while waiting:
            yield waiting[0][0].result()
            budget.give(waiting.popleft()[1])
    finally:
        for future, need in waiting:
            if not future.cancel():
                future.exception()
            budget.give(need)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores(), thread_name_prefix="stepscope-encode")


@cache
def readers() -> ThreadPoolExecutor:
    """Threads that wait for a disk or a server, more than there are cores."""
    return ThreadPoolExecutor(16, thread_name_prefix="stepscope-read")


def _after_fork() -> None:
    """A forked process has none of its parent's threads, and must not wait for them."""
    global _budget
    _budget = Budget(BUDGET)
    _pool.cache_clear()
    readers.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
