"""Coordinate arrays: small, one-dimensional, each in one file that carries its own checksum."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import crc32c
import numpy as np
from numpy.typing import NDArray

from store import dims, files
from store.errors import DamagedArray
from store.places import Location
from store.zarr_meta import STRING, ArrayMeta, label_dtype, read_group


class Coordinate(NamedTuple):
    """Labels along one axis: the axis's own, or others beside it such as `sigma` along `step`."""

    dim: str
    values: NDArray[Any]


def write(folder: Location, coordinates: Mapping[str, Coordinate]) -> None:
    """Write each coordinate as the array `folder/<name>`."""
    for name, (dim, values) in coordinates.items():
        meta = ArrayMeta(dims=(dim,), shape=values.shape, dtype=label_dtype(values), shard=values.shape)
        data = _encode_text(values) if meta.dtype == STRING else values.astype(meta.numpy).tobytes()
        files.make_folder(folder / name)
        files.write_new(folder / name / "zarr.json", [meta.to_json()])
        files.write_new(folder / name / meta.file((0,)), [data, crc32c.crc32c(data).to_bytes(4, "little")])


def read(folder: Location, required: Collection[str]) -> dict[str, Coordinate]:
    """The coordinates beside an array: name → labels, text as fixed-width unicode.

    Args:
        folder: The Zarr group that holds the array.
        required: Axes that must have labels; others may.

    Raises:
        DamagedArray: one is missing, or fails its checksum.
    """
    beside = set(read_group(folder).get("coordinates", "").split())
    found: dict[str, Coordinate] = {}
    for name in (*dims.ORDER, *sorted(beside)):
        if name in required or name in beside or files.exists(folder / name / "zarr.json"):
            meta = ArrayMeta.read(folder / name)
            found[name] = Coordinate(meta.dims[0], _read(folder / name / meta.file((0,)), meta))
    return found


def names(coordinates: Mapping[str, Coordinate]) -> str:
    """The names of those that are not an axis, as xarray wants them in a group's `coordinates` attribute."""
    return " ".join(sorted(name for name, (dim, _) in coordinates.items() if name != dim))


def _read(path: Location, meta: ArrayMeta) -> NDArray[Any]:
    data = files.read(path)
    data, checksum = data[:-4], data[-4:]
    if crc32c.crc32c(data).to_bytes(4, "little") != checksum:
        raise DamagedArray(f"{path} is damaged: its checksum is wrong; make the run again")
    return _decode_text(data) if meta.dtype == STRING else np.frombuffer(data, meta.numpy)


def _encode_text(values: NDArray[Any]) -> bytes:
    """`vlen-utf8`: the number of items, then each item's length and bytes, all lengths uint32."""
    texts = [str(value).encode() for value in values]
    return struct.pack("<I", len(texts)) + b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _decode_text(data: bytes) -> NDArray[np.str_]:
    texts: list[str] = []
    place = 4
    for _ in range(struct.unpack_from("<I", data)[0]):
        (length,) = struct.unpack_from("<I", data, place)
        texts.append(data[place + 4 : place + 4 + length].decode())
        place += 4 + length
    return np.array(texts, np.str_)
