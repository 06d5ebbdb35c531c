"""Results of analyses: the record in a manifest, the numbers as a Zarr group that xarray wrote."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import crc32c
import numpy as np
import xarray as xr
from zarr.abc.buffer import Buffer
from zarr.buffer import cpu
from zarr.storage import MemoryStore

from store import files, manifest
from store.errors import DamagedArray
from store.layout import Draft, Layout
from store.records import Provenance, ResultRecord, Score


class ResultEntry(NamedTuple):
    """One stored result."""

    record: ResultRecord
    provenance: Provenance
    data: xr.Dataset
    """Its numbers, read when they are used."""


RunScores = Mapping[str, Sequence[Score]]
"""Scores by the id of the run that they are about."""


def save(
    layout: Layout, record: ResultRecord, data: xr.Dataset, provenance: Provenance, scores: RunScores | None = None
) -> str:
    """Store a result unless it is there; its id either way."""
    id = record.id
    if layout.has("results", id):
        return id
    draft = Draft(layout, "results", id)
    try:
        written = _write(draft.path, data)
        row = _row(record, provenance, draft, written) | {"scores": _score_rows(scores or {})}
        draft.publish(manifest.encode("results", row))
    except BaseException:
        draft.discard()
        raise
    return id


def get(layout: Layout, id: str) -> ResultEntry:
    """The result `id`, which is there. From a remote store, all of it is fetched now.

    Raises:
        DamagedArray: a file of it is missing or has another size; from a remote store, or fails its checksum.
    """
    stored = manifest.read_result(layout.manifest("results", id), layout.root)
    if isinstance(stored.path, Path):
        for file, (nbytes, _) in stored.files.items():
            files.check(stored.path / file, nbytes)
        data = xr.open_zarr(stored.path, consolidated=False, chunks=None)
    else:
        data = xr.open_zarr(MemoryStore(_fetch(layout, stored.path, stored.files)), consolidated=False, chunks=None)
    return ResultEntry(stored.record, stored.provenance, data)


def _write(folder: files.Location, data: xr.Dataset) -> manifest.Files:
    """Write `data` as a Zarr group; into a remote store by way of the temporary folder."""
    if isinstance(folder, Path):
        with files.translated(folder):
            _to_zarr(data, folder)
        return files.survey(folder)
    with tempfile.TemporaryDirectory() as local:
        _to_zarr(data, Path(local))
        names = files.tree(Path(local))
        return {name: files.write_new(folder / name, [files.read(Path(local, name))]) for name in names}


def _to_zarr(data: xr.Dataset, folder: Path) -> None:
    _plain_text(data).to_zarr(folder, mode="w", zarr_format=3, consolidated=False)


def _fetch(layout: Layout, folder: files.Location, wanted: manifest.Files) -> dict[str, Buffer]:
    """Every file of a result, checked."""

    def fetch(name: str) -> Buffer:
        data = files.read(folder / name)
        if (len(data), f"{crc32c.crc32c(data):08x}") != tuple(wanted[name]):
            raise DamagedArray(f"{folder / name} is damaged: its size or checksum is wrong; compute the result again")
        return cpu.Buffer.from_bytes(data)

    return dict(zip(wanted, layout.each(fetch, wanted), strict=True))


def _plain_text(data: xr.Dataset) -> xr.Dataset:
    """Text as variable-length strings: fixed-width ones have no Zarr v3 specification."""
    text = {name: values.astype(np.dtypes.StringDType()) for name, values in data.variables.items() if _is_text(values)}
    return data.assign(text).set_coords(list(data.coords))


def _is_text(values: xr.Variable) -> bool:
    return values.dtype.kind == "U"


def _row(record: ResultRecord, provenance: Provenance, draft: Draft, written: manifest.Files) -> dict[str, object]:
    return {
        **{"result_id": record.id, "analysis": record.analysis, "version": record.version, "verdict": record.verdict},
        **{"finding": record.finding, "n": record.n, "run_ids": list(record.run_ids), "path": draft.relative},
        **{"params": manifest.to_json(record.params), "summary": manifest.to_json(record.summary)},
        **{"started": provenance.started, "provenance": provenance.canonical(), "record": record.canonical()},
        "files": manifest.file_rows(written),
        "metadata": [],
    }


def _score_rows(scores: RunScores) -> list[dict[str, object]]:
    return [{"run_id": run_id, **score.model_dump()} for run_id, given in scores.items() for score in given]
