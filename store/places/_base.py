"""What a place of storage does for the store, and how things in it are named.

A `Location` is a `pathlib.Path` on a local disk, or a `RemotePath` anywhere else: both join with `/`.
Behind them is a `Place`, which sees only keys: an absolute path on disk, a key within a bucket.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol


class Written(NamedTuple):
    """What one file holds, as the manifest records it."""

    nbytes: int
    crc32c: str
    """Of the whole file, 8 hex digits."""


class Stamp(NamedTuple):
    """Changes when a published file is replaced."""

    nbytes: int
    version: str
    """Time of its last change on a disk, etag in a bucket."""


class Found(NamedTuple):
    """One file in a listing."""

    nbytes: int
    modified: float
    """Time of its last change, in seconds since 1970."""


class Source(Protocol):
    """One file open for reading."""

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        ...

    def read_some(self, target: memoryview, offset: int) -> int:
        """Read bytes from `offset` on into `target`; how many came, 0 only at the end of the file."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class Place(ABC):
    """A disk or a bucket: files are made once, published whole or not at all, and read exactly."""

    is_local: bool = False
    """Whether its keys are paths of this machine's file system."""

    address: str = ""
    """What tells this place from others of its kind."""

    @abstractmethod
    def name(self, key: str) -> str:
        """What a message calls the file."""

    @abstractmethod
    def writable(self, folder: str) -> bool:
        """Whether files may be made in a folder, as far as that is known without making one."""

    @abstractmethod
    def make_folder(self, folder: str) -> bool:
        """Make a folder and its parents; False if it is there already, or if this place needs none."""

    @abstractmethod
    def claim(self, parent: str, name: str) -> str:
        """Name of a new folder in `parent` that this writer alone owns: `name`, or `name.<token>`."""

    @abstractmethod
    def write_new(self, key: str, parts: Iterable[bytes | memoryview]) -> Written:
        """Make a file that nobody else makes; see `store.files.write_new`."""

    @abstractmethod
    def sync(self, key: str) -> None:
        """Make one file or folder durable."""

    @abstractmethod
    def sync_tree(self, folder: str) -> None:
        """Make a folder and everything in it durable."""

    @abstractmethod
    def publish(self, key: str, data: bytes) -> bool:
        """Make a file, whole and durable or not at all; False if another writer was first."""

    @abstractmethod
    def open(self, key: str) -> Source:
        """Open a file. Raises FileNotFoundError if it is missing, at once or when it is first read."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """All of a small file. Raises FileNotFoundError."""

    @abstractmethod
    def stamp(self, key: str) -> Stamp | None:
        """Stamp of a file, None if there is none."""

    @abstractmethod
    def kind(self, key: str) -> Literal["nothing", "file", "folder"]:
        """What is at a key."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Names of the files and folders directly in a folder, sorted; empty if there is none."""

    @abstractmethod
    def listing(self, folder: str, suffix: str) -> dict[str, Stamp]:
        """Published files directly in a folder that end in `suffix`: name without it → stamp."""

    def version(self, folder: str) -> str | None:
        """Changes whenever a file directly in a folder comes or goes; None where nobody knows without listing."""
        return None

    @abstractmethod
    def tree(self, folder: str) -> dict[str, Found]:
        """Every file below a folder, by its path relative to it."""

    @abstractmethod
    def sizes(self, folder: str, names: Iterable[str]) -> Mapping[str, int]:
        """Bytes of those of the named files in a folder that are there."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def remove_tree(self, folder: str) -> None:
        """Remove a folder with everything in it, as far as that is possible."""

    @abstractmethod
    def free(self, folder: str) -> int | None:
        """Bytes that can still be written; None where nobody knows."""


@dataclass(frozen=True)
class RemotePath:
    """A file or folder that is not on a local disk.

    Attributes:
        place: Where.
        key: Parts separated by `/`, empty for all of the place.
    """

    place: Place
    key: str

    def __truediv__(self, other: str) -> RemotePath:
        """What is called `other` below this folder."""
        return RemotePath(self.place, f"{self.key}/{other}" if self.key else other)

    def joinpath(self, *others: str) -> RemotePath:
        """As repeated `/`."""
        return RemotePath(self.place, "/".join([*([self.key] if self.key else []), *others]))

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> RemotePath:
        """The folder around it."""
        return RemotePath(self.place, self.key.rpartition("/")[0])

    def __str__(self) -> str:
        return self.place.name(self.key)


Location = Path | RemotePath
"""A file or folder, wherever it is."""


def token() -> str:
    """A name that no other writer uses."""
    return secrets.token_hex(6)
