"""From the running model to the store: copies on a side stream, a bounded queue, writer threads.

On a GPU a block is copied into pinned memory on a CUDA stream of its own, behind the kernel that makes it, so that
neither the model nor Python waits; a writer waits for the copy. Measured with a full-size A14B transformer on one
H200: all 40 layers by `.cpu()` cost +245 % time, this way +0 % (DESIGN.md).
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from interp.planning import ArrayPlan
from interp.quantising import Quantised
from store import encodings

Tensor = torch.Tensor


class Sink(Protocol):
    """Where blocks go: `store.RunWriter`, or a peer in a benchmark."""

    def write(
        self, site: str, reduction: str, index: dict[str, int], block: NDArray[np.generic] | encodings.Quantised
    ) -> None:
        """Take one block of an array at the positions `index` of its leading axes."""
        ...


class _Block(NamedTuple):
    array: ArrayPlan
    place: dict[str, int]
    value: Tensor | Quantised
    """On the host; complete when `copied` is."""
    copied: torch.cuda.Event | None


class Stream:
    """Hands blocks to a sink on threads of its own; `put` waits when `budget` bytes are under way.

    Leaving the context waits until everything is written. An error of the sink is raised by the
    next `put`, or on leaving; an error inside the context drops what is still queued.

    Args:
        sink: Takes the blocks; with several writers, from several threads at once.
        budget: Bytes on the host that may wait, the blocks in the writers' hands included. One block may be larger.
        writers: Threads that write; with one, blocks arrive in order.
    """

    def __init__(self, sink: Sink, *, budget: int = 256 << 20, writers: int = 1) -> None:
        self._sink = sink
        self._budget = budget
        self._queue: deque[_Block] = deque()
        self._bytes = 0
        self.peak = 0
        """Most bytes that were under way at once."""
        self._closing = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._side: dict[torch.device, torch.cuda.Stream] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"stepscope-writer-{number}", daemon=True)
            for number in range(writers)
        ]

    def put(self, array: ArrayPlan, index: dict[str, int], value: Tensor | Quantised) -> None:
        """Queue one block; `value` must not change afterwards.

        Raises:
            BaseException: what the sink raised on an earlier block.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error or not self._bytes or self._bytes + value.nbytes <= self._budget)
            self._raise()
            self._bytes += value.nbytes
            self.peak = max(self.peak, self._bytes)
        block = _Block(array, index, *self._both_to_host(value))
        with self._changed:
            self._queue.append(block)
            self._changed.notify_all()

    def _both_to_host(self, value: Tensor | Quantised) -> tuple[Tensor | Quantised, torch.cuda.Event | None]:
        if not isinstance(value, Quantised):
            return self._to_host(value.detach())
        (numbers, _), (scale, copied) = (self._to_host(part) for part in value)
        return Quantised(numbers, scale), copied  # the scale is copied last

    def _to_host(self, value: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
        """Begin to copy a value to the host, behind what the device computes now."""
        if value.device.type != "cuda":
            return value.cpu(), None
        side = self._side.setdefault(value.device, torch.cuda.Stream(value.device))
        host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        side.wait_stream(torch.cuda.current_stream(value.device))
        with torch.cuda.stream(side):
            host.copy_(value, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        value.record_stream(side)  # its memory is not given to another tensor before the copy is done
        return host, copied

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            if error is not None:
                self._queue.clear()
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        if error is None:
            self._raise()

    def drain(self) -> None:
        """Wait until everything is written; nothing may be put afterwards.

        Raises:
            BaseException: what the sink raised.
        """
        self.__exit__(None, None, None)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing or self._error)
                if not self._queue:
                    return
                block = self._queue.popleft()
            try:
                if block.copied is not None:
                    block.copied.synchronize()
                self._sink.write(block.array.site.name, block.array.reduction.name, block.place, _as_block(block.value))
            except BaseException as error:  # handed to the thread that runs the model
                with self._changed:
                    self._error = self._error or error
                    self._queue.clear()
                    self._changed.notify_all()
                return
            with self._changed:
                self._bytes -= block.value.nbytes
                self._changed.notify_all()


def _as_block(value: Tensor | Quantised) -> NDArray[np.generic] | encodings.Quantised:
    if isinstance(value, Quantised):
        return encodings.Quantised(value.numbers.numpy(), value.scale.numpy())
    return to_numpy(value)


def to_numpy(value: Tensor) -> NDArray[np.generic]:
    """A tensor on the host as an array; bfloat16, which NumPy lacks, as its uint16 bits."""
    return (value.view(torch.uint16) if value.dtype is torch.bfloat16 else value).numpy()
