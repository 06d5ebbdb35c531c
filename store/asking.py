"""Asking a store: SQL over everything, arrays as xarray, tokens as a table or one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from store import dims
from store.errors import QueryError, RunNotFound, UnknownArray, UnknownLabel
from store.layout import Kind, Layout
from store.manifest import RunEntry, Source

if TYPE_CHECKING:  # readers' libraries: a node that only writes need not have them
    import duckdb
    import polars as pl
    import xarray as xr
    from numpy.typing import NDArray

    from store.index import Index
    from store.loading import Part
    from store.query import Frame, Params
    from store.selection import Selector
    from store.stacking import Ragged
    from store.tokens import Described


class Asking:
    """The part of `ActivationStore` that answers questions.

    Args:
        layout: The store's paths.
    """

    def __init__(self, layout: Layout) -> None:
        self.path = layout.root
        self._layout = layout
        self._index_or_none: Index | None = None

    def has_run(self, run_id: str) -> bool:
        """Whether the run is complete."""
        return self._layout.has("runs", run_id)

    def sql(self, query: str, params: Params = None, **frames: Frame) -> duckdb.DuckDBPyRelation:
        """Ask the views `runs`, `samples`, `steps`, `arrays`, `token_stats`, `scores`, `results` (docs/sql.md).

        Args:
            query: One SELECT.
            params: Values for its `?` (a sequence) or `$name` (a mapping).
            frames: Tables of your own that it may name: data frames of polars or pandas, Arrow tables, and the
                lazy frames of `tokens`, which take over the query's filters.

        Returns:
            A relation of what was committed by now: `.df()`, `.pl()`, `.fetchall()`, `.filter(…)`.

        Raises:
            QueryError: the query is wrong, or does more than select.
            CorruptManifest, NewerFormat: a manifest cannot be read.
        """
        from store import query as queries

        return queries.run(self._index.connect(), query, params, frames)

    def load(
        self,
        site: str,
        reduction: str,
        *,
        where: str | None = None,
        params: Params = None,
        runs: Sequence[str] | None = None,
        step: Selector = None,
        layer: Selector = None,
        branch: Selector = None,
        frame: Selector = None,
        channel: Selector = None,
        by: str | Sequence[str] = (),
        ragged: Ragged = "refuse",
        lazy: bool = True,
        out: NDArray[Any] | None = None,
    ) -> xr.DataArray:
        """One array of several runs, stacked, read when it is computed.

        Args:
            site: Where in the model, e.g. `resid_post`.
            reduction: What is kept of it, e.g. `energy`.
            where: SQL condition on the columns of `runs` and `samples`, e.g. `"seed = 0 AND family = 'maze'"`.
            params: Values for its `?` or `$name`.
            runs: Ids, in the order wanted; else by sample, seed and id. Without `runs`, runs that do not
                hold the array are left out.
            step: Labels, not positions: one (its axis goes away), several, or a slice with both ends included.
            layer: The same.
            branch: The same.
            frame: The same.
            channel: The same.
            by: Columns of `runs` and `samples`, e.g. `["family", "seed"]`: the runs are ordered by them (unless `runs`
                says the order), and each is a coordinate along `run`, to group and select by. NULL comes as NaN, NaT or
                empty text.
            ragged: Where the runs' labels differ, `refuse` raises and `pad` gives all labels that any run has, with
                NaN (whole numbers become floats) where a run has no value.
            lazy: False reads now, with many threads and without dask: the quickest for what fits into memory.
            out: With `lazy=False`, where the values go: C-contiguous, as many as are read, of any shape, cast to its
                dtype. One that is used for many reads spares new memory, which costs more than reading into it.

        Returns:
            A dask-backed array `[run, step, branch, layer, frame, y, x, channel]`, as far as the array has
            these, one dask chunk a (run, step, branch, layer), of large ones as many frames as 32 MiB hold.
            Coordinates: `run`, `sample_id`, `seed`, every axis's labels, and along `step` also `timestep`, `sigma` and
            `expert` (along `run` and `step` where runs differ). bfloat16 and lossy arrays come as float32.

        Raises:
            RunNotFound: an id is unknown, or no run answers `where`.
            UnknownArray: no run (or one of `runs`) holds the array.
            UnknownLabel: a run does not have a label or axis that was asked.
            RaggedRuns: the runs' axes differ, or their labels do and `ragged` is `refuse`.
            DamagedArray: a file is missing or has another size than the manifest says.
            QueryError: `where` is wrong, or `by` names no column, or one that is a coordinate of the array already.
            ValueError: `out` does not fit.
        """
        from store import stacking
        from store.selection import is_label

        by = [by] if isinstance(by, str) else list(by)
        selectors = {"step": step, "branch": branch, "layer": layer, "frame": frame, "channel": channel}
        chosen = self._chosen(where, params, runs, by)
        parts = self._parts(site, reduction, chosen, selectors, named=runs is not None)
        scalars = [axis for axis, selector in selectors.items() if is_label(selector)]
        array = stacking.stack(
            parts, site=site, reduction=reduction, scalars=scalars, ragged=ragged, lazily=lazy, out=out
        )
        return self._labelled(array, by) if by else array

    def tokens(
        self,
        site: str,
        reduction: str,
        *,
        where: str | None = None,
        params: Params = None,
        runs: Sequence[str] | None = None,
        channel: Selector = None,
    ) -> pl.LazyFrame:
        """One array of several runs as a lazy table with a row for each token.

        Filters, columns and limits of what you ask of it reach the files: a chunk is read if a row of it may be
        wanted, and then only where a value is.

        Args:
            site: Where in the model.
            reduction: What is kept of it.
            where: As in `load`.
            params: As in `load`.
            runs: As in `load`.
            channel: As in `load`.

        Returns:
            Columns `run_id`, every axis of the array but `channel`, and its values as float32: `values`, an array
            of fixed length, where it has channels, else `value`.

        Raises:
            RunNotFound, UnknownArray, QueryError: as `load`.
            RaggedRuns: the runs' axes or numbers of channels differ.

        Example:
            ::

                frame = acts.tokens("resid_post", "energy")
                frame.filter(pl.col("layer") == 9, pl.col("value") > 100).collect()
                acts.sql("SELECT r.seed, avg(t.value) FROM tokens t JOIN runs r USING (run_id) "
                         "WHERE t.step = 0 GROUP BY ALL", tokens=frame)
        """
        from store import tokens

        described = self._described(site, reduction, self._chosen(where, params, runs), named=runs is not None)
        reader = partial(_select, self._layout, site, reduction, {"channel": channel})
        return tokens.scan(f"{site}/{reduction}", described, reader, some_channels=channel is not None)

    def gather(
        self, site: str, reduction: str, at: Mapping[str, Any] | pl.DataFrame, *, channel: Selector = None
    ) -> xr.DataArray:
        """Single tokens from anywhere, at once: of a `fast` array only their own bytes are read.

        Args:
            site: Where in the model.
            reduction: What is kept of it.
            at: A data frame or mapping with the labels of each token: `run_id`, and the array's axes, each a sequence
                or one label for all. An axis of length 1 may be left out.
            channel: As in `load`.

        Returns:
            float32 `[token, channel]` (`[token]` of an array without channels), labels as coordinates along `token`.

        Raises:
            RunNotFound, UnknownArray, UnknownLabel: a run, the array in it, or a label is not there.
            RaggedRuns: the runs have different numbers of channels.
            DamagedArray: a file is missing or damaged.
        """
        from store import gathering

        labels = gathering.columns(at)
        if "run_id" not in labels:
            raise UnknownLabel("tokens are in runs: say which with run_id=")
        name = f"{site}/{reduction}"
        missing = [id for id in dict.fromkeys(labels["run_id"].tolist()) if not self.has_run(id)]
        if missing:
            raise RunNotFound(self._missing("runs", missing[0]))

        def select(run_id: str, selectors: Mapping[str, Selector]) -> Part:
            return _select(self._layout, site, reduction, {**selectors, "channel": channel}, run_id)

        return gathering.gather(name, labels, select)

    def reindex(self) -> None:
        """Throw the cached index away and make it from the manifests."""
        self._index.forget()
        self._index.connect()

    @property
    def _index(self) -> Index:
        """The index over the manifests; made when it is first asked."""
        if self._index_or_none is None:
            from store.index import Index

            self._index_or_none = Index(self._layout)
        return self._index_or_none

    def _missing(self, kind: Kind, id: str) -> str:
        there = self._layout.ids(kind)
        return f"no {kind[:-1]} {id!r} in {self.path}; there are {len(there)}: {_some(there)}"

    def _described(self, site: str, reduction: str, ids: Sequence[str], *, named: bool) -> list[Described]:
        """The array's axes in each run that holds it; raises as `_parts`."""
        from store.tokens import Described

        query = "SELECT run_id, dims, shape FROM arrays WHERE site = ? AND reduction = ?"
        rows = self.sql(query, [site, reduction]).fetchall()
        found = {run_id: Described(run_id, tuple(dims), tuple(shape)) for run_id, dims, shape in rows}
        there = [found[id] for id in ids if id in found]
        if not there or (named and len(there) < len(ids)):
            self._parts(site, reduction, ids, {}, named=named)  # says what is missing
        return there

    def _parts(
        self, site: str, reduction: str, ids: Sequence[str], selectors: Mapping[str, Selector], *, named: bool
    ) -> list[Part]:
        """What is selected of each run that holds the array.

        Raises:
            UnknownArray: none of the runs holds it, or one does not although the caller `named` them.
        """
        from store import loading

        sources = self._layout.each(partial(_source, self._layout), ids)
        entries = self._layout.each(Source.entry, sources)
        holding = [
            source for source, entry in zip(sources, entries, strict=True) if (site, reduction) in _arrays(entry)
        ]
        without = [entry.id for entry in entries if (site, reduction) not in _arrays(entry)]
        if not holding or (named and without):
            there = sorted({"/".join(name) for entry in entries for name in _arrays(entry)})
            raise UnknownArray(f"{site}/{reduction} is not in {_some(without)}; there is {', '.join(there) or 'none'}")
        return self._layout.each(lambda source: loading.select(source, site, reduction, selectors), holding)

    def _labelled(self, array: xr.DataArray, by: Sequence[str]) -> xr.DataArray:
        """The array with columns of its runs as coordinates."""
        from store import run_columns

        columns = run_columns.read(self._index.connect(), by, [str(id) for id in array[dims.RUN].values])
        for name in columns:
            if name in array.coords and array.coords[name].dims != (dims.RUN,):
                raise QueryError(
                    f"{name} of the runs cannot label them here: {array.name} has a coordinate {name} of its own"
                )
        return array.assign_coords({name: (dims.RUN, values) for name, values in columns.items()})

    def _chosen(
        self, where: str | None, params: Params, runs: Sequence[str] | None, by: Sequence[str] = ()
    ) -> Sequence[str]:
        """Ids of the runs that `load` stacks, in order: that of `runs`, else by the columns `by`.

        Raises:
            RunNotFound: an id of `runs` is unknown, or no run is left.
            QueryError: `where` or `by` is wrong.
        """
        from store import query as queries
        from store import run_columns

        condition = "TRUE" if where is None else f"({where}\n)"  # the line's end closes a comment in `where`
        query = (
            f"SELECT run_id FROM runs LEFT JOIN samples USING (sample_id) WHERE {condition} "
            f"ORDER BY {run_columns.order(by)}"
        )
        chosen = list(runs or ())
        if unknown := [id for id in chosen if not self.has_run(id)]:
            raise RunNotFound(self._missing("runs", unknown[0]))
        if runs is None or where is not None:
            found = [str(row[0]) for row in queries.rows(self._index.connect(), query, params)]
            chosen = found if runs is None else [id for id in chosen if id in set(found)]
        if not chosen:
            asked = "an empty list of runs" if where is None and runs is not None else where or "the selection"
            count = len(self._layout.ids("runs"))
            raise RunNotFound(f"no run of {self.path} answers {asked}; there are {count} runs")
        return chosen


def _select(layout: Layout, site: str, reduction: str, selectors: Mapping[str, Selector], run_id: str) -> Part:
    """What is selected of one run, which is there; free of the store, which would keep its connection alive.

    Raises:
        UnknownArray: the run does not hold the array.
    """
    from store import loading

    source = _source(layout, run_id)
    entry = source.entry()
    if (site, reduction) not in _arrays(entry):
        there = ", ".join(sorted("/".join(name) for name in _arrays(entry))) or "none"
        raise UnknownArray(f"{site}/{reduction} is not in {run_id}; there is {there}")
    return loading.select(source, site, reduction, selectors)


def _source(layout: Layout, run_id: str) -> Source:
    """A run's manifest.

    Raises:
        RunNotFound: it was removed meanwhile.
    """
    source = Source.of(layout, run_id)
    if source is None:
        raise RunNotFound(f"there is no run {run_id!r} in {layout.root} any more")
    return source


def _arrays(entry: RunEntry) -> set[tuple[str, str]]:
    """Site and reduction of every array of a run."""
    return {(array.site, array.reduction) for array in entry.arrays}


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "") if ids else "none"
