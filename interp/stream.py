"""From the running model to the store: a bounded queue and one writer thread."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from interp.planning import ArrayPlan


class Sink(Protocol):
    """Where blocks go: `store.RunWriter`, or a peer in a benchmark."""

    def write(self, site: str, reduction: str, index: dict[str, int], block: NDArray[np.generic]) -> None:
        """Take one block of an array at the positions `index` of its leading axes."""
        ...


class _Block(NamedTuple):
    array: ArrayPlan
    place: dict[str, int]
    value: NDArray[np.generic]


class Stream:
    """Hands blocks to a sink on a thread of its own; `put` waits when `budget` bytes are under way.

    Leaving the context waits until everything is written. An error of the sink is raised by the
    next `put`, or on leaving; an error inside the context drops what is still queued.
    """

    def __init__(self, sink: Sink, *, budget: int = 256 << 20) -> None:
        self._sink = sink
        self._budget = budget
        self._queue: deque[_Block] = deque()
        self._bytes = 0
        self._closing = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="stepscope-writer", daemon=True)

    def put(self, array: ArrayPlan, index: dict[str, int], value: torch.Tensor) -> None:
        """Queue one block; `value` must not change afterwards.

        Raises:
            BaseException: what the sink raised on an earlier block.
        """
        block = _Block(array, index, to_numpy(value))
        with self._changed:
            self._changed.wait_for(lambda: self._error or not self._queue or self._bytes < self._budget)
            self._raise()
            self._queue.append(block)
            self._bytes += block.value.nbytes
            self._changed.notify_all()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            if error is not None:
                self._queue.clear()
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if error is None:
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    return
                block = self._queue.popleft()
            try:
                self._sink.write(block.array.site.name, block.array.reduction.name, block.place, block.value)
            except BaseException as error:  # handed to the thread that runs the model
                with self._changed:
                    self._error = error
                    self._queue.clear()
                    self._changed.notify_all()
                return
            with self._changed:
                self._bytes -= block.value.nbytes
                self._changed.notify_all()


def to_numpy(value: torch.Tensor) -> NDArray[np.generic]:
    """A tensor as an array on the host; bfloat16, which NumPy lacks, as its uint16 bits."""
    host = value.detach().cpu()
    return (host.view(torch.uint16) if host.dtype is torch.bfloat16 else host).numpy()
