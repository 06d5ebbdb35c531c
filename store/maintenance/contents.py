"""Which files a manifest promises, whatever its kind."""

from __future__ import annotations

from typing import NamedTuple

from store import files, manifest
from store.layout import Kind, Layout
from store.manifest import RunEntry


class Contents(NamedTuple):
    """The files of one run, sample or result."""

    folder: files.Location
    values: manifest.Files
    """Those with values, below the folder: name → (bytes, crc32c)."""
    metadata: manifest.Files | None
    """The others; None in a manifest from before they were listed."""

    @property
    def listed(self) -> manifest.Files:
        """All that have a checksum in the manifest."""
        return {**self.values, **(self.metadata or {})}


def read(layout: Layout, kind: Kind, id: str) -> Contents:
    """What the manifest of `id` promises.

    Raises:
        CorruptManifest: it cannot be read, or is that of another id.
        NewerFormat: a newer stepscope wrote it.
        FileNotFoundError: there is none.
    """
    path = layout.manifest(kind, id)
    if kind == "runs":
        entry = manifest.read_run(path, layout.root)
        found, contents = entry.id, Contents(entry.path, _of_run(entry), entry.metadata)
    elif kind == "samples":
        sample = manifest.read_sample(path, layout.root)
        found, contents = id, Contents(sample.path, sample.files, sample.metadata)
    else:
        result = manifest.read_result(path, layout.root)
        found, contents = result.record.id, Contents(result.path, result.files, result.metadata)
    if found != id:
        raise manifest.corrupt(path, ValueError(f"it is that of {found}"))
    return contents


def _of_run(entry: RunEntry) -> manifest.Files:
    return {
        f"{array.site}/{array.reduction}/{array.reduction}/{file}": about
        for array in entry.arrays
        for file, about in array.shards.items()
    }
