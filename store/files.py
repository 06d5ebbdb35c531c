"""Files of a local folder: create once, make durable, publish atomically, read exactly.

All of the store's disk access goes through these few functions, so that an object store can take
their place. They translate the operating system's errors into the store's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import crc32c

from store.errors import DamagedArray, ReadOnlyStore, StoreError, StoreFull

TEMPORARY = ".tmp"
"""Suffix of files that are not published yet; a crash may leave some, nobody reads them."""

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
_SYNC_THREADS = 8  # concurrent fsyncs share one commit of the journal: measured 35 times faster than one by one


class Written(NamedTuple):
    """What one file holds, as the manifest records it."""

    nbytes: int
    crc32c: str
    """Of the whole file, 8 hex digits."""


class Stamp(NamedTuple):
    """Changes when a published file is replaced."""

    nbytes: int
    mtime_ns: int


@contextlib.contextmanager
def translated(path: Path) -> Generator[None]:
    """Turn "no space" and "not allowed" into errors that say so in one line about `path`.

    Raises:
        StoreFull: the disk or the quota is used up.
        ReadOnlyStore: the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull(f"no space left to write {path}: free some, or choose a store on another disk") from error
        if error.errno in _FORBIDDEN:
            raise ReadOnlyStore(f"cannot write {path}: {os.strerror(error.errno)}") from error
        raise


def token() -> str:
    """A name that no other writer uses."""
    return secrets.token_hex(6)


def writable(folder: Path) -> bool:
    """Whether this process may create files in `folder`."""
    return os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def make_folder(path: Path) -> bool:
    """Create the folder `path` and its parents; False if it is there already."""
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir()
        except FileExistsError:
            return False
        return True


def write_new(path: Path, parts: Iterable[bytes | memoryview]) -> Written:
    """Write `parts` one after the other to the new file `path`; not durable until `sync`.

    Raises:
        FileExistsError: if `path` exists.
        StoreFull: see `translated`; a file begun is removed.
        ReadOnlyStore: the same.
    """
    with translated(path):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            nbytes, checksum = 0, 0
            for part in parts:
                rest = memoryview(part).cast("B")
                checksum = crc32c.crc32c(rest, checksum)
                nbytes += len(rest)
                while rest:
                    rest = rest[os.write(handle, rest) :]
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(handle)
    return Written(nbytes, f"{checksum:08x}")


def sync(path: Path) -> None:
    """Make one file or folder durable."""
    with translated(path):
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_tree(folder: Path) -> None:
    """Make `folder` and everything in it durable: each file once, and each folder."""
    paths: list[Path] = []
    for parent, _, names in os.walk(folder):
        paths += [Path(parent), *(Path(parent, name) for name in names)]
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        for _ in pool.map(sync, paths):
            pass
    sync(folder.parent)


def publish(path: Path, data: bytes) -> bool:
    """Create `path` with `data`, whole and durable or not at all; False if another writer was first."""
    temporary = path.with_name(f".{path.name}.{token()}{TEMPORARY}")
    try:
        write_new(temporary, [data])
        sync(temporary)
        with translated(path):
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno in _NO_LINKS:
                    raise StoreError(
                        f"{path.parent} has no hard links, which commits need; use another disk"
                    ) from error
                raise
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)
    return True


def listing(folder: Path, suffix: str) -> dict[str, Stamp]:
    """Published files of `folder` that end in `suffix`: name without it → stamp. Empty if there is no folder."""
    found: dict[str, Stamp] = {}
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return found
    with entries:
        for entry in entries:
            if entry.name.endswith(suffix) and not entry.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                    status = entry.stat()
                    found[entry.name.removesuffix(suffix)] = Stamp(status.st_size, status.st_mtime_ns)
    return found


def check(path: Path, nbytes: int) -> None:
    """Make sure that `path` is there with `nbytes` bytes.

    Raises:
        DamagedArray: if not; a reader that went on would take the hole for zeros.
    """
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        raise DamagedArray(f"{path} is missing; restore it from a copy, or delete the run and make it again") from None
    if found != nbytes:
        raise DamagedArray(f"{path} has {found} bytes instead of {nbytes}; restore it, or make the run again")


def checksum(path: Path) -> str:
    """CRC-32C of a whole file, 8 hex digits. Raises DamagedArray if it is missing."""
    with Reader(path) as reader:
        return f"{crc32c.crc32c(reader.read(0, reader.nbytes)):08x}"


def survey(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file below `folder`: relative path → (bytes, crc32c)."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, checksum(path)) for path in found}


class Reader:
    """One file open for reading at any place. Use as a context manager.

    Args:
        path: The file.

    Raises:
        DamagedArray: if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise DamagedArray(f"{path} is missing; restore it from a copy, or make the run again") from None
        self.nbytes = os.fstat(self._handle).st_size

    def read(self, offset: int, nbytes: int) -> bytes:
        """Exactly `nbytes` bytes from `offset` on; raises as `read_into`."""
        data = bytearray(nbytes)
        self.read_into(memoryview(data), offset)
        return bytes(data)

    def read_into(self, target: memoryview, offset: int) -> None:
        """Fill `target`, contiguous bytes, from `offset` on.

        Raises:
            DamagedArray: if the file ends before.
        """
        end = offset + len(target)
        while target:  # one call may return less: it stops at 2 GiB
            count = os.preadv(self._handle, [target], offset)
            if not count:
                raise DamagedArray(f"{self.path} ends at byte {self.nbytes}, before {end}: it is cut short")
            target, offset = target[count:], offset + count

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._handle)
