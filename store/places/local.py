"""A local disk: exclusive creation, `fsync`, and `link()` to publish."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from store.errors import ReadOnlyStore, StoreError, StoreFull
from store.places import direct
from store.places._base import Found, Place, Stamp, Written, token

TEMPORARY = ".tmp"
"""Suffix of files that are not published yet; a crash may leave some, nobody reads them."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
_TICK = 2_000_000_000  # nanoseconds, the coarsest clock of a file system in use
_SYNC_THREADS = 8  # concurrent fsyncs share one commit of the journal: measured 35 times faster than one by one


@contextlib.contextmanager
def translated(path: Path | str) -> Generator[None]:
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


class Local(Place):
    """The file systems of this machine; keys are paths."""

    is_local = True

    def name(self, key: str) -> str:
        """The path itself."""
        return key

    def writable(self, folder: str) -> bool:
        """Whether this process may create files in a folder."""
        return os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)

    def make_folder(self, folder: str) -> bool:
        """Create a folder and its parents; False if it is there already."""
        path = Path(folder)
        with translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.mkdir()
            except FileExistsError:
                return False
            return True

    def claim(self, parent: str, name: str) -> str:
        """`name` where it is free: a crashed writer's leftovers never stand in the way, and two never share."""
        claimed = name
        while not self.make_folder(os.path.join(parent, claimed)):
            claimed = f"{name}.{token()}"
        return claimed

    def write_new(self, key: str, parts: Iterable[bytes | memoryview]) -> Written:
        """Write the parts to a file that must not exist; a file begun is removed when that fails."""
        with translated(key):
            handle = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                return direct.write(handle, parts)
            except BaseException:
                os.unlink(key)
                raise
            finally:
                os.close(handle)

    def sync(self, key: str) -> None:
        """`fsync` one file or folder."""
        with translated(key):
            handle = os.open(key, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def sync_tree(self, folder: str) -> None:
        """`fsync` each file below a folder once, each folder, and the folder's parent."""
        paths: list[str] = []
        for parent, _, names in os.walk(folder):
            paths += [parent, *(os.path.join(parent, name) for name in names)]
        with ThreadPoolExecutor(_SYNC_THREADS) as pool:
            for _ in pool.map(self.sync, paths):
                pass
        self.sync(os.path.dirname(folder))

    def publish(self, key: str, data: bytes) -> bool:
        """Write under a temporary name, `fsync`, then `link()`, which fails if another writer was first."""
        folder, name = os.path.split(key)
        temporary = os.path.join(folder, f".{name}.{token()}{TEMPORARY}")
        try:
            self.write_new(temporary, [data])
            self.sync(temporary)
            with translated(key):
                try:
                    os.link(temporary, key)
                except FileExistsError:
                    return False
                except OSError as error:
                    if error.errno in _NO_LINKS:
                        raise StoreError(f"{folder} has no hard links, which commits need; use another disk") from error
                    raise
        finally:
            self.remove(temporary)
        self.sync(folder)
        return True

    def open(self, key: str) -> LocalSource:
        """Open the file now."""
        return LocalSource(key)

    def read(self, key: str) -> bytes:
        """All of it."""
        return Path(key).read_bytes()

    def stamp(self, key: str) -> Stamp | None:
        """Size and time of change of a regular file."""
        try:
            status = os.stat(key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Stamp(status.st_size, str(status.st_mtime_ns))

    def kind(self, key: str) -> Literal["nothing", "file", "folder"]:
        """What is at a path, by one look: another process may be making it."""
        try:
            return "folder" if stat.S_ISDIR(os.stat(key).st_mode) else "file"
        except (FileNotFoundError, NotADirectoryError):
            return "nothing"

    def names(self, folder: str) -> list[str]:
        """What is directly in a folder, dot files included."""
        try:
            return sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def listing(self, folder: str, suffix: str) -> dict[str, Stamp]:
        """One scan of the folder."""
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
                        found[entry.name.removesuffix(suffix)] = Stamp(status.st_size, str(status.st_mtime_ns))
        return found

    def version(self, folder: str) -> str | None:
        """Time of the folder's last change, unless that is so recent that a later change might bear the same time."""
        try:
            changed = os.stat(folder).st_mtime_ns
        except FileNotFoundError:
            return None
        return str(changed) if time.time_ns() - changed > _TICK else None

    def tree(self, folder: str) -> dict[str, Found]:
        """A walk over the folder."""
        found: dict[str, Found] = {}
        for parent, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(parent, name)
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    status = os.stat(path)
                    found[Path(path).relative_to(folder).as_posix()] = Found(status.st_size, status.st_mtime)
        return found

    def sizes(self, folder: str, names: Iterable[str]) -> Mapping[str, int]:
        """One look at each."""
        stamps = {name: self.stamp(os.path.join(folder, name)) for name in names}
        return {name: stamp.nbytes for name, stamp in stamps.items() if stamp}

    def remove(self, key: str) -> None:
        """Unlink a file."""
        with translated(key), contextlib.suppress(FileNotFoundError):
            os.unlink(key)

    def remove_tree(self, folder: str) -> None:
        """Remove what can be removed."""
        shutil.rmtree(folder, ignore_errors=True)

    def free(self, folder: str) -> int:
        """Bytes free for this user on the folder's disk, or on the disk that it would be made on."""
        path = Path(folder).absolute()
        there = next(one for one in (path, *path.parents) if one.exists())
        return shutil.disk_usage(there).free


class LocalSource:
    """One file descriptor.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: if it is missing.
    """

    def __init__(self, path: str) -> None:
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.nbytes = os.fstat(self._handle).st_size

    def read_some(self, target: memoryview, offset: int) -> int:
        """One `preadv`, which stops at 2 GiB."""
        return os.preadv(self._handle, [target], offset)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._handle)
