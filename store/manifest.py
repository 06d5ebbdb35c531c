"""Manifests: one Parquet file with one row for each run, sample and result.

A manifest makes its thing visible and holds everything that SQL asks about, so that the index can be
made from manifests alone. Lists of structs keep steps, arrays, statistics and scores in the one row.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from store import files
from store.errors import CorruptManifest, InvalidRecord, NewerFormat, StoreError
from store.layout import Kind, Layout
from store.places import Location
from store.records import (
    FORMAT,
    ArrayInfo,
    Provenance,
    ResultRecord,
    Run,
    SampleRecord,
    Score,
    StepInfo,
)
from store.seal import seal
from store.token_stats import TokenStats

KEPT: Final = 4096
"""Runs whose manifests a process remembers, some 50 KB each: who goes through thousands reads each once."""

_text, _int, _real, _flag = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_texts = pa.list_(_text)

_FILES = pa.list_(pa.struct({"file": _text, "nbytes": _int, "crc32c": _text}))
_ARRAY = pa.struct(
    {
        **{"site": _text, "reduction": _text, "dims": _texts, "shape": pa.list_(_int), "dtype": _text},
        **{"encoding": _text},
        **{"nbytes": _int, "stored": _int, "shards": _FILES},
    }
)
_STEP = pa.struct(
    {"step": _int, "timestep": _real, "sigma": _real, "sigma_next": _real, "expert": _text, "guidance": _real}
)
_SCORE = pa.struct({"scorer": _text, "metric": _text, "value": _real, "step": _int})
_RUN_SCORE = pa.struct({"run_id": _text, "scorer": _text, "metric": _text, "value": _real, "step": _int})
_TOKEN_STATS = pa.struct(
    {
        **{"site": _text, "branch": _text, "step": _int, "layer": _int, "frame": _int},
        **{"mean": _real, "std": _real, "max": _real, "p99": _real},
    }
)
_COMMON = {"format": pa.int32(), "path": _text, "record": _text, "metadata": _FILES}

SCHEMAS: dict[Kind, pa.Schema] = {
    "runs": pa.schema(
        {
            **{"run_id": _text, "sample_id": _text, "model": _text, "revision": _text, "weight_hash": _text},
            **{"pipeline": _text, "dtype": _text, "seed": _int, "steps": _int, "guidance": _real, "height": _int},
            **{"width": _int, "frames": _int, "scheduler": _text, "interventions": _text, "capture": _text},
            **{"parent_id": _text, "started": _text, "seconds": _real, "git_commit": _text, "git_dirty": _flag},
            **{"device": _text, "host": _text, "nbytes": _int, "stored": _int, "provenance": _text},
            **{
                "arrays": pa.list_(_ARRAY),
                "trajectory": pa.list_(_STEP),
                "token_stats": pa.list_(_TOKEN_STATS),
                "scores": pa.list_(_SCORE),
            },
            **_COMMON,
        }
    ),
    "samples": pa.schema(
        {
            **{"sample_id": _text, "family": _text, "difficulty": _text, "split": _text, "prompt": _text},
            **{"negative_prompt": _text, "answers": _int, "labels": _text, "has_video": _flag, "files": _FILES},
            **_COMMON,
        }
    ),
    "results": pa.schema(
        {
            **{"result_id": _text, "analysis": _text, "version": _int, "verdict": _text, "finding": _text, "n": _int},
            **{"run_ids": _texts, "params": _text, "summary": _text, "started": _text, "provenance": _text},
            **{"files": _FILES, "scores": pa.list_(_RUN_SCORE)},
            **_COMMON,
        }
    ),
}
"""Columns of the manifests of each kind."""


Files = dict[str, tuple[int, str]]
"""Files below a folder: relative path → (bytes, crc32c)."""


class RunEntry(NamedTuple):
    """Everything that the store knows of one run, its arrays' values excepted."""

    id: str
    """That of `run`, kept: to make it again takes a hash of all that decides the numbers."""
    run: Run
    provenance: Provenance
    steps: tuple[StepInfo, ...]
    arrays: tuple[ArrayInfo, ...]
    scores: tuple[Score, ...]
    seconds: float
    """How long the generation took."""
    nbytes: int
    """Bytes of all arrays' values, uncompressed."""
    stored: int
    """Bytes of them on disk."""
    path: Location
    """The run's Zarr group."""
    metadata: Files | None
    """Files of the group that hold no values; None in a manifest from before they were listed."""


