"""Large objects in pieces: sent as they are made, read by the ranges that are wanted."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import crc32c

if TYPE_CHECKING:
    from store.places.s3 import S3

PART: Final = 8 << 20
"""Bytes of one part of a large file, written or read in parallel with others."""

_AT_ONCE: Final = 8 * PART  # bytes of one read, so that a large file is not held twice


class Counted:
    """The parts of a file in pieces that suit a request, counted as they go by."""

    def __init__(self, parts: Iterable[bytes | memoryview]) -> None:
        self._parts = parts
        self.nbytes = self.crc32c = 0

    def __iter__(self) -> Iterator[memoryview]:
        for part in self._parts:
            view = memoryview(part).cast("B")
            self.crc32c = crc32c.crc32c(view, self.crc32c)
            self.nbytes += len(view)
            yield from (view[start : start + PART] for start in range(0, len(view), PART))


class S3Source:
    """One object, read by ranges. The first look brings its size and its end.

    Args:
        place: The bucket.
        key: The object.
    """

    def __init__(self, place: S3, key: str) -> None:
        self._place, self._key = place, key

    @functools.cached_property
    def _end(self) -> tuple[int, bytes]:
        return self._place.tail(self._key)

    @property
    def nbytes(self) -> int:
        """Size of the object."""
        return self._end[0]

    def read_some(self, target: memoryview, offset: int) -> int:
        """From the end that is here already, or by requests for parts of it."""
        size, tail = self._end
        count = min(len(target), size - offset, _AT_ONCE)
        if count <= 0:
            return 0
        start = offset - (size - len(tail))
        if start >= 0:
            target[:count] = tail[start : start + count]
            return count
        starts = list(range(offset, offset + count, PART))
        ends = [min(start + PART, offset + count) for start in starts]
        for start, data in zip(starts, self._place.read_ranges(self._key, starts, ends), strict=True):
            target[start - offset : start - offset + len(data)] = memoryview(data)
        return count

    def close(self) -> None:
        """Nothing is held."""
