"""From the rows of a shard to what a reader is given: the wanted columns, as floats where they were kept otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store import bfloat16, encodings
from store.shard import OpenShard
from store.zarr_meta import ArrayMeta

Within = Sequence[NDArray[np.intp] | None]
"""Places along each axis of an inner chunk that are wanted; None is all of them."""


def decode(
    meta: ArrayMeta,
    stored: NDArray[Any],
    out: NDArray[Any],
    scale: NDArray[np.float32] | None,
) -> None:
    """Fill `out` with the numbers that `stored` stands for.

    Args:
        meta: The array's description.
        stored: As in the file.
        out: Of the same shape, dtype `meta.loaded` or wider.
        scale: Of a lossy array, of a shape that broadcasts.
    """
    if scale is not None:
        encodings.restore(meta.encoding, stored, scale, out)
    elif meta.dtype == bfloat16.NAME and out.dtype == np.float32:
        out[...] = bfloat16.numbers(stored)
    elif meta.dtype == bfloat16.NAME:
        out[...] = bfloat16.to_float32(stored)
    else:
        out[...] = stored


def read_chunk(
    shard: OpenShard,
    number: int,
    within: Within,
    out: NDArray[Any],
    scale: NDArray[np.float32] | None,
) -> None:
    """Read one inner chunk, or a part of it, into `out`.

    Args:
        shard: The file.
        number: Which of its chunks.
        within: What is wanted of the chunk.
        out: Of the wanted shape.
        scale: Of a lossy array: for the wanted part, with a length of 1 along `y` and `x`.
    """
    meta = shard.meta
    if not out.flags.c_contiguous:  # part of an array whose axes are not in the chunk's order
        whole = np.empty(out.shape, out.dtype)
        read_chunk(shard, number, within, whole, scale)
        out[...] = whole
        return
    wide = all(places is None for places in within)
    columns = slice(None) if within[-1] is None else as_slice(within[-1])
    target = out.reshape(-1, out.shape[-1])
    if wide and scale is None and out.dtype == meta.numpy:
        shard.fill(number, out)
        return
    rows = None if all(places is None for places in within[:-1]) else _rows(within[:-1], meta.inner[:-1])
    scales = None if scale is None else _by_row(scale, out.shape)
    for first, piece in shard.pieces(number):
        if rows is None:
            at, some = slice(first, first + len(piece)), piece
        else:
            inside = (rows >= first) & (rows < first + len(piece))
            at, some = np.flatnonzero(inside), piece[rows[inside] - first]
            if not len(at):
                continue
        own = scales if scales is None or len(scales) == 1 else scales[at]
        if isinstance(at, slice):
            decode(meta, some[:, columns], target[at], own)
        else:
            part = np.empty((len(at), target.shape[1]), out.dtype)
            decode(meta, some[:, columns], part, own)
            target[at] = part


def as_slice(places: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Neighbours as a slice, which copies nothing."""
    if len(places) and np.array_equal(places, np.arange(places[0], places[0] + len(places))):
        return slice(int(places[0]), int(places[0]) + len(places))
    return places


def _rows(within: Within, sizes: Sequence[int]) -> NDArray[np.intp]:
    """Numbers of the wanted rows of a chunk, in the order of the output."""
    grid = [np.arange(size) if places is None else places for places, size in zip(within, sizes, strict=True)]
    return np.ravel_multi_index(np.ix_(*grid), tuple(sizes)).ravel()


def _by_row(scale: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    """Scales `[row, last axis]`, or one row of them if all rows share it."""
    if all(size == 1 for size in scale.shape[:-1]):
        return scale.reshape(1, scale.shape[-1])
    wide = np.broadcast_to(scale, (*shape[:-1], scale.shape[-1]))
    return wide.reshape(-1, scale.shape[-1])