class Source(NamedTuple):
    """A run's manifest as it is now: what was read of it and of its arrays is kept, as neither ever changes."""

    manifest: Location
    root: Location
    """The store that it belongs to."""
    stamp: files.Stamp

    @classmethod
    def of(cls, layout: Layout, run_id: str) -> Source | None:
        """That of a complete run; None if there is no such run."""
        stamp = layout.stamp("runs", run_id)
        return None if stamp is None else cls(layout.manifest("runs", run_id), layout.root, stamp)

    def entry(self) -> RunEntry:
        """What the manifest says; raises as `read_run`."""
        return _entry(self)


class SampleEntry(NamedTuple):
    """What the manifest of a sample says."""

    record: SampleRecord
    files: Files
    path: Location
    metadata: Files | None
    """As in `RunEntry`."""


class StoredResult(NamedTuple):
    """What the manifest of a result says."""

    record: ResultRecord
    provenance: Provenance
    files: Files
    path: Location
    metadata: Files | None
    """None in a manifest from before there was such a column, else empty: `files` are all."""


def encode(kind: Kind, columns: Mapping[str, Any]) -> bytes:
    """One row of `columns`, completed by the format's number, as Parquet.

    Raises:
        InvalidRecord: a value does not fit its column, e.g. a seed beyond 64 bits.
    """
    schema = SCHEMAS[kind]
    row = {**columns, "format": FORMAT}
    arrays = [_column(field, row[field.name]) for field in schema]
    return _to_parquet(pa.Table.from_arrays(arrays, schema=schema))


