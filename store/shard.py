"""One shard: a file that holds one cell of an array, its inner chunks one after the other, then their index.

The layout is Zarr's `sharding_indexed` with the index at the end: chunk bytes, then for each chunk
two little-endian uint64 (offset, length), then the CRC-32C of these as a uint32.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import crc32c
import numpy as np
from numpy.typing import NDArray

from store import codecs, files, threads
from store.errors import DamagedArray
from store.places import Location
from store.zarr_meta import ArrayMeta

Part = bytes | memoryview

_AT_ONCE: Final = 8 << 20  # bytes of neighbouring chunks that are fetched by one read
_ALONE: Final = 64 << 10  # bytes from which on a chunk of a local file is read by itself, straight to where it goes
_PIECE: Final = 1 << 19  # bytes that are read and decoded while they stay in the processor's cache


class _Scratch(threading.local):
    """Where a thread puts what it reads; kept, since new memory costs as much as reading into it."""

    spare: NDArray[np.uint8] | None = None

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        """Memory for one reader at a time; a second one gets its own."""
        memory, self.spare = self.spare, None
        return memory if memory is not None and len(memory) >= nbytes else np.empty(max(nbytes, _PIECE), np.uint8)

    def give(self, memory: NDArray[np.uint8]) -> None:
        """Give it back for the next reader, unless it is larger than most need."""
        if len(memory) <= 2 * _PIECE:
            self.spare = memory


_scratch = _Scratch()


def encode(block: NDArray[Any], meta: ArrayMeta) -> Iterator[Part]:
    """The parts of a shard's file of exact values, in order. Uncompressed values are not copied.

    Args:
        block: One cell, dtype `meta.numpy`, any shape of the cell's size.
        meta: The array's description.
    """
    values = np.ascontiguousarray(block).reshape(meta.shard)
    if meta.codec != "none":
        compress = partial(codecs.compress, meta.codec)
        return with_index(threads.in_order(compress, chunks(values, meta), needs=codecs.needs), meta)
    if meta.in_order:
        return with_index([as_bytes(values)], meta)
    return with_index(map(as_bytes, chunks(values, meta)), meta)


def chunks(values: NDArray[Any], meta: ArrayMeta) -> Iterator[NDArray[Any]]:
    """The inner chunks of one cell, each contiguous, in C order of their places."""
    for place in np.ndindex(meta.counts):
        where = tuple(slice(at * size, (at + 1) * size) for at, size in zip(place, meta.inner, strict=True))
        yield np.ascontiguousarray(values[where])


def as_bytes(values: NDArray[Any]) -> memoryview:
    """Contiguous values as they are stored."""
    return values.reshape(-1).view(np.uint8).data


def with_index(parts: Iterable[Part], meta: ArrayMeta) -> Iterator[Part]:
    """Parts of one chunk each, or one of all uncompressed chunks, and then the index."""
    lengths: list[int] = []
    for part in parts:
        yield part
        lengths.append(len(part))
    if len(lengths) == 1:
        lengths = [lengths[0] // meta.chunks_per_shard] * meta.chunks_per_shard
    index = np.empty((len(lengths), 2), "<u8")
    index[:, 1] = lengths
    index[:, 0] = np.cumsum(index[:, 1]) - index[:, 1]
    table = index.tobytes()
    yield table
    yield crc32c.crc32c(table).to_bytes(4, "little")


class OpenShard:
    """One shard open for reading. Use as a context manager.

    Args:
        path: The shard's file.
        meta: The array's description.
        nbytes: Size that the file must have.

    Raises:
        DamagedArray: the file is missing, has another size, or its index fails the checksum.
    """

    def __init__(self, path: Location, meta: ArrayMeta, nbytes: int) -> None:
        self.path, self.meta = path, meta
        self._reader = files.Reader(path)
        self._held: tuple[int, memoryview] = (0, memoryview(b""))
        try:
            if self._reader.nbytes != nbytes:
                raise DamagedArray(f"{path} has {self._reader.nbytes} bytes instead of {nbytes}; make the run again")
            self._index = self._read_index()
        except BaseException:
            self._reader.__exit__()
            raise

    def expect(self, numbers: Sequence[int]) -> None:
        """Fetch these chunks by one read, if they are small neighbours, or neighbours on a server."""
        starts, lengths = self._index[np.asarray(numbers)].T
        if len(numbers) == 1 or (isinstance(self.path, Path) and lengths.min() >= _ALONE):
            return
        first, end = int(starts.min()), int((starts + lengths).max())
        if end - first <= _AT_ONCE and end - first <= 1.2 * lengths.sum():
            self._held = (first, memoryview(self._reader.read(first, end - first)))

    def pieces(self, number: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """One inner chunk as (first row, rows): rows `[row, last axis]` as stored, valid until the next piece."""
        rows, width = self.meta.rows, self.meta.inner[-1]
        if self.meta.codec != "none" or not isinstance(self.path, Path):  # a server is asked for all of it at once
            whole = np.empty((rows, width), self.meta.numpy)
            self.fill(number, whole)
            yield 0, whole
            return
        row_nbytes = width * self.meta.numpy.itemsize
        step = max(1, _PIECE // row_nbytes)
        nbytes = min(step, rows) * row_nbytes
        memory = _scratch.take(nbytes)
        scratch = memory[:nbytes].view(self.meta.numpy).reshape(-1, width)
        try:
            for row in range(0, rows, step):
                piece = scratch[: min(step, rows - row)]
                self._read_into(as_bytes(piece), int(self._index[number, 0]) + row * row_nbytes)
                yield row, piece
        finally:
            _scratch.give(memory)

    def fill(self, number: int, out: NDArray[Any]) -> None:
        """One inner chunk as stored, into contiguous `out` of its size.

        Raises:
            DamagedArray: the file ends before, or the chunk does not decompress.
        """
        offset, length = map(int, self._index[number])
        if self.meta.codec == "none":
            self._read_into(as_bytes(out), offset)
            return
        packed = bytearray(length)
        self._read_into(memoryview(packed), offset)
        try:
            codecs.decompress(self.meta.codec, memoryview(packed), np.frombuffer(as_bytes(out), np.uint8))
        except ValueError as error:
            raise DamagedArray(
                f"{self.path} is damaged: a chunk of it does not decompress ({error}); make the run again"
            ) from error

    def fill_many(self, first: int, out: NDArray[Any]) -> None:
        """Uncompressed neighbours into contiguous `out` `[chunk, …]`, by one read; raises as `fill`."""
        starts = self._index[first : first + len(out), 0]
        if np.array_equal(starts, starts[0] + np.arange(len(out), dtype=starts.dtype) * out[0].nbytes):
            self._read_into(as_bytes(out), int(starts[0]))
            return
        for number, chunk in enumerate(out, first):  # written by others
            self.fill(number, chunk)

    def row(self, number: int, row: int) -> NDArray[Any]:
        """One row of an uncompressed chunk: its values along the last axis."""
        out = np.empty(self.meta.inner[-1], self.meta.numpy)
        self._read_into(as_bytes(out), int(self._index[number, 0]) + row * out.nbytes)
        return out

    def _read_into(self, target: memoryview, offset: int) -> None:
        start, held = self._held
        if start <= offset and offset + len(target) <= start + len(held):
            target[:] = held[offset - start : offset - start + len(target)]
        else:
            self._reader.read_into(target, offset)

    def _read_index(self) -> NDArray[np.uint64]:
        table = 16 * self.meta.chunks_per_shard
        data = self._reader.read(self._reader.nbytes - table - 4, table + 4)
        if crc32c.crc32c(data[:table]).to_bytes(4, "little") != data[table:]:
            raise DamagedArray(f"{self.path} is damaged: the checksum of its index is wrong; make the run again")
        return np.frombuffer(data[:table], "<u8").reshape(-1, 2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._reader.__exit__()


def read(path: Location, meta: ArrayMeta, nbytes: int) -> NDArray[Any]:
    """All values of one shard as stored, in the shape of its cell; raises as `OpenShard` and its `fill`."""
    out = np.empty(meta.shard, meta.numpy)
    with OpenShard(path, meta, nbytes) as shard:
        shard.expect(range(meta.chunks_per_shard))
        for number, place in enumerate(np.ndindex(meta.counts)):
            chunk = np.empty(meta.inner, meta.numpy)
            shard.fill(number, chunk)
            out[tuple(slice(at * size, (at + 1) * size) for at, size in zip(place, meta.inner, strict=True))] = chunk
    return out
