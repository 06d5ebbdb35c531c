"""Tokens from anywhere in an array: of an uncompressed file only their own bytes are read, many at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from store import decoding, dims, encodings, threads
from store.loading import Part
from store.shard import OpenShard

_TOGETHER: Final = 32  # tokens of one chunk that one thread reads
_DENSE: Final = 4  # a chunk is read whole if more than one in so many of its rows is wanted


class _Task(NamedTuple):
    """Tokens of one inner chunk."""

    file: str
    number: int
    tokens: NDArray[np.intp]
    """Which of the tokens asked for."""
    rows: NDArray[np.intp]
    """The row of each within the chunk."""
    columns: NDArray[np.intp] | None
    """The place of each in its row, for an array without channels."""


def read(part: Part, places: NDArray[np.intp]) -> NDArray[np.float32]:
    """The values of some tokens of a selection.

    Args:
        part: What is selected.
        places: `[token, axis]`, positions among those selected, for every axis but `channel`.

    Returns:
        `[token, channel]`, one channel if the array has none.

    Raises:
        DamagedArray: a file is missing or damaged.
    """
    has_channels = part.meta.dims[-1] == dims.CHANNEL
    out = np.empty((len(places), part.shape[-1] if has_channels else 1), np.float32)
    scale = _scales(part, places, width=out.shape[1])

    def work(task: _Task) -> None:
        with OpenShard(part.folder / task.file, part.meta, part.sizes[task.file]) as shard:
            for at, stored in _stored(shard, task):
                own = None if scale is None else scale[task.tokens[at]]
                if task.columns is None:
                    stored = stored[:, decoding.as_slice(part.positions[-1])]
                else:
                    stored = np.take_along_axis(stored, task.columns[at, None], axis=1)
                values = np.empty(stored.shape, np.float32)
                decoding.decode(part.meta, stored, values, own)
                out[task.tokens[at]] = values

    tasks = list(_tasks(part, places))
    if len(tasks) == 1:
        work(tasks[0])
    else:
        for _ in threads.readers().map(work, tasks):
            pass
    return out


def _stored(shard: OpenShard, task: _Task) -> Iterator[tuple[NDArray[np.intp], NDArray[Any]]]:
    """Rows as stored, with what tokens of the task they belong to."""
    if shard.meta.codec == "none" and len(task.rows) * _DENSE < shard.meta.rows:
        yield np.arange(len(task.rows)), np.stack([shard.row(task.number, int(row)) for row in task.rows])
        return
    for first, piece in shard.pieces(task.number):
        at = np.flatnonzero((task.rows >= first) & (task.rows < first + len(piece)))
        if len(at):
            yield at, piece[task.rows[at] - first]


def _tasks(part: Part, places: NDArray[np.intp]) -> Iterator[_Task]:
    meta = part.meta
    count = places.shape[1]
    axes = range(count)
    at = np.array([part.positions[axis][places[:, axis]] for axis in axes], np.intp).reshape(count, -1).T
    own = [meta.is_cell(axis) for axis in axes]
    apart = [own[axis] or meta.is_split(axis) for axis in axes]
    kinds, member = np.unique(np.where(apart, at, 0), axis=0, return_inverse=True)
    order = np.argsort(member, kind="stable")
    inner = np.where(apart, 0, at)
    has_channels = count < len(meta.dims)
    lead = inner if has_channels else inner[:, :-1]
    rows = np.zeros(len(places), np.intp)
    for axis, size in enumerate(meta.inner[: lead.shape[1]]):
        rows = rows * size + lead[:, axis]
    columns = None if has_channels else inner[:, -1]
    alone = np.array([*own, False][: len(meta.dims)])
    for tokens, kind in zip(np.split(order, np.cumsum(np.bincount(member))[:-1]), kinds, strict=True):
        place = np.zeros(len(meta.dims), np.intp)
        place[:count] = kind
        file = meta.file(np.where(alone, place, 0).tolist())
        number = int(np.ravel_multi_index(np.where(alone, 0, place).tolist(), meta.counts))
        sparse = meta.codec == "none" and len(tokens) * _DENSE < meta.rows
        step = _TOGETHER if sparse else len(tokens)
        for start in range(0, len(tokens), step):
            some = tokens[start : start + step]
            yield _Task(file, number, some, rows[some], None if columns is None else columns[some])


def _scales(part: Part, places: NDArray[np.intp], *, width: int) -> NDArray[np.float32] | None:
    """The scales `[token, channel]` of a lossy array."""
    if part.scale is None:
        return None
    values = part.scale.read()
    kept = [axis for axis, dim in enumerate(part.meta.dims) if dim not in (*encodings.WITHIN, dims.CHANNEL)]
    return values[tuple(places.T[kept])].reshape(len(places), width)
