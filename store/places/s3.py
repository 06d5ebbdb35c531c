"""S3 and what speaks its protocol, through obstore: conditional puts to publish, ranges to read.

There are no folders: a writer's folder is a prefix that holds a token of its own. What was put is durable
and seen by every reader at once.
"""

from __future__ import annotations

import functools
import itertools
import random
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Final, Literal, TypeVar

import obstore
from obstore.store import S3Store

from store.errors import StoreError
from store.places import aws
from store.places._base import Found, Place, Stamp, Written, token
from store.places.s3_errors import Conflict, translated
from store.places.s3_parts import PART, Counted, S3Source

CONNECT_S, READ_S, REQUEST_S = 5.0, 20.0, 120.0
"""Seconds to wait for a connection, for the next bytes of an answer, and for a whole request."""

_TAIL: Final = 16 << 10  # what the first look at a file brings along: a shard's index is there
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 8.0

T = TypeVar("T")


def connect(bucket: str) -> S3:
    """The bucket, with endpoint and keys of this process.

    Raises:
        StoreError: no bucket is named.
        AccessDenied: see `aws.read`.
    """
    if not bucket:
        raise StoreError("s3:// needs a bucket: s3://bucket/prefix")
    return _open(bucket, aws.read(), (CONNECT_S, READ_S, REQUEST_S))


@functools.lru_cache(maxsize=16)
def _open(bucket: str, settings: aws.Settings, seconds: tuple[float, float, float]) -> S3:
    """One client, with its connections, for all stores in a bucket."""
    named = {key: value for key, value in settings._asdict().items() if value and key != "attempts"}
    connect_s, read_s, request_s = (timedelta(seconds=value) for value in seconds)
    client: Any = {"connect_timeout": connect_s, "read_timeout": read_s, "timeout": request_s}
    if settings.endpoint.startswith("http://"):
        client["allow_http"] = True
    # Obstore retries requests that may be sent twice; what it gives up on is tried again here, see `_again`.
    retry: Any = {
        "max_retries": settings.attempts - 1,
        "retry_timeout": timedelta(seconds=150),
        "backoff": {
            "init_backoff": timedelta(seconds=_FIRST_PAUSE_S),
            "max_backoff": timedelta(seconds=_LONGEST_PAUSE_S),
            "base": 2,
        },
    }
    store = S3Store(bucket, **named, client_options=client, retry_config=retry)
    return S3(bucket, store, settings)


