"""Where things are in a store's folder, and the file that makes a folder a store."""

from __future__ import annotations

import json
import os
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

from store import files
from store.errors import NewerFormat, NotAStore, StoreNotFound
from store.records import FORMAT

Kind = Literal["runs", "samples", "results"]
KINDS: Final[tuple[Kind, ...]] = ("runs", "samples", "results")
MARKER: Final = "stepscope.json"
MANIFEST: Final = ".parquet"

_ID = re.compile(r"[0-9a-f]{16}")


class Layout:
    """Paths below one store's folder.

    Args:
        root: The store's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.index = root / "index.duckdb"

    def folder(self, kind: Kind) -> Path:
        """Folder of the Zarr groups of one kind."""
        return self.root / kind

    def manifests(self, kind: Kind) -> Path:
        """Folder of the manifests of one kind."""
        return self.root / "manifests" / kind

    def manifest(self, kind: Kind, id: str) -> Path:
        """Manifest of one thing; what has none does not exist."""
        return self.manifests(kind) / f"{id}{MANIFEST}"

    def has(self, kind: Kind, id: str) -> bool:
        """Whether the manifest exists: one look at one file."""
        return _ID.fullmatch(id) is not None and self.manifest(kind, id).is_file()

    def listing(self, kind: Kind) -> dict[str, files.Stamp]:
        """Every complete thing of one kind: id → stamp of its manifest."""
        return files.listing(self.manifests(kind), MANIFEST)

    def ids(self, kind: Kind) -> list[str]:
        """Ids of every complete thing of one kind, sorted."""
        return sorted(self.listing(kind))


class Draft:
    """A folder that one writer owns until its manifest is published.

    The folder is `<kind>/<id>` where that is free, else `<kind>/<id>.<token>`: a crashed writer's
    leftovers never stand in the way, and two writers never share one.

    Args:
        layout: Where.
        kind: What is written.
        id: Its id.
    """

    def __init__(self, layout: Layout, kind: Kind, id: str) -> None:
        self.layout, self.id = layout, id
        self.kind: Kind = kind
        self._manifest: bytes | None = None
        self.path = layout.folder(kind) / id
        while not files.make_folder(self.path):
            self.path = layout.folder(kind) / f"{id}.{files.token()}"

    @property
    def relative(self) -> str:
        """The folder as a manifest names it: below the store's root, with forward slashes."""
        return self.path.relative_to(self.layout.root).as_posix()

    def publish(self, manifest: bytes) -> bool:
        """Make the folder durable, then visible. If another writer was first: remove it, and False."""
        self._manifest = manifest
        files.sync_tree(self.path)
        target = self.layout.manifest(self.kind, self.id)
        files.make_folder(target.parent)
        won = files.publish(target, manifest)
        if not won:
            self.discard()
        return won

    def discard(self) -> None:
        """Remove the folder unless it is visible; what cannot be removed stays invisible."""
        if not self._is_visible():
            shutil.rmtree(self.path, ignore_errors=True)

    def _is_visible(self) -> bool:
        # Asked of the disk: an interrupt may have come between publishing and knowing of it. A manifest
        # names its folder, so no other writer's has the same bytes.
        target = self.layout.manifest(self.kind, self.id)
        return self._manifest is not None and target.is_file() and target.read_bytes() == self._manifest


def prepare(root: Path, *, create: bool) -> Layout:
    """Check that `root` is a store that this code reads; with `create`, make one of a new or empty folder.

    Raises:
        StoreNotFound: nothing is there, and `create` is False.
        NotAStore: a file, or a folder with something else in it.
        NewerFormat: a newer stepscope made it.
        ReadOnlyStore, StoreFull: it cannot be created.
    """
    if root.exists() and not root.is_dir():
        raise NotAStore(f"{root} is a file; a store is a folder")
    marker = root / MARKER
    if create and not marker.exists() and _is_blank(root):
        files.make_folder(root)
        files.sync(root.parent)
        files.publish(marker, json.dumps({"format": FORMAT, "created_by": _version()}).encode())
    if not root.exists():
        raise StoreNotFound(f"there is no store at {root}; check the path, or create one by opening it with mode='a'")
    if not marker.exists():
        raise NotAStore(f"{root} is a folder without {MARKER}, so not a store; choose a new or empty folder for one")
    _check_marker(marker)
    layout = Layout(root)
    if create:
        made = [files.make_folder(folder(kind)) for kind in KINDS for folder in (layout.folder, layout.manifests)]
        if any(made):
            files.sync(root)
            files.sync(root / "manifests")
    return layout


def _is_blank(root: Path) -> bool:
    # Another process may be creating the same store: its unpublished marker does not count.
    return not root.exists() or all(name.startswith(f".{MARKER}.") for name in os.listdir(root))


def _check_marker(marker: Path) -> None:
    try:
        number = json.loads(marker.read_bytes())["format"]
    except (ValueError, KeyError, TypeError):
        raise NotAStore(f"{marker} is not a stepscope store's; it should hold a JSON object with a format") from None
    if not isinstance(number, int) or number < 1:
        raise NotAStore(f"{marker} names the format {number!r}, which is no format")
    if number > FORMAT:
        raise NewerFormat(
            f"{marker.parent} has format {number}, this stepscope reads up to {FORMAT}; upgrade stepscope"
        )


def _version() -> str:
    try:
        return f"stepscope {metadata.version('stepscope')}"
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "stepscope"
