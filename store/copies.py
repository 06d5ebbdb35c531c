"""Local copies of a store's manifests, where DuckDB can read them, and a folder for the index beside them.

A store on a disk is its own copy. That of a remote store is in the user's cache folder: manifests never
change, so each is fetched once. Any number of processes share it, and it may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from store import files
from store.layout import MANIFEST, Kind, Layout


class Copies:
    """Files of this machine that hold a store's manifests.

    Args:
        layout: The store.

    Attributes:
        folder: Where the index belongs.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.folder = layout.root if isinstance(layout.root, Path) else cache_folder(layout.root_url)

    def paths(self, kind: Kind, wanted: Mapping[str, files.Stamp]) -> list[Path]:
        """Where the manifests of `wanted` (id → stamp) can be read; fetches those that are not there.

        Raises:
            MissingFile: one was removed meanwhile.
            StoreUnreachable, AccessDenied: the server does not give them.
        """
        found = [self._path(kind, id, stamp) for id, stamp in wanted.items()]
        if not self._layout.is_local:
            missing = [
                (self._layout.manifest(kind, id), path)
                for (id, stamp), path in zip(wanted.items(), found, strict=True)
                if not path.is_file() or path.stat().st_size != stamp.nbytes
            ]
            self._layout.each(_fetch, missing)
        return found

    def forget(self, paths: Sequence[Path] | None = None) -> None:
        """Remove some copies, or without `paths` all: what is wrong with them is not the store's fault."""
        if not self._layout.is_local:
            if paths is None:
                shutil.rmtree(self.folder / "manifests", ignore_errors=True)
            for path in paths or ():
                path.unlink(missing_ok=True)

    def _path(self, kind: Kind, id: str, stamp: files.Stamp) -> Path:
        own = self._layout.manifest(kind, id)
        if isinstance(own, Path):
            return own
        version = hashlib.sha256(stamp.version.encode()).hexdigest()[:16]
        return self.folder / "manifests" / kind / f"{id}.{version}{MANIFEST}"


def _fetch(pair: tuple[files.Location, Path]) -> None:
    source, path = pair
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{files.token()}{files.TEMPORARY}")
    try:
        temporary.write_bytes(files.read(source))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def cache_folder(url: str) -> Path:
    """The cache folder of the store at `url`; below the temporary folder where there is no home to write to."""
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    for parent in (Path(home), Path(tempfile.gettempdir(), f"stepscope-{os.getuid()}")):
        folder = parent / "stepscope" / name
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.mkdtemp(prefix="stepscope-"))
