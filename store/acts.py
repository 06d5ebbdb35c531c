"""The activation store: one folder of runs, samples and results, written once and read by anyone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from store import files, manifest, samples
from store.errors import (
    ReadOnlyStore,
    ResultNotFound,
    RunNotFound,
    SampleNotFound,
    StoreError,
    UnknownArray,
)
from store.layout import Kind, Layout, prepare
from store.manifest import RunEntry
from store.records import Provenance, ResultRecord, Run, Sample
from store.run_writer import RunWriter

if TYPE_CHECKING:  # readers' libraries: a node that only writes need not have them
    import duckdb
    import xarray as xr

    from store.index import Index
    from store.query import Params
    from store.results import ResultEntry
    from store.selection import Selector

Mode = Literal["r", "a"]
"""`r` reads an existing store, `a` also writes and makes the store where there is none."""


class ArraySize(NamedTuple):
    """What one site and reduction takes in all runs together."""

    site: str
    reduction: str
    runs: int
    dtype: str
    """Of its values; where runs differ, that of one of them."""
    nbytes: int
    """Bytes of the values, uncompressed."""
    stored: int
    """Bytes on disk."""
    files: int


class StoreInfo(NamedTuple):
    """How much a store holds."""

    runs: int
    samples: int
    results: int
    nbytes: int
    """Bytes of all runs' values, uncompressed."""
    stored: int
    """Bytes of them on disk."""
    arrays: tuple[ArraySize, ...]
    """By site and reduction, largest on disk first."""
    incomplete: tuple[str, ...]
    """Folders of runs that were never committed."""


def open(path: str | os.PathLike[str], mode: Mode = "r") -> ActivationStore:
    """Open the store in the folder `path`.

    Args:
        path: The folder.
        mode: See `Mode`.

    Raises:
        StoreNotFound: nothing is there, and mode is `r`.
        NotAStore: it is a file, or a folder that holds something else.
        NewerFormat: a newer stepscope made it.
        ReadOnlyStore, StoreFull: mode is `a`, and the folder cannot be written.

    Example:
        >>> import tempfile, store
        >>> store.open(tempfile.mkdtemp(), mode="a").run_ids()
        []
    """
    if mode not in ("r", "a"):
        raise ValueError(f"mode is 'r' to read or 'a' to write as well, not {mode!r}")
    root = Path(path)
    layout = prepare(root, create=mode == "a")
    if mode == "a" and not files.writable(root):
        raise ReadOnlyStore(f"{root} cannot be written; open it with mode='r', or choose another folder")
    return ActivationStore(layout, writable=mode == "a")


