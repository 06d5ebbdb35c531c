"""Where stores may be: a local disk, or S3. A new place is one file here that inherits `Place`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from store.errors import StoreError
from store.places._base import Found, Location, Place, RemotePath, Source, Stamp, Written, token
from store.places.local import TEMPORARY, Local, translated

LOCAL: Final = Local()

_URL = re.compile(r"s3:/+(?P<bucket>[^/]*)/*(?P<key>.*)", re.DOTALL)

__all__ = [
    "LOCAL",
    "TEMPORARY",
    "Found",
    "Local",
    "Location",
    "Place",
    "RemotePath",
    "Source",
    "Stamp",
    "Written",
    "at",
    "locate",
    "token",
    "translated",
]


def locate(path: str | os.PathLike[str] | RemotePath) -> Location:
    """The location that `path` names: `s3://bucket/prefix`, or a path on a disk.

    Raises:
        StoreError: it is on S3, and that cannot be reached as asked; see `store.places.s3.connect`.
    """
    if isinstance(path, RemotePath):
        return path
    # One slash is enough: `pathlib.Path`, which command lines like, makes one of two.
    if url := _URL.fullmatch(os.fspath(path)):
        try:  # an extra, so that a laptop with a folder needs none of it
            from store.places import s3
        except ImportError as error:
            raise StoreError(
                "stores on S3 need the package obstore; install it with: pip install 'stepscope[s3]'"
            ) from error
        key = "/".join(part for part in url["key"].split("/") if part)
        return RemotePath(s3.connect(url["bucket"]), key)
    return Path(path)


def at(location: Location) -> tuple[Place, str]:
    """The place of a location, and its key there."""
    return (LOCAL, str(location)) if isinstance(location, Path) else (location.place, location.key)
