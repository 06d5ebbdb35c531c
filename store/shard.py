"""One shard: a file that holds one cell of an array, its inner chunks one after the other, then their index.

The layout is Zarr's `sharding_indexed` with the index at the end: chunk bytes, then for each chunk
two little-endian uint64 (offset, length), then the CRC-32C of these as a uint32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from store import files
from store.errors import DamagedArray
from store.zarr_meta import ArrayMeta


def encode(block: NDArray[Any], meta: ArrayMeta) -> list[bytes | memoryview]:
    """The parts of a shard's file, in order. Uncompressed values are not copied.

    Args:
        block: One cell, C-contiguous, dtype `meta.numpy`, any shape of the cell's size.
        meta: The array's description.
    """
    values = np.ascontiguousarray(block).reshape(-1).view(np.uint8).data
    size = meta.chunk_nbytes
    parts: list[bytes | memoryview] = [values]
    lengths = np.full(len(values) // size, size, np.uint64)
    if meta.zstd:
        codec = pa.Codec("zstd", compression_level=1)
        starts = range(0, len(values), size)
        # As bytes: the memory of a compressed Arrow buffer is longer than its contents.
        parts = [codec.compress(values[start : start + size], asbytes=True) for start in starts]
        lengths = np.array([len(part) for part in parts], np.uint64)
    index = np.empty((len(lengths), 2), "<u8")
    index[:, 0] = np.cumsum(lengths) - lengths
    index[:, 1] = lengths
    table = index.tobytes()
    return [*parts, table, crc32c.crc32c(table).to_bytes(4, "little")]


def read(path: Path, meta: ArrayMeta, chunks: Sequence[int], nbytes: int) -> NDArray[Any]:
    """Some inner chunks of one shard: `[chunk, *shape of a chunk]`, bfloat16 as its bits.

    Args:
        path: The shard's file.
        meta: The array's description.
        chunks: Which inner chunks, by position, in the order wanted.
        nbytes: Size that the file must have.

    Raises:
        DamagedArray: the file is missing, has another size, or its index fails the checksum.
    """
    size = meta.chunk_nbytes
    codec = pa.Codec("zstd") if meta.zstd else None
    out = np.empty((len(chunks), size), np.uint8)
    with files.Reader(path) as reader:
        if reader.nbytes != nbytes:
            raise DamagedArray(f"{path} has {reader.nbytes} bytes instead of {nbytes}; make the run again")
        index = _index(reader, meta)
        for place, (first, count) in _consecutive(chunks):
            offset, length = int(index[first, 0]), int(index[first : first + count, 1].sum())
            if codec is None:
                reader.read_into(out[place : place + count].reshape(-1).data, offset)
                continue
            data = memoryview(reader.read(offset, length))
            for number in range(count):
                start = int(index[first + number, 0]) - offset
                packed = data[start : start + int(index[first + number, 1])]
                out[place + number] = np.frombuffer(_unpack(codec, packed, size, path), np.uint8)
    return out.view(meta.numpy).reshape(len(chunks), *meta.inner)


def _index(reader: files.Reader, meta: ArrayMeta) -> NDArray[np.uint64]:
    table = 16 * meta.chunks_per_shard
    data = reader.read(reader.nbytes - table - 4, table + 4)
    if crc32c.crc32c(data[:table]).to_bytes(4, "little") != data[table:]:
        raise DamagedArray(f"{reader.path} is damaged: the checksum of its index is wrong; make the run again")
    return np.frombuffer(data[:table], "<u8").reshape(-1, 2)


def _consecutive(chunks: Sequence[int]) -> list[tuple[int, tuple[int, int]]]:
    """Group neighbours, to read them at once: (place in the output, (first chunk, how many))."""
    groups: list[tuple[int, tuple[int, int]]] = []
    for place, chunk in enumerate(chunks):
        if groups and sum(groups[-1][1]) == chunk:
            start, (first, count) = groups[-1]
            groups[-1] = (start, (first, count + 1))
        else:
            groups.append((place, (chunk, 1)))
    return groups


def _unpack(codec: Any, packed: memoryview, size: int, path: Path) -> memoryview:
    try:
        return memoryview(codec.decompress(packed, decompressed_size=size))
    except (OSError, pa.ArrowInvalid) as error:
        raise DamagedArray(f"{path} is damaged: a chunk of it does not decompress; make the run again") from error