def _to_parquet(table: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return seal(sink.getvalue().to_pybytes())


def _column(field: Any, value: Any) -> Any:
    if isinstance(value, pa.Array):
        return value
    try:
        return pa.array([value], field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise InvalidRecord(f"{field.name} = {value!r} does not fit the manifest: {error}") from error


def run_columns(run: Run, provenance: Provenance) -> dict[str, Any]:
    """The columns of a run's manifest that are known before it is made.

    Raises:
        InvalidRecord: a value does not fit its column: better now than after hours of sampling.
    """
    dumped = run.model_dump(mode="json")
    columns = {
        **{"run_id": run.id, "sample_id": run.sample_id, "model": run.model.id, "revision": run.model.revision},
        **{"weight_hash": run.model.weight_hash, "pipeline": run.model.pipeline, "dtype": run.model.dtype},
        **{"seed": run.seed, "steps": run.settings.steps, "guidance": run.settings.guidance},
        **{"height": run.settings.height, "width": run.settings.width, "frames": run.settings.frames},
        **{"scheduler": run.settings.scheduler, "parent_id": run.parent_id, "record": run.canonical()},
        **{"interventions": to_json(dumped["interventions"]), "capture": to_json(dumped["capture"])},
        **{"started": provenance.started, "git_commit": provenance.git_commit, "git_dirty": provenance.git_dirty},
        **{"device": provenance.device, "host": provenance.host, "provenance": provenance.canonical()},
    }
    for name, value in columns.items():
        _column(SCHEMAS["runs"].field(name), value)
    return columns


def array_columns(arrays: Sequence[ArrayInfo]) -> dict[str, Any]:
    """The columns `arrays`, `nbytes` and `stored` of a run's manifest."""
    return {
        "arrays": [{**array.model_dump(), "shards": file_rows(array.shards)} for array in arrays],
        "nbytes": sum(array.nbytes for array in arrays),
        "stored": sum(array.stored for array in arrays),
    }


def value_files(arrays: Sequence[ArrayInfo]) -> dict[str, int]:
    """Every file of a run that holds values, below the run's folder → bytes."""
    return {
        f"{array.site}/{array.reduction}/{array.reduction}/{file}": nbytes
        for array in arrays
        for file, (nbytes, _) in array.shards.items()
    }


def file_rows(files: Files) -> list[dict[str, Any]]:
    """`files` as rows of a column."""
    return [{"file": file, "nbytes": nbytes, "crc32c": crc} for file, (nbytes, crc) in sorted(files.items())]


def stats_column(blocks: Sequence[TokenStats]) -> Any:
    """The column `token_stats`, an Arrow array: all blocks' rows in one list, without a Python object for each."""
    rows = [len(block.mean) for block in blocks]
    columns: list[pa.Array] = []
    for field in _TOKEN_STATS:
        values = [getattr(block, field.name) for block in blocks]
        parts = [
            pa.array(value, field.type) if isinstance(value, np.ndarray) else pa.array([value] * count, field.type)
            for value, count in zip(values, rows, strict=True)
        ]
        columns.append(pa.concat_arrays(parts) if parts else pa.array([], field.type))
    table = pa.StructArray.from_arrays(columns, fields=list(_TOKEN_STATS))
    return pa.ListArray.from_arrays(pa.array([0, len(table)], pa.int32()), table)


def to_json(value: Any) -> str:
    """Canonical JSON text, as `Record.canonical` writes it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def read_run(path: Location, root: Location) -> RunEntry:
    """The run whose manifest is `path`, in the store at `root`.

    Raises:
        CorruptManifest, NewerFormat: see `_read`.
    """
    row = _read(path, "runs")
    with _validated(path):
        run = Run.model_validate_json(row["record"])
        return RunEntry(
            id=run.id,
            run=run,
            provenance=Provenance.model_validate_json(row["provenance"]),
            steps=tuple(StepInfo.model_validate(step) for step in row["trajectory"]),
            arrays=tuple(
                ArrayInfo.model_validate({**array, "shards": _files(array["shards"])}) for array in row["arrays"]
            ),
            scores=tuple(Score.model_validate(score) for score in row["scores"]),
            seconds=row["seconds"],
            nbytes=row["nbytes"],
            stored=row["stored"],
            path=_inside(root, row["path"], "runs"),
            metadata=_others(row),
        )


@lru_cache(maxsize=KEPT)
def _entry(source: Source) -> RunEntry:
    return read_run(source.manifest, source.root)


def read_sample(path: Location, root: Location) -> SampleEntry:
    """The sample whose manifest is `path`; raises as `read_run`."""
    row = _read(path, "samples")
    with _validated(path):
        return SampleEntry(
            record=SampleRecord.model_validate_json(row["record"]),
            files=_files(row["files"]),
            path=_inside(root, row["path"], "samples"),
            metadata=_others(row),
        )


def read_result(path: Location, root: Location) -> StoredResult:
    """The result whose manifest is `path`; raises as `read_run`."""
    row = _read(path, "results")
    with _validated(path):
        return StoredResult(
            record=ResultRecord.model_validate_json(row["record"]),
            provenance=Provenance.model_validate_json(row["provenance"]),
            files=_files(row["files"]),
            path=_inside(root, row["path"], "results"),
            metadata=_others(row),
        )


def moved(data: bytes, relative: str) -> bytes:
    """The manifest `data` for a thing whose folder is now `relative`; all else as it was, unknown columns too."""
    table = pq.read_table(pa.BufferReader(data))
    place = table.schema.get_field_index("path")
    table = table.set_column(place, table.schema.field(place), pa.array([relative], table.schema.field(place).type))
    return _to_parquet(table)


def check(path: Location, kind: Kind) -> None:
    """Raise CorruptManifest or NewerFormat unless the manifest can be read; see `read_run`."""
    _read(path, kind, SCHEMAS[kind].names)


def _read(path: Location, kind: Kind, columns: Sequence[str] | None = None) -> dict[str, Any]:
    """The one row of a manifest; without `columns`, all but the bulky statistics.

    Raises:
        CorruptManifest: it is not Parquet, cut short, or lacks columns.
        NewerFormat: a newer stepscope wrote it.
    """
    names = [name for name in SCHEMAS[kind].names if name != "token_stats"] if columns is None else list(columns)
    try:
        with pq.ParquetFile(path if isinstance(path, Path) else pa.BufferReader(files.read(path))) as file:
            # One thread: a row is read sooner than others would wake.
            row = file.read(columns=sorted({"format", *names}), use_threads=False).to_pylist()[0]
            if (number := row["format"]) > FORMAT:
                raise NewerFormat(f"{path} has format {number}, this stepscope reads up to {FORMAT}; upgrade stepscope")
            return row
    except (FileNotFoundError, StoreError):
        raise
    except (pa.ArrowException, OSError, KeyError, IndexError, TypeError) as error:
        raise corrupt(path, error) from error


@contextlib.contextmanager
def _validated(path: Location) -> Generator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise corrupt(path, error) from error


def _inside(root: Location, relative: str, kind: Kind) -> Location:
    """The folder that a manifest names; a store from elsewhere must not lead out of itself."""
    parts = PurePosixPath(relative).parts
    if len(parts) != 2 or parts[0] != kind or parts[1] == "..":
        raise ValueError(f"its path is {relative!r}, which is no folder of {kind}")
    return root.joinpath(*parts)


def corrupt(path: Location, error: Exception) -> CorruptManifest:
    """The error about a manifest that `error` shows to be none."""
    reason = str(error).strip().splitlines()[0]
    return CorruptManifest(f"the manifest {path} cannot be read ({reason}); restore it from a copy, or delete it")


def _others(row: Mapping[str, Any]) -> Files | None:
    rows = row.get("metadata")
    return None if rows is None else _files(rows)


def _files(rows: Sequence[Mapping[str, Any]]) -> Files:
    return {row["file"]: (row["nbytes"], row["crc32c"]) for row in rows}
