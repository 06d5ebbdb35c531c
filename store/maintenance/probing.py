"""How fast a store can be read here, measured on a little of it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from store import files
from store.acts import ActivationStore
from store.maintenance import contents

PROBE: Final = 64 << 20
"""Bytes that are read to learn the speed."""

_BLOCK: Final = 8 << 20


def read_speed(acts: ActivationStore, *, nbytes: int = PROBE) -> float | None:
    """Bytes a second of reading whole files one after the other; None where there is nothing to read.

    Files of a local disk are first dropped from the memory in which the system keeps what was read before, as far as
    it lets us: the figure is the disk's.

    Args:
        acts: The store.
        nbytes: How much to read at most; the largest files of the first runs.
    """
    read, seconds = 0, 0.0
    for id in acts.run_ids():
        promised = contents.read(acts.layout, "runs", id)
        for name, _ in sorted(promised.values.items(), key=lambda item: -item[1][0]):
            if read >= nbytes:
                return read / max(seconds, 1e-9)
            path = promised.folder / name
            if isinstance(path, Path):
                _drop(path)
            begun = time.perf_counter()
            with files.Reader(path) as reader:
                count = min(reader.nbytes, nbytes - read)
                for offset in range(0, count, _BLOCK):
                    reader.read(offset, min(_BLOCK, count - offset))
            seconds += time.perf_counter() - begun
            read += count
    return read / max(seconds, 1e-9) if read else None


def _drop(path: Path) -> None:
    if hasattr(os, "posix_fadvise"):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
