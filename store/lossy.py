"""One cell of a lossy array: quantised chunk by chunk while it is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from store import codecs, encodings, shard, threads
from store.errors import InvalidArray
from store.records import Encoding, Json
from store.zarr_meta import ENCODING, ArrayMeta

SCALE: Final = "_scale"
"""What the name of the scales of a lossy array ends in."""


class Quantiser:
    """What writes the cells of one lossy array.

    Args:
        name: `site/reduction`, for errors.
        reduction: Name of the array.
        encoding: `int8` or `float8`.
        dtype: Of the values that are handed in.
        dims: Names of the array's axes.

    Raises:
        InvalidArray: values of this dtype or without `y` and `x` cannot be kept so.
    """

    def __init__(self, name: str, reduction: str, *, encoding: Encoding, dtype: str, dims: tuple[str, ...]) -> None:
        self.encoding: Encoding = encoding
        self.dtype = dtype
        self.scale_name = reduction + SCALE
        self.axes = tuple(axis for axis, dim in enumerate(dims) if dim in encodings.WITHIN)
        if dtype not in encodings.FLOATS:
            raise InvalidArray(f"{name}: {encoding} keeps {', '.join(encodings.FLOATS)}, not {dtype}; use exact")
        if not self.axes:
            raise InvalidArray(f"{name}: {encoding} takes a scale over y and x, which {dims} lacks; use exact")

    @property
    def attributes(self) -> Json:
        """What the array's own attributes say of it."""
        return {ENCODING: {"name": self.encoding, "scale": self.scale_name, "of": self.dtype}}

    def encode(self, block: NDArray[Any], meta: ArrayMeta, scales: list[NDArray[np.float32]]) -> Iterator[shard.Part]:
        """The parts of a shard's file; `scales` receives each chunk's, when its part is handed out."""
        values = np.ascontiguousarray(block).reshape(meta.shard)

        def work(chunk: NDArray[Any]) -> tuple[shard.Part, NDArray[np.float32]]:
            floats = encodings.to_float32(chunk, self.dtype)
            numbers, scale = encodings.quantise(self.encoding, floats, self.axes)
            packed = shard.as_bytes(numbers) if meta.codec == "none" else codecs.compress(meta.codec, numbers)
            return packed, scale

        def parts() -> Iterator[shard.Part]:
            for part, scale in threads.in_order(work, shard.chunks(values, meta), needs=encodings.needs):
                scales.append(scale)
                yield part

        return shard.with_index(parts(), meta)

    def gather(self, scales: list[NDArray[np.float32]], meta: ArrayMeta) -> NDArray[np.float32]:
        """The scales of all chunks of one cell as one block, with a length of 1 along `y` and `x`."""
        shape = [1 if axis in self.axes else size for axis, size in enumerate(meta.shard)]
        block = np.empty(shape, np.float32)
        for place, scale in zip(np.ndindex(meta.counts), scales, strict=True):
            where = [slice(at * size, (at + 1) * size) for at, size in zip(place, meta.inner, strict=True)]
            block[tuple(slice(None) if axis in self.axes else part for axis, part in enumerate(where))] = scale
        return block