class S3(Place):
    """One bucket; keys are those of its objects.

    Args:
        bucket: Its name.
        store: The client.
        settings: How it is reached.
    """

    def __init__(self, bucket: str, store: S3Store, settings: aws.Settings) -> None:
        self.bucket, self.settings = bucket, settings
        self._store = store
        self.address = f"{settings.endpoint or 'aws'}/{bucket}"

    def __reduce__(self) -> tuple[Callable[[str], S3], tuple[str]]:
        """Another process connects by its own environment: keys never travel with a task."""
        return connect, (self.bucket,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, S3) and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)

    def name(self, key: str) -> str:
        """The URL."""
        return f"s3://{self.bucket}/{key}" if key else f"s3://{self.bucket}"

    def writable(self, folder: str) -> bool:
        """Shows when something is written."""
        return True

    def make_folder(self, folder: str) -> bool:
        """There is nothing to make."""
        return False

    def claim(self, parent: str, name: str) -> str:
        """A prefix with a token: nobody else draws the same."""
        return f"{name}.{token()}"

    def write_new(self, key: str, parts: Iterable[bytes | memoryview]) -> Written:
        """One put, of a large file in parts that are sent while the next ones are made."""
        counted = Counted(parts)
        pieces, held = iter(counted), list[memoryview]()
        while counted.nbytes <= PART and (piece := next(pieces, None)) is not None:
            held.append(piece)
        if counted.nbytes <= PART:
            self._put(key, b"".join(held))
        else:
            with translated(self, key):
                everything = itertools.chain(held, pieces)
                obstore.put(self._store, key, everything, use_multipart=True, chunk_size=PART)
        return Written(counted.nbytes, f"{counted.crc32c:08x}")

    def sync(self, key: str) -> None:
        """A put that was answered is durable."""

    def sync_tree(self, folder: str) -> None:
        """A put that was answered is durable."""

    def publish(self, key: str, data: bytes) -> bool:
        """A put with `If-None-Match: *`; after any doubtful answer, what is there decides.

        A failure may have come after the server took the data, and a 409 before anything was there, so that only
        reading back tells. The bytes are this writer's alone: a manifest names the folder, which holds a token.
        """

        def put() -> bool:
            try:
                with translated(self, key):
                    obstore.put(self._store, key, data, mode="create", use_multipart=False)
                return True
            except (Conflict, ConnectionError):
                there = self._peek(key)
                if there is None:
                    raise
                return there == data

        return self._again(key, put)

    def open(self, key: str) -> S3Source:
        """Nothing is asked yet."""
        return S3Source(self, key)

    def read(self, key: str) -> bytes:
        """One GET."""
        return self._again(key, lambda: bytes(obstore.get(self._store, key).bytes()))

    def stamp(self, key: str) -> Stamp | None:
        """One HEAD."""
        try:
            meta = self._again(key, lambda: obstore.head(self._store, key))
        except FileNotFoundError:
            return None
        return _stamp(meta)

    def kind(self, key: str) -> Literal["nothing", "file", "folder"]:
        """A folder where any key is below it."""

        def first() -> bool:
            return any(obstore.list(self._store, key or None, chunk_size=1))

        return "folder" if self._again(key, first) else "file" if key and self.stamp(key) else "nothing"

    def names(self, folder: str) -> list[str]:
        """One listing with a delimiter."""
        found = self._again(folder, lambda: obstore.list_with_delimiter(self._store, folder or None))
        keys = [*found["common_prefixes"], *(meta["path"] for meta in found["objects"])]
        return sorted(key.rpartition("/")[2] for key in keys)

    def listing(self, folder: str, suffix: str) -> dict[str, Stamp]:
        """One listing, 1,000 names a request."""
        found: dict[str, Stamp] = {}
        for name, meta in self._list(folder).items():
            if "/" not in name and name.endswith(suffix) and not name.startswith("."):
                found[name.removesuffix(suffix)] = _stamp(meta)
        return found

    def tree(self, folder: str) -> dict[str, Found]:
        """One listing, 1,000 names a request."""
        return {
            name: Found(meta["size"], meta["last_modified"].timestamp()) for name, meta in self._list(folder).items()
        }

    def sizes(self, folder: str, names: Iterable[str]) -> Mapping[str, int]:
        """A HEAD for one file, a listing for several."""
        wanted = set(names)
        if len(wanted) == 1:
            (name,) = wanted
            stamp = self.stamp(f"{folder}/{name}")
            return {name: stamp.nbytes} if stamp else {}
        return {name: meta["size"] for name, meta in self._list(folder).items() if name in wanted}

    def remove(self, key: str) -> None:
        """One DELETE."""
        self._again(key, lambda: obstore.delete(self._store, key))

    def remove_tree(self, folder: str) -> None:
        """DELETEs of 1,000 keys each."""
        keys = [f"{folder}/{name}" for name in self._list(folder)]
        if keys:
            self._again(folder, lambda: obstore.delete(self._store, keys))

    def free(self, folder: str) -> None:
        """Nobody knows."""

    def tail(self, key: str) -> tuple[int, bytes]:
        """Size and last bytes of a file, in one request. Raises FileNotFoundError."""

        def get() -> tuple[int, bytes]:
            try:
                found = obstore.get(self._store, key, options={"range": {"suffix": _TAIL}})
                return found.meta["size"], bytes(found.bytes())
            except obstore.exceptions.GenericError as error:
                if "416" not in str(error):
                    raise
                return 0, b""  # an empty file has no last byte

        return self._again(key, get)

    def read_ranges(self, key: str, starts: list[int], ends: list[int]) -> list[Any]:
        """Some ranges of a file, in parallel. Raises FileNotFoundError."""
        if len(starts) == 1:
            return [self._again(key, lambda: obstore.get_range(self._store, key, start=starts[0], end=ends[0]))]
        return list(
            self._again(key, lambda: obstore.get_ranges(self._store, key, starts=starts, ends=ends, coalesce=0))
        )

    def _put(self, key: str, data: bytes) -> None:
        self._again(key, lambda: obstore.put(self._store, key, data, use_multipart=False))

    def _list(self, folder: str) -> dict[str, Any]:
        """Everything below a folder: relative key → what the server says of it."""
        found = self._again(folder, lambda: obstore.list(self._store, folder or None).collect())
        start = len(folder) + 1 if folder else 0
        return {meta["path"][start:]: meta for meta in found}

    def _peek(self, key: str) -> bytes | None:
        try:
            return self.read(key)
        except FileNotFoundError:
            return None

    def _again(self, key: str, action: Callable[[], T]) -> T:
        """What `action` gives; repeated where the server had trouble that obstore does not repeat itself.

        Raises:
            FileNotFoundError: there is no such key.
            StoreNotFound, AccessDenied, StoreFull: at once.
            StoreUnreachable: it failed in every attempt.
        """
        pause = _FIRST_PAUSE_S
        for left in reversed(range(self.settings.attempts)):
            try:
                with translated(self, key):
                    return action()
            except (Conflict, ConnectionError):
                if not left:
                    raise
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        raise AssertionError("unreachable: the last attempt returns or raises")


def _stamp(meta: Any) -> Stamp:
    return Stamp(meta["size"], meta["e_tag"] or str(meta["last_modified"]))