class ActivationStore:
    """Runs, samples and results in one folder; made by `store.open`.

    Any number of processes may read and write at the same time. What is listed is complete.

    Args:
        layout: The folder's paths.
        writable: Whether it was opened with mode `a`.
    """

    def __init__(self, layout: Layout, *, writable: bool) -> None:
        self.path = layout.root
        self._layout = layout
        self._writable = writable
        self._index_or_none: Index | None = None

    # ---- writing

    def has_run(self, run_id: str) -> bool:
        """Whether the run is complete."""
        return self._layout.has("runs", run_id)

    def begin_run(self, run: Run, provenance: Provenance) -> RunWriter:
        """Start to write `run`; it stays invisible until `RunWriter.commit`.

        Raises:
            RunExists: it is complete already.
            ReadOnlyStore, StoreFull: the store cannot be written.
        """
        self._check_writable()
        return RunWriter(self._layout, run, provenance)

    def has_sample(self, sample_id: str) -> bool:
        """Whether the sample is stored."""
        return self._layout.has("samples", sample_id)

    def put_sample(self, sample: Sample) -> str:
        """Store `sample`, if it is not there yet; its id either way."""
        self._check_writable()
        return samples.put(self._layout, sample)

    def has_result(self, result_id: str) -> bool:
        """Whether the result is stored; see `ResultRecord.make_id`."""
        return self._layout.has("results", result_id)

    def save_result(self, record: ResultRecord, data: xr.Dataset, provenance: Provenance) -> str:
        """Store what an analysis found, if it is not there yet; its id either way.

        Args:
            record: What was found.
            data: The numbers behind it; attributes must be JSON.
            provenance: Where and when it was computed.
        """
        from store import results

        self._check_writable()
        return results.save(self._layout, record, data, provenance)

    # ---- reading

    def run_ids(self) -> list[str]:
        """Ids of all complete runs, sorted."""
        return self._layout.ids("runs")

    def run(self, run_id: str) -> RunEntry:
        """Everything about one run but its arrays' values.

        Raises:
            RunNotFound: no complete run has this id.
            CorruptManifest, NewerFormat: its manifest cannot be read.
        """
        if not self.has_run(run_id):
            raise RunNotFound(self._missing("runs", run_id))
        return manifest.read_run(self._layout.manifest("runs", run_id), self.path)

    def sample_ids(self) -> list[str]:
        """Ids of all samples, sorted."""
        return self._layout.ids("samples")

    def sample(self, sample_id: str) -> Sample:
        """One sample with its pictures.

        Raises:
            SampleNotFound: no sample has this id.
            DamagedArray: its files are not what was written.
        """
        if not self.has_sample(sample_id):
            raise SampleNotFound(self._missing("samples", sample_id))
        return samples.get(self._layout, sample_id)

    def result_ids(self, analysis: str | None = None) -> list[str]:
        """Ids of all results, or of one analysis's, sorted."""
        if analysis is None:
            return self._layout.ids("results")
        rows = self.sql("SELECT result_id FROM results WHERE analysis = ? ORDER BY result_id", [analysis]).fetchall()
        return [row[0] for row in rows]

    def result(self, result_id: str) -> ResultEntry:
        """One stored result, its numbers lazily.

        Raises:
            ResultNotFound: no result has this id.
            DamagedArray: its files are not what was written.
        """
        from store import results

        if not self.has_result(result_id):
            raise ResultNotFound(self._missing("results", result_id))
        return results.get(self._layout, result_id)

    def sql(self, query: str, params: Params = None) -> duckdb.DuckDBPyRelation:
        """Ask the views `runs`, `samples`, `steps`, `arrays`, `token_stats`, `scores`, `results` (docs/sql.md).

        Args:
            query: One SELECT.
            params: Values for its `?` (a sequence) or `$name` (a mapping).

        Returns:
            A relation of what was committed by now: `.df()`, `.pl()`, `.fetchall()`, `.filter(…)`.

        Raises:
            QueryError: the query is wrong, or does more than select.
            CorruptManifest, NewerFormat: a manifest cannot be read.
        """
        from store import query as queries

        return queries.run(self._index.connect(), query, params)

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

        Returns:
            A dask-backed array `[run, step, branch, layer, frame, y, x, channel]`, as far as the array has
            these, one dask chunk a (run, step, branch, layer). Coordinates: `run`, `sample_id`, `seed`,
            every axis's labels, and along `step` also `timestep`, `sigma` and `expert` (along `run` and
            `step` where runs differ). bfloat16 comes as float32.

        Raises:
            RunNotFound: an id is unknown, or no run answers `where`.
            UnknownArray: no run (or one of `runs`) holds the array.
            UnknownLabel: a run does not have a label or axis that was asked.
            RaggedRuns: the runs' labels or shapes differ.
            DamagedArray: a file is missing or has another size than the manifest says.
            QueryError: `where` is wrong.
        """
        from store import loading
        from store.selection import is_label

        selectors = {"step": step, "branch": branch, "layer": layer, "frame": frame}
        entries = [self.run(id) for id in self._chosen(where, params, runs)]
        holding = [entry for entry in entries if (site, reduction) in _arrays(entry)]
        without = [entry.run.id for entry in entries if (site, reduction) not in _arrays(entry)]
        if not holding or (runs is not None and without):
            there = sorted({"/".join(name) for entry in entries for name in _arrays(entry)})
            raise UnknownArray(f"{site}/{reduction} is not in {_some(without)}; there is {', '.join(there) or 'none'}")
        parts = [loading.select(entry, site, reduction, selectors) for entry in holding]
        scalars = [axis for axis, selector in selectors.items() if is_label(selector)]
        return loading.stack(parts, site=site, reduction=reduction, scalars=scalars)

    def incomplete(self) -> list[str]:
        """Folders below `runs` that no manifest names: crashed writers' leftovers, or runs being written."""
        folder = self._layout.folder("runs")
        # Listed first: a run that is committed meanwhile is then known as complete.
        there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        complete = {row[0] for row in self.sql("SELECT path FROM runs").fetchall()}
        return [name for name in there if f"runs/{name}" not in complete]

    def info(self) -> StoreInfo:
        """How much is stored, by site and reduction."""
        query = """SELECT site, reduction, count(*), any_value(dtype),
            sum(nbytes)::BIGINT, sum(stored)::BIGINT, sum(files)::BIGINT
            FROM arrays GROUP BY site, reduction ORDER BY sum(stored) DESC, site, reduction"""
        arrays = tuple(ArraySize(*row) for row in self.sql(query).fetchall())
        return StoreInfo(
            runs=len(self.run_ids()),
            samples=len(self.sample_ids()),
            results=len(self.result_ids()),
            nbytes=sum(array.nbytes for array in arrays),
            stored=sum(array.stored for array in arrays),
            arrays=arrays,
            incomplete=tuple(self.incomplete()),
        )

    def reindex(self) -> None:
        """Throw the cached index away and make it from the manifests."""
        self._index.forget()
        self._index.connect()

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self._layout.ids(kind))} {kind}" for kind in ("runs", "samples", "results"))
        try:
            size = f", {self.info().stored / 1e6:.1f} MB"
        except (StoreError, ImportError) as error:  # a damaged store, or a node without DuckDB, still says what it is
            size = f"; {error}"
        return f"ActivationStore({str(self.path)!r}: {counts}{size})"

    @property
    def _index(self) -> Index:
        """The index over the manifests; made when it is first asked."""
        if self._index_or_none is None:
            from store.index import Index

            self._index_or_none = Index(self._layout)
        return self._index_or_none

    def _check_writable(self) -> None:
        if not self._writable:
            raise ReadOnlyStore(f"{self.path} was opened for reading; open it with mode='a' to write")

    def _missing(self, kind: Kind, id: str) -> str:
        there = self._layout.ids(kind)
        return f"no {kind[:-1]} {id!r} in {self.path}; there are {len(there)}: {_some(there)}"

    def _chosen(self, where: str | None, params: Params, runs: Sequence[str] | None) -> Sequence[str]:
        """Ids of the runs that `load` stacks, in order.

        Raises:
            RunNotFound: an id of `runs` is unknown, or no run is left.
            QueryError: `where` is wrong.
        """
        from store import query as queries

        condition = "TRUE" if where is None else f"({where}\n)"  # the line's end closes a comment in `where`
        query = (
            f"SELECT run_id FROM runs LEFT JOIN samples USING (sample_id) WHERE {condition} "
            "ORDER BY sample_id, seed, run_id"
        )
        chosen = list(runs or ())
        if unknown := [id for id in chosen if not self.has_run(id)]:
            raise RunNotFound(self._missing("runs", unknown[0]))
        if runs is None or where is not None:
            found = [str(row[0]) for row in queries.rows(self._index.connect(), query, params)]
            chosen = found if runs is None else [id for id in chosen if id in set(found)]
        if not chosen:
            asked = "an empty list of runs" if where is None and runs is not None else where or "the selection"
            raise RunNotFound(f"no run of {self.path} answers {asked}; there are {len(self.run_ids())} runs")
        return chosen


def _arrays(entry: RunEntry) -> set[tuple[str, str]]:
    """Site and reduction of every array of a run."""
    return {(array.site, array.reduction) for array in entry.arrays}


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "") if ids else "none"
