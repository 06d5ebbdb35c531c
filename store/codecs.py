"""How inner chunks are compressed: the codecs of Zarr v3 that the store writes.

`blosc` is zstd at level 1 behind a byte shuffle, in blocks of 1 MiB: on bfloat16 activations it saves a third, where
bit shuffle or blosc's own block size save a tenth. It comes from numcodecs, which zarr brings along; a machine
that writes `fast` arrays only needs no numcodecs.
"""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from store.errors import InvalidArray
from store.records import Json

Codec = Literal["none", "zstd", "blosc"]

BLOCK: Final = 1 << 20
"""Bytes that blosc shuffles and compresses at once."""

_LEVEL: Final = 1


def to_json(codec: Codec, itemsize: int) -> list[Json]:
    """The codec as Zarr v3 metadata, behind `bytes`; nothing for `none`."""
    if codec == "zstd":
        return [{"name": "zstd", "configuration": {"level": _LEVEL, "checksum": False}}]
    if codec == "blosc":
        shuffle: Json = {"cname": "zstd", "clevel": _LEVEL, "shuffle": "shuffle", "typesize": itemsize}
        return [{"name": "blosc", "configuration": {**shuffle, "blocksize": BLOCK}}]
    return []


def check(codec: Codec) -> None:
    """Raise InvalidArray where the codec's library is missing."""
    if codec == "blosc":
        _blosc()


def needs(chunk: NDArray[Any]) -> int:
    """Bytes that compressing a chunk takes at most: a copy of it, if it is not contiguous, and the outcome."""
    return 2 * chunk.nbytes


def compress(codec: Codec, chunk: NDArray[Any]) -> bytes:
    """One inner chunk, contiguous, as the codec writes it."""
    if codec == "zstd":
        # As bytes: the memory of a compressed Arrow buffer is longer than its contents.
        return pa.Codec("zstd", compression_level=_LEVEL).compress(chunk.reshape(-1).view(np.uint8), asbytes=True)
    return _blosc().compress(chunk, b"zstd", _LEVEL, 1, BLOCK)


def decompress(codec: Codec, packed: memoryview, out: NDArray[np.uint8]) -> None:
    """Fill `out` with the chunk that `packed` holds.

    Raises:
        ValueError: it does not decompress, or not to the size of `out`.
    """
    if codec == "zstd":
        try:
            out[:] = np.frombuffer(pa.Codec("zstd").decompress(packed, decompressed_size=len(out)), np.uint8)
        except (OSError, pa.ArrowInvalid) as error:
            raise ValueError(str(error)) from error
        return
    # The header of a blosc frame, from byte 4 on: bytes uncompressed, of a block, and compressed.
    sizes = np.frombuffer(packed[4:16], "<u4") if len(packed) >= 16 else ()
    if len(sizes) != 3 or (sizes[0], sizes[2]) != (len(out), len(packed)):
        raise ValueError("its header names another size")
    try:
        _blosc().decompress(packed, out)
    except RuntimeError as error:
        raise ValueError(str(error)) from error


@cache
def _blosc() -> ModuleType:
    try:
        return importlib.import_module("numcodecs.blosc")
    except ImportError:
        raise InvalidArray("profile compact needs the package numcodecs: install it, or write profile fast") from None
