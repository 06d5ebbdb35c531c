"""Samples: a question's record in its manifest, its pictures and truth as a Zarr group."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from store import dims, files, manifest, shard
from store.errors import DamagedArray
from store.layout import Draft, Layout
from store.places import Location
from store.records import FORMAT, Sample
from store.zarr_meta import ArrayMeta, group_json

_DIMS: Final[dict[str, tuple[str, ...]]] = {
    "first_frame": (dims.Y, dims.X, dims.CHANNEL),
    "video": (dims.FRAME, dims.Y, dims.X, dims.CHANNEL),
    "videos": ("answer", dims.FRAME, dims.Y, dims.X, dims.CHANNEL),
    "regions": ("answer", dims.FRAME, dims.Y, dims.X),
    "tracks": ("object", dims.FRAME, "coordinate"),
    "segmentation": (dims.FRAME, dims.Y, dims.X),
}


def put(layout: Layout, sample: Sample) -> str:
    """Store `sample` unless it is there; its id either way."""
    id = sample.id
    if layout.has("samples", id):
        return id
    draft = Draft(layout, "samples", id)
    try:
        written = {}
        for name, array in sample.arrays().items():
            written |= _write(draft.path / name, name, array)
        record = sample.record.model_dump(mode="json")
        files.write_new(draft.path / "zarr.json", [group_json({"format": FORMAT, "sample_id": id, "sample": record})])
        draft.publish(manifest.encode("samples", _row(sample, id, draft, written)))  # who was first wrote the same
    except BaseException:
        draft.discard()
        raise
    return id


def get(layout: Layout, id: str) -> Sample:
    """The sample `id`, which is there.

    Raises:
        DamagedArray: a file of it is missing, has another size, or fails its checksum.
    """
    entry = manifest.read_sample(layout.manifest("samples", id), layout.root)
    names = {file.split("/")[0] for file in entry.files}
    arrays: dict[str, NDArray[Any]] = {name: _read(entry.path, name, entry.files) for name in names}
    return Sample(entry.record, **arrays)


def _write(folder: Location, name: str, array: NDArray[Any]) -> manifest.Files:
    names = _DIMS[name]
    split = names[0] if name != "first_frame" else ""
    meta = ArrayMeta.sharded(
        names, array.shape, str(array.dtype), files_along=(), split=split, codec="zstd", attributes={}
    )
    values = np.ascontiguousarray(array, meta.numpy)
    files.make_folder(folder)
    files.write_new(folder / "zarr.json", [meta.to_json()])
    file = meta.file([0] * array.ndim)
    return {f"{name}/{file}": files.write_new(folder / file, shard.encode(values, meta))}


def _read(folder: Location, name: str, sizes: manifest.Files) -> NDArray[Any]:
    meta = ArrayMeta.read(folder / name)
    file = f"{name}/{meta.file([0] * len(meta.shape))}"
    nbytes, checksum = sizes[file]
    if files.checksum(folder / file) != checksum:
        raise DamagedArray(f"{folder / file} is damaged: its checksum is wrong; put the sample again")
    return shard.read(folder / file, meta, nbytes)


def _row(sample: Sample, id: str, draft: Draft, written: manifest.Files) -> dict[str, Any]:
    record = sample.record
    return {
        **{"sample_id": id, "family": record.family, "difficulty": record.difficulty, "split": record.split},
        **{"prompt": record.prompt, "negative_prompt": record.negative_prompt, "answers": record.answers},
        **{"labels": manifest.to_json(record.labels), "has_video": sample.video is not None},
        **{"files": manifest.file_rows(written), "path": draft.relative, "record": record.canonical()},
        "metadata": manifest.file_rows(draft.others({file: nbytes for file, (nbytes, _) in written.items()})),
    }
