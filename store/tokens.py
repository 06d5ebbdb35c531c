"""Raw tokens as a lazy table: one row a token, read chunk by chunk, and only those chunks that a filter needs.

A filter is taken apart at its ANDs. What speaks of labels alone decides first which runs, then which chunks, then which
tokens of these; only then are values read, and the rest of the filter looks at them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.io.plugins import register_io_source

from store import dims, scatter
from store.errors import RaggedRuns
from store.loading import Part

VALUE: Final = "value"
"""Column of an array without channels."""

VALUES: Final = "values"
"""Column of an array with channels: a fixed-size list of them."""

_BATCH: Final = 1 << 16  # rows that small chunks are put together to
_NBYTES: Final = 64 << 20  # bytes of values that a batch stays below, unless one chunk is larger


class Described(NamedTuple):
    """What the manifests say of the array in one run."""

    run_id: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]


class Table(NamedTuple):
    """What a lazy table is made of."""

    name: str
    """`site/reduction`."""
    axes: tuple[str, ...]
    """Axes with a column of labels each."""
    channels: int | None
    """Length of `values`; None if there is one `value`."""
    run_ids: tuple[str, ...]
    select: Callable[[str], Part]
    """What is selected of one run."""

    @property
    def schema(self) -> pl.Schema:
        """Columns and their types."""
        labels = {
            axis: pl.String() if axis in (dims.BRANCH, dims.QUERY, dims.STAT) else pl.Int64() for axis in self.axes
        }
        if self.channels is None:
            return pl.Schema({"run_id": pl.String(), **labels, VALUE: pl.Float32()})
        return pl.Schema({"run_id": pl.String(), **labels, VALUES: pl.Array(pl.Float32(), self.channels)})


def scan(
    name: str, described: Sequence[Described], select: Callable[[str], Part], *, some_channels: bool
) -> pl.LazyFrame:
    """The lazy table of one array of several runs.

    Args:
        name: `site/reduction`, for errors.
        described: The runs, at least one.
        select: Gives the selected part of a run; called when that run is read.
        some_channels: Whether that leaves some channels out; then the first run says how many there are.

    Raises:
        RaggedRuns: the runs have other axes, or another number of channels.
    """
    kinds = {(one.dims, one.shape[-1] if one.dims[-1] == dims.CHANNEL else None) for one in described}
    if len(kinds) > 1:
        told = " and ".join(f"[{', '.join(axes)}] with {size} channels" for axes, size in sorted(kinds, key=str))
        raise RaggedRuns(f"the runs of {name} have other axes: {told}; select alike ones with where= or runs=")
    ((axes, size),) = kinds
    table = Table(
        name=name,
        axes=tuple(axis for axis in axes if axis != dims.CHANNEL),
        channels=select(described[0].run_id).shape[-1] if some_channels else size,
        run_ids=tuple(one.run_id for one in described),
        select=select,
    )

    def source(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        frames = _rows(table, conjuncts(predicate), columns or list(table.schema))
        left = n_rows
        for frame in frames if left is None or left > 0 else ():
            frame = frame.select(columns or list(table.schema))
            if left is not None:
                frame = frame.head(left)
                left -= len(frame)
            yield frame
            if left == 0:
                return

    return register_io_source(source, schema=table.schema, is_pure=True)


def conjuncts(predicate: pl.Expr | None) -> list[pl.Expr]:
    """The parts of a filter that must all hold."""
    if predicate is None:
        return []
    parts = predicate.meta.pop()
    if len(parts) == 2:
        for left, right in (parts, parts[::-1]):
            if (left & right).meta.eq(predicate):
                return [*conjuncts(left), *conjuncts(right)]
    return [predicate]


def _rows(table: Table, filters: Sequence[pl.Expr], columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The rows that pass all filters, with at least `columns`, in batches."""
    value = VALUE if table.channels is None else VALUES
    valued = [one for one in filters if value in one.meta.root_names()]
    others = [one for one in filters if value not in one.meta.root_names()]
    wanted = value in columns or bool(valued)
    runs, others = _filtered(pl.DataFrame({"run_id": table.run_ids}, schema={"run_id": pl.String}), others)
    for run_id in runs["run_id"]:
        part = table.select(run_id)
        for batch in _batches(table, part, others):
            frame = batch.drop("")
            if wanted:
                frame = frame.with_columns(_values(table, part, batch[""].to_numpy(), value))
            for one in valued:
                frame = frame.filter(one)
            if len(frame):
                yield frame


