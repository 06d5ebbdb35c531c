"""Results of analyses: the record in a manifest, the numbers as a Zarr group that xarray wrote."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from store import files, manifest
from store.layout import Draft, Layout
from store.records import Provenance, ResultRecord


class ResultEntry(NamedTuple):
    """One stored result."""

    record: ResultRecord
    provenance: Provenance
    data: xr.Dataset
    """Its numbers, read when they are used."""


def save(layout: Layout, record: ResultRecord, data: xr.Dataset, provenance: Provenance) -> str:
    """Store a result unless it is there; its id either way."""
    id = record.id
    if layout.has("results", id):
        return id
    draft = Draft(layout, "results", id)
    try:
        with files.translated(draft.path):
            _plain_text(data).to_zarr(draft.path, mode="w", zarr_format=3, consolidated=False)
        draft.publish(manifest.encode("results", _row(record, provenance, draft, files.survey(draft.path))))
    except BaseException:
        draft.discard()
        raise
    return id


def get(layout: Layout, id: str) -> ResultEntry:
    """The result `id`, which is there.

    Raises:
        DamagedArray: a file of it is missing or has another size.
    """
    stored = manifest.read_result(layout.manifest("results", id), layout.root)
    for file, (nbytes, _) in stored.files.items():
        files.check(stored.path / file, nbytes)
    data = xr.open_zarr(stored.path, consolidated=False, chunks=None)
    return ResultEntry(stored.record, stored.provenance, data)


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
    }
