"""The activation store: one folder of runs, samples and results, written once and read by anyone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, NamedTuple

from store import files, manifest, samples
from store.asking import Asking
from store.errors import (
    ReadOnlyStore,
    ResultNotFound,
    RunNotFound,
    SampleNotFound,
    StoreError,
)
from store.layout import Layout, prepare
from store.manifest import RunEntry
from store.places import Location, locate
from store.records import Provenance, ResultRecord, Run, Sample
from store.run_writer import RunWriter

if TYPE_CHECKING:  # readers' libraries: a node that only writes need not have them
    import xarray as xr

    from store.query import Params
    from store.results import ResultEntry, RunScores

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


def open(path: str | os.PathLike[str] | Location, mode: Mode = "r") -> ActivationStore:
    """Open the store in the folder `path`.

    Args:
        path: A folder, or `s3://bucket/prefix` (docs/s3.md says where credentials come from).
        mode: See `Mode`.

    Raises:
        StoreNotFound: nothing is there, and mode is `r`.
        NotAStore: it is a file, or a folder that holds something else.
        NewerFormat: a newer stepscope made it.
        ReadOnlyStore, StoreFull: mode is `a`, and the folder cannot be written.
        AccessDenied, StoreUnreachable: the server refuses, or does not answer.

    Example:
        >>> import tempfile, store
        >>> store.open(tempfile.mkdtemp(), mode="a").run_ids()
        []
    """
    if mode not in ("r", "a"):
        raise ValueError(f"mode is 'r' to read or 'a' to write as well, not {mode!r}")
    root = locate(path)
    layout = prepare(root, create=mode == "a")
    if mode == "a" and not files.writable(root):
        raise ReadOnlyStore(f"{root} cannot be written; open it with mode='r', or choose another folder")
    return ActivationStore(layout, writable=mode == "a")


def free(path: str | os.PathLike[str] | Location) -> int | None:
    """Bytes that can still be written where a store is, or would be made; None where nobody knows, as on S3.

    Args:
        path: As `open` takes it; nothing need be there.
    """
    return files.free(locate(path))


class ActivationStore(Asking):
    """Runs, samples and results in one folder; made by `store.open`.

    Any number of processes may read and write at the same time. What is listed is complete.

    Args:
        layout: The folder's paths.
        writable: Whether it was opened with mode `a`.
    """

    def __init__(self, layout: Layout, *, writable: bool) -> None:
        super().__init__(layout)
        self._writable = writable

    @property
    def layout(self) -> Layout:
        """What is where, for `store.maintenance`."""
        return self._layout

    @property
    def writable(self) -> bool:
        """Whether it was opened with mode `a`."""
        return self._writable

    @property
    def free(self) -> int | None:
        """Bytes that can still be written; None where nobody knows, as on S3."""
        return files.free(self.path)

    # ---- writing

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

    def save_result(
        self, record: ResultRecord, data: xr.Dataset, provenance: Provenance, *, scores: RunScores | None = None
    ) -> str:
        """Store what an analysis found, if it is not there yet; its id either way.

        Args:
            record: What was found.
            data: The numbers behind it; attributes must be JSON.
            provenance: Where and when it was computed.
            scores: What a scorer said later of runs that are stored: rows of the view `scores`, beside those that the
                runs were committed with.
        """
        from store import results

        self._check_writable()
        return results.save(self._layout, record, data, provenance, scores)

    # ---- reading

    def run_ids(self, where: str | None = None, params: Params = None) -> list[str]:
        """Ids of all complete runs, sorted.

        Args:
            where: Only those that answer this SQL condition on the columns of `runs` and `samples`.
            params: Values for its `?` or `$name`.

        Raises:
            QueryError: `where` is wrong.
        """
        if where is None:
            return self._layout.ids("runs")
        from store import query as queries

        query = f"SELECT run_id FROM runs LEFT JOIN samples USING (sample_id) WHERE ({where}\n) ORDER BY run_id"
        return [str(row[0]) for row in queries.rows(self._index.connect(), query, params)]

    def run(self, run_id: str) -> RunEntry:
        """Everything about one run but its arrays' values.

        Raises:
            RunNotFound: no complete run has this id.
            CorruptManifest, NewerFormat: its manifest cannot be read.
        """
        source = manifest.Source.of(self._layout, run_id)
        if source is None:
            raise RunNotFound(self._missing("runs", run_id))
        return source.entry()

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

    def results(self, where: str | None = None, params: Params = None) -> dict[str, ResultEntry]:
        """Stored results by id, those that were begun first in front; their numbers lazily.

        Args:
            where: SQL condition on the columns of the view `results`, e.g. `"analysis = 'energy'"`.
            params: Values for its `?` or `$name`.

        Raises:
            QueryError: `where` is wrong.
            DamagedArray: a file of one is not what was written.
        """
        from store import query as queries

        condition = "TRUE" if where is None else f"({where}\n)"
        query = f"SELECT result_id FROM results WHERE {condition} ORDER BY started, result_id"
        ids = [str(row[0]) for row in queries.rows(self._index.connect(), query, params)]
        return dict(zip(ids, self._layout.each(self.result, ids), strict=True))

    def incomplete(self) -> list[str]:
        """Folders below `runs` that no manifest names: crashed writers' leftovers, or runs being written."""
        folder = self._layout.folder("runs")
        # Listed first: a run that is committed meanwhile is then known as complete.
        there = files.names(folder)
        complete = {row[0] for row in self.sql("SELECT path FROM runs").fetchall()}
        left = [name for name in there if f"runs/{name}" not in complete]
        return [name for name in left if files.kind(folder / name) == "folder"]  # some servers list what was emptied

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

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self._layout.ids(kind))} {kind}" for kind in ("runs", "samples", "results"))
        try:
            size = f", {self.info().stored / 1e6:.1f} MB"
        except (StoreError, ImportError) as error:  # a damaged store, or a node without DuckDB, still says what it is
            size = f"; {error}"
        return f"ActivationStore({str(self.path)!r}: {counts}{size})"

    def _check_writable(self) -> None:
        if not self._writable:
            raise ReadOnlyStore(f"{self.path} was opened for reading; open it with mode='a' to write")