def _batches(table: Table, part: Part, filters: Sequence[pl.Expr]) -> Iterator[pl.DataFrame]:
    """Labels of the tokens of one run that pass the filters, a few chunks at a time; column "" is their position."""
    chunks, filters = _filtered(_chunk_frame(table, part), filters)
    grid = _grid(table, part)
    held: list[pl.DataFrame] = []
    rows, most = 0, max(1, min(_BATCH, _NBYTES // (4 * (table.channels or 1))))
    for places in chunks.select(f"@{axis}" for axis in table.axes).iter_rows():
        frame, left = _filtered(_token_frame(table, part, grid, places), filters)
        if left:
            raise ValueError(f"the filter of {table.name} asks for columns that it lacks: {left[0]}")
        if rows and rows + len(frame) > most:
            yield pl.concat(held)
            held, rows = [], 0
        if len(frame):
            held.append(frame)
            rows += len(frame)
    if rows:
        yield pl.concat(held)


def _filtered(frame: pl.DataFrame, filters: Sequence[pl.Expr]) -> tuple[pl.DataFrame, list[pl.Expr]]:
    """The rows that pass the filters that these columns can answer, and the other filters."""
    left: list[pl.Expr] = []
    for one in filters:
        if set(one.meta.root_names()) <= set(frame.columns):
            frame = frame.filter(one)
        else:
            left.append(one)
    return frame, left


def _chunk_frame(table: Table, part: Part) -> pl.DataFrame:
    """One row a chunk: labels of the axes along which chunks divide the array, and in `@axis` the place along each."""
    alone = [part.meta.is_cell(axis) or part.meta.is_split(axis) for axis in range(len(table.axes))]
    sizes = [size if one else 1 for one, size in zip(alone, part.shape, strict=False)]
    places = np.indices(sizes).reshape(len(sizes), -1)
    columns: dict[str, Any] = {"run_id": np.full(places.shape[1], part.entry.id)}
    for axis, name in enumerate(table.axes):
        columns[f"@{name}"] = places[axis] if alone[axis] else np.full(places.shape[1], -1)
        if alone[axis]:
            columns[name] = _labels(part, axis)[places[axis]]
    return pl.DataFrame(columns)


def _grid(table: Table, part: Part) -> NDArray[np.intp]:
    """Position of each token of the selection, as one number."""
    sizes = part.shape[: len(table.axes)]
    return np.arange(int(np.prod(sizes)), dtype=np.intp).reshape(sizes)


def _token_frame(table: Table, part: Part, grid: NDArray[np.intp], places: Sequence[int]) -> pl.DataFrame:
    """One row a token of one chunk."""
    along = [np.arange(size) if at < 0 else np.array([at]) for at, size in zip(places, grid.shape, strict=True)]
    numbers = np.meshgrid(*along, indexing="ij")
    columns: dict[str, Any] = {"run_id": np.full(numbers[0].size, part.entry.id)}
    for axis, name in enumerate(table.axes):
        columns[name] = _labels(part, axis)[numbers[axis].ravel()]
    columns[""] = grid[np.ix_(*along)].ravel()
    return pl.DataFrame(columns, schema_overrides={"": pl.Int64})


def _labels(part: Part, axis: int) -> NDArray[Any]:
    dim = part.meta.dims[axis]
    return part.coords[dim].values if dim in part.coords else part.positions[axis]


def _values(table: Table, part: Part, tokens: NDArray[np.int64], name: str) -> pl.Series:
    """The values of some tokens, in order."""
    sizes = part.shape[: len(table.axes)]
    found = scatter.read(part, np.stack(np.unravel_index(tokens, sizes), axis=1))
    if table.channels is None:
        return pl.Series(name, found.reshape(-1), pl.Float32)
    return pl.Series(name, found, pl.Array(pl.Float32, table.channels))
