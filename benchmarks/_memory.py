"""Memory in benchmarks: how much something takes at most, and files that the page cache is to forget."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Self

_PAGE = 4096
_EVERY = 0.002  # seconds


class Peak:
    """Watches this process's resident memory while the context lasts."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._before = self._most = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def extra(self) -> int:
        """Bytes beyond what was resident at the start."""
        return self._most - self._before

    def __enter__(self) -> Self:
        self._before = self._most = _resident()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(_EVERY):
            self._most = max(self._most, _resident())


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def forget(paths: Iterable[Path]) -> None:
    """Have the page cache forget these files, so that they are read from the disk."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)  # what is not written yet stays
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)
