"""Writing one file past the page cache, where the file system allows it.

What the store writes is read much later, if at all, and a copy in the page cache costs more than the write itself:
direct, a large file is written at the speed of the disk. Its bytes go through aligned buffers; memory that is aligned
already, as pinned memory is, is written from where it lies. Small files take the usual way.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Final

import crc32c
import numpy as np
from numpy.typing import NDArray

from store.places._base import Written

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

BUFFER: Final = 4 << 20
"""Bytes that are written at once; a file that is smaller is written in the usual way."""

THREADS: Final = 2
"""That copy and write: one copies while the other waits for the disk. A file takes a buffer more than these."""

ALIGNMENT: Final = 4096
"""Offsets and lengths of direct writes are multiples of this."""

_DIRECT: Final[int] = getattr(os, "O_DIRECT", 0)


def write(handle: int, parts: Iterable[bytes | memoryview]) -> Written:
    """Write `parts` one after the other to a new, empty file that is open for writing; not durable until `fsync`.

    Args:
        handle: The file; its flags are as before afterwards.
        parts: Contiguous bytes.

    Raises:
        OSError: as the system does.
    """
    file = _File(handle)
    nbytes, checksum = 0, 0
    try:
        for part in parts:
            rest = np.frombuffer(memoryview(part).cast("B"), np.uint8)
            while len(rest):
                piece = file.take(rest)
                checksum = crc32c.crc32c(piece.data, checksum)
                nbytes, rest = nbytes + len(piece), rest[len(piece) :]
        file.finish()
    finally:
        file.close()
    return Written(nbytes, f"{checksum:08x}")


class _File:
    """A file that two threads write in pieces of `BUFFER` bytes, while the caller goes on.

    Args:
        handle: The file, open for writing.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._offset = 0
        self._staged = 0
        self._stage = _aligned(BUFFER)
        self._free: SimpleQueue[NDArray[np.uint8]] = SimpleQueue()
        self._pool: ThreadPoolExecutor | None = None
        self._pending: deque[Future[None]] = deque()

    def take(self, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Take as much of `data` as fits now: that part of it."""
        if not self._staged and len(data) >= BUFFER:
            self._begin(data[:BUFFER], staged=False)
            return data[:BUFFER]
        piece = data[: BUFFER - self._staged]
        self._stage[self._staged : self._staged + len(piece)] = piece
        self._staged += len(piece)
        if self._staged == BUFFER:
            self._begin(self._stage, staged=True)
            self._stage, self._staged = self._free.get(), 0
        return piece

    def finish(self) -> None:
        """Write what is left, the last bytes through the page cache."""
        while self._pending:
            self._pending.popleft().result()
        whole = self._staged // ALIGNMENT * ALIGNMENT if self._offset else 0
        _put(self._handle, self._stage[:whole], self._offset)
        _set_direct(self._handle, False)
        _put(self._handle, self._stage[whole : self._staged], self._offset + whole)

    def close(self) -> None:
        """Wait for what is being written, which may fail like the piece before."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            _set_direct(self._handle, False)

    def _begin(self, data: NDArray[np.uint8], *, staged: bool) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="stepscope-write")
            for _ in range(THREADS):
                self._free.put(_aligned(BUFFER))
            _set_direct(self._handle, True)
        if len(self._pending) == THREADS:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._write, data, self._offset, staged))
        self._offset += BUFFER

    def _write(self, data: NDArray[np.uint8], offset: int, staged: bool) -> None:
        """Write one piece, from an aligned buffer unless it lies in aligned memory already."""
        if not staged and data.ctypes.data % ALIGNMENT == 0:
            _put(self._handle, data, offset)
            return
        buffer = data if staged else self._free.get()
        try:
            if not staged:
                np.copyto(buffer, data)
            _put(self._handle, buffer, offset)
        finally:
            self._free.put(buffer)


def _put(handle: int, data: NDArray[np.uint8], offset: int) -> None:
    """Write all of `data`; through the page cache if the file system takes the flag and then refuses the write."""
    while len(data):
        try:
            count = os.pwrite(handle, data.data, offset)
        except OSError as error:
            if error.errno != errno.EINVAL or not _is_direct(handle):
                raise
            _set_direct(handle, False)
            continue
        data, offset = data[count:], offset + count


def _aligned(nbytes: int) -> NDArray[np.uint8]:
    """Memory that begins at a page."""
    return np.frombuffer(mmap.mmap(-1, nbytes), np.uint8)


def _is_direct(handle: int) -> bool:
    return bool(_DIRECT and fcntl and fcntl.fcntl(handle, fcntl.F_GETFL) & _DIRECT)


def _set_direct(handle: int, direct: bool) -> None:
    """Write past the page cache from now on, or through it; a file system that cannot goes on as before."""
    if not _DIRECT or not fcntl or _is_direct(handle) == direct:
        return
    flags = fcntl.fcntl(handle, fcntl.F_GETFL)
    try:
        fcntl.fcntl(handle, fcntl.F_SETFL, flags | _DIRECT if direct else flags & ~_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
