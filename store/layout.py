"""Where things are in a store's folder, and the file that makes a folder a store."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Final, Literal, TypeVar

from store import files
from store.errors import AccessDenied, DamagedArray, NewerFormat, NotAStore, StoreError, StoreNotFound, StoreUnreachable
from store.places import Location, at
from store.records import FORMAT

Kind = Literal["runs", "samples", "results"]
KINDS: Final[tuple[Kind, ...]] = ("runs", "samples", "results")
MARKER: Final = "stepscope.json"
MANIFEST: Final = ".parquet"

THREADS: Final = 32
"""Requests at a time: each waits for the network, not for this machine."""

T = TypeVar("T")
R = TypeVar("R")

_ID = re.compile(r"[0-9a-f]{16}")


class Layout:
    """What is where below one store's folder.

    Args:
        root: The store's folder.
    """

    def __init__(self, root: Location) -> None:
        self.root = root
        self.is_local = isinstance(root, Path)

    @property
    def root_url(self) -> str:
        """What tells this store from all others that this machine can reach."""
        place, key = at(self.root.resolve() if isinstance(self.root, Path) else self.root)
        return f"{place.address}/{key}"

    def each(self, action: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """What `action` gives for each of `items`; many at a time where each waits for a server."""
        if self.is_local:
            return [action(item) for item in items]
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(action, items))

    def folder(self, kind: Kind) -> Location:
        """Folder of the Zarr groups of one kind."""
        return self.root / kind

    def manifests(self, kind: Kind) -> Location:
        """Folder of the manifests of one kind."""
        return self.root / "manifests" / kind

    def manifest(self, kind: Kind, id: str) -> Location:
        """Manifest of one thing; what has none does not exist."""
        return self.manifests(kind) / f"{id}{MANIFEST}"

    def stamp(self, kind: Kind, id: str) -> files.Stamp | None:
        """Stamp of the manifest, None if there is none: one look at one file."""
        return files.stamp(self.manifest(kind, id)) if _ID.fullmatch(id) else None

    def has(self, kind: Kind, id: str) -> bool:
        """Whether the manifest exists."""
        return self.stamp(kind, id) is not None

    def listing(self, kind: Kind) -> dict[str, files.Stamp]:
        """Every complete thing of one kind: id → stamp of its manifest."""
        return files.listing(self.manifests(kind), MANIFEST)

    def ids(self, kind: Kind) -> list[str]:
        """Ids of every complete thing of one kind, sorted."""
        return sorted(self.listing(kind))


class Draft:
    """A folder that one writer owns until its manifest is published.

    The folder is `<kind>/<id>` where that is free on a disk, else `<kind>/<id>.<token>`: a crashed writer's
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
        self.path = files.claim(layout.folder(kind), id)

    @property
    def relative(self) -> str:
        """The folder as a manifest names it: below the store's root, with forward slashes."""
        return f"{self.kind}/{self.path.name}"

    def others(self, values: Mapping[str, int]) -> dict[str, tuple[int, str]]:
        """Bytes and checksums of all files of the folder but those of `values`, which must be there in these sizes.

        Raises:
            DamagedArray: one of `values` is not.
        """
        there = files.tree(self.path)
        for name, nbytes in values.items():
            if name not in there or there[name].nbytes != nbytes:
                found = f"has {there[name].nbytes} bytes" if name in there else "is not there"
                raise DamagedArray(f"{self.path / name} was written with {nbytes} bytes and now {found}; begin again")
        others = sorted(there.keys() - values.keys())
        checksums = self.layout.each(lambda name: files.checksum(self.path / name), others)
        return {name: (there[name].nbytes, crc) for name, crc in zip(others, checksums, strict=True)}

    def publish(self, manifest: bytes) -> bool:
        """Make the folder durable, then visible. If another writer was first: remove it, and False."""
        files.sync_tree(self.path)
        target = self.layout.manifest(self.kind, self.id)
        files.make_folder(target.parent)
        self._manifest = manifest
        won = files.publish(target, manifest)
        if not won:
            self._manifest = None
            self.discard()
        return won

    def discard(self) -> None:
        """Remove the folder unless it is visible, or may become so; what cannot be removed stays invisible."""
        if not self._may_be_visible():
            with contextlib.suppress(AccessDenied, StoreUnreachable):
                files.remove_tree(self.path)

    def _may_be_visible(self) -> bool:
        # Asked of the disk: an interrupt may have come between publishing and knowing of it. A manifest
        # names its folder, so no other writer's has the same bytes. A server may carry a request out long
        # after we gave up on it: what it was asked to publish is left to `gc`.
        target = self.layout.manifest(self.kind, self.id)
        if self._manifest is None or not self.layout.is_local:
            return self._manifest is not None
        return files.exists(target) and files.read(target) == self._manifest


def prepare(root: Location, *, create: bool) -> Layout:
    """Check that `root` is a store that this code reads; with `create`, make one of a new or empty folder.

    Raises:
        StoreNotFound: nothing is there, and `create` is False.
        NotAStore: a file, or a folder with something else in it.
        NewerFormat: a newer stepscope made it.
        ReadOnlyStore, StoreFull: it cannot be created.
    """
    found = files.kind(root)
    if found == "file":
        raise NotAStore(f"{root} is a file; a store is a folder")
    marker = root / MARKER
    if create and not files.exists(marker) and _is_blank(root):
        files.make_folder(root)
        files.sync(root.parent)
        about = json.dumps({"format": FORMAT, "created_by": _version()}).encode()
        if files.publish(marker, about) and not isinstance(root, Path) and files.publish(marker, about + b"\n"):
            raise StoreError(
                f"the server of {root} ignores If-None-Match, so that writers could overwrite each other's runs; "
                "use another server, or a folder"
            )
    if found == "nothing" and not create:
        raise StoreNotFound(f"there is no store at {root}; check the path, or create one by opening it with mode='a'")
    if not files.exists(marker):
        raise NotAStore(f"{root} is a folder without {MARKER}, so not a store; choose a new or empty folder for one")
    _check_marker(marker)
    layout = Layout(root)
    if create:
        made = [files.make_folder(folder(kind)) for kind in KINDS for folder in (layout.folder, layout.manifests)]
        if any(made):
            files.sync(root)
            files.sync(root / "manifests")
    return layout


def _is_blank(root: Location) -> bool:
    # Another process may be creating the same store: its unpublished marker does not count.
    names = [name for name in files.names(root) if not name.startswith(f".{MARKER}.")]
    return all(files.kind(root / name) == "nothing" for name in names)  # some servers list what was emptied


def _check_marker(marker: Location) -> None:
    try:
        number = json.loads(files.read(marker))["format"]
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
