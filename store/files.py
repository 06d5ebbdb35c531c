"""Files wherever they are: create once, make durable, publish atomically, read exactly.

All of the store's access to files goes through these few functions, which ask the place (see `store.places`)
behind a location.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import crc32c

from store import places
from store.errors import DamagedArray, MissingFile
from store.places import TEMPORARY, Found, Location, Stamp, Written, token, translated

__all__ = [
    "TEMPORARY",
    "Found",
    "Location",
    "Reader",
    "Stamp",
    "Written",
    "check",
    "check_all",
    "checksum",
    "claim",
    "exists",
    "free",
    "kind",
    "listing",
    "make_folder",
    "names",
    "publish",
    "read",
    "remove",
    "remove_tree",
    "stamp",
    "survey",
    "sync",
    "sync_tree",
    "token",
    "translated",
    "tree",
    "version",
    "writable",
    "write_new",
]

_BLOCK: Final = 8 << 20  # bytes that a checksum holds at once


def writable(folder: Location) -> bool:
    """Whether this process may create files in `folder`, as far as that is known without trying."""
    place, key = places.at(folder)
    return place.writable(key)


def make_folder(path: Location) -> bool:
    """Create the folder `path` and its parents; False if it is there already, or needs not be made."""
    place, key = places.at(path)
    return place.make_folder(key)


def claim(parent: Location, name: str) -> Location:
    """A new folder of `parent` that no other writer uses: `name`, or `name.<token>`."""
    place, key = places.at(parent)
    return parent / place.claim(key, name)


def write_new(path: Location, parts: Iterable[bytes | memoryview]) -> Written:
    """Write `parts` one after the other to the new file `path`; not durable until `sync`.

    Raises:
        FileExistsError: if `path` exists, where the place tells.
        StoreFull: see `translated`; a file begun is removed.
        ReadOnlyStore: the same.
        StoreUnreachable: a server did not take it.
    """
    place, key = places.at(path)
    return place.write_new(key, parts)


def sync(path: Location) -> None:
    """Make one file or folder durable."""
    place, key = places.at(path)
    place.sync(key)


def sync_tree(folder: Location) -> None:
    """Make `folder` and everything in it durable: each file once, and each folder."""
    place, key = places.at(folder)
    place.sync_tree(key)


def publish(path: Location, data: bytes) -> bool:
    """Create `path` with `data`, whole and durable or not at all; False if another writer was first."""
    place, key = places.at(path)
    return place.publish(key, data)


def stamp(path: Location) -> Stamp | None:
    """Stamp of a file, None if there is none: one look."""
    place, key = places.at(path)
    return place.stamp(key)


def exists(path: Location) -> bool:
    """Whether there is a file: one look."""
    place, key = places.at(path)
    return place.stamp(key) is not None


def kind(path: Location) -> Literal["nothing", "file", "folder"]:
    """What is at a location."""
    place, key = places.at(path)
    return place.kind(key)


def names(folder: Location) -> list[str]:
    """Names of the files and folders directly in `folder`, sorted; empty if there is none."""
    place, key = places.at(folder)
    return place.names(key)


def free(folder: Location) -> int | None:
    """Bytes that can still be written to the disk of `folder`; None where nobody knows."""
    place, key = places.at(folder)
    return place.free(key)


def listing(folder: Location, suffix: str) -> dict[str, Stamp]:
    """Published files of `folder` that end in `suffix`: name without it → stamp. Empty if there is no folder."""
    place, key = places.at(folder)
    return place.listing(key, suffix)


def version(folder: Location) -> str | None:
    """Changes whenever a file of `folder` comes or goes; None where that is not known without listing it."""
    place, key = places.at(folder)
    return place.version(key)


def tree(folder: Location) -> dict[str, Found]:
    """Every file below `folder` by its relative path; empty if there is no folder."""
    place, key = places.at(folder)
    return place.tree(key)


def remove(path: Location) -> None:
    """Remove a file, if it is there."""
    place, key = places.at(path)
    place.remove(key)


def remove_tree(folder: Location) -> None:
    """Remove a folder with everything in it, as far as that is possible."""
    place, key = places.at(folder)
    place.remove_tree(key)


def check(path: Location, nbytes: int) -> None:
    """Make sure that `path` is there with `nbytes` bytes; raises as `check_all`."""
    check_all(path.parent, {path.name: nbytes})


def check_all(folder: Location, sizes: Mapping[str, int]) -> None:
    """Make sure that the named files of `folder` are there in their full sizes; one request where that is dear.

    Raises:
        DamagedArray: one is not (MissingFile: not at all); a reader that went on would take the hole for zeros.
    """
    place, key = places.at(folder)
    there = place.sizes(key, sizes)
    for name, nbytes in sizes.items():
        if name not in there:
            path = folder / name  # made here: it takes as long as all else for a name
            raise MissingFile(f"{path} is missing; restore it from a copy, or delete the run and make it again")
        if there[name] != nbytes:
            told = f"{folder / name} has {there[name]} bytes instead of {nbytes}"
            raise DamagedArray(f"{told}; restore it, or make the run again")


def checksum(path: Location) -> str:
    """CRC-32C of a whole file, 8 hex digits. Raises MissingFile if there is none."""
    value, offset = 0, 0
    with Reader(path) as reader:
        while offset < reader.nbytes:
            block = reader.read(offset, min(_BLOCK, reader.nbytes - offset))
            value, offset = crc32c.crc32c(block, value), offset + len(block)
    return f"{value:08x}"


def read(path: Location) -> bytes:
    """All of a small file. Raises MissingFile if there is none."""
    place, key = places.at(path)
    try:
        return place.read(key)
    except FileNotFoundError:
        raise _missing(path) from None


def survey(folder: Location) -> dict[str, tuple[int, str]]:
    """Every file below `folder`: relative path → (bytes, crc32c)."""
    return {name: (found.nbytes, checksum(folder / name)) for name, found in sorted(tree(folder).items())}


class Reader:
    """One file open for reading at any place. Use as a context manager.

    Args:
        path: The file.

    Raises:
        MissingFile: there is none; on a server, this shows when it is first read.
    """

    def __init__(self, path: Location) -> None:
        self.path = path
        place, key = places.at(path)
        try:
            self._source = place.open(key)
        except FileNotFoundError:
            raise _missing(self.path) from None

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        try:
            return self._source.nbytes
        except FileNotFoundError:
            raise _missing(self.path) from None

    def read(self, offset: int, nbytes: int) -> bytes:
        """Exactly `nbytes` bytes from `offset` on; raises as `read_into`."""
        data = bytearray(nbytes)
        self.read_into(memoryview(data), offset)
        return bytes(data)

    def read_into(self, target: memoryview, offset: int) -> None:
        """Fill `target`, contiguous bytes, from `offset` on.

        Raises:
            DamagedArray: the file ends before.
        """
        end = offset + len(target)
        while target:  # one call may return less
            try:
                count = self._source.read_some(target, offset)
            except FileNotFoundError:
                raise _missing(self.path) from None
            if not count:
                raise DamagedArray(f"{self.path} ends at byte {self.nbytes}, before {end}: it is cut short")
            target, offset = target[count:], offset + count

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._source.close()


def _missing(path: Location) -> MissingFile:
    return MissingFile(f"{path} is missing; restore it from a copy, or make the run again")
