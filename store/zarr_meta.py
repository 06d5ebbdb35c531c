"""The `zarr.json` files of the store: the small part of Zarr v3 that it writes and reads.

Three kinds of array exist. *Sharded* arrays hold values: one shard a cell of the leading axes, and in
it one inner chunk a frame; small arrays bundle the cells of a step in one shard. *Plain* arrays hold
coordinates: one chunk, with a checksum of its own. *Strings* are plain arrays of variable length.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast, get_args

import numpy as np
from numpy.typing import NDArray

from store import bfloat16, codecs, dims, files
from store.codecs import Codec
from store.errors import DamagedArray
from store.places import Location
from store.records import Encoding, Json

STRING: Final = "string"
DTYPES: Final = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", bfloat16.NAME),
)
"""What arrays of values may be made of."""

CELL: Final[tuple[str, ...]] = (dims.STEP, dims.BRANCH, dims.LAYER)
"""Leading axes. Each element of them is a file of its own, unless the writer bundles small ones."""

ENCODING: Final = "encoding"
"""Attribute of a lossy array: its `name`, the array of its `scale`, the dtype that it was made `of`."""

BUNDLE: Final = 1 << 20
"""Bytes: a file of several cells is one inner chunk up to this size; a larger one has a chunk for each cell."""

_BYTES: Final[Json] = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC32C: Final[Json] = {"name": "crc32c"}
_VLEN: Final[Json] = {"name": "vlen-utf8"}


@dataclass(frozen=True, kw_only=True)
class ArrayMeta:
    """One array's `zarr.json`.

    Attributes:
        dims: Names of the axes.
        shape: Their lengths.
        dtype: One of `DTYPES`, or `string`.
        shard: Shape of one file's part of the array.
        chunk: Shape of the parts within a file; None for a plain array.
        codec: How inner chunks are compressed.
        attributes: The array's own, e.g. its unit.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    shard: tuple[int, ...]
    chunk: tuple[int, ...] | None = None
    codec: Codec = "none"
    attributes: Json = field(default_factory=dict[str, Any])

    @property
    def numpy(self) -> np.dtype[Any]:
        """How NumPy holds the values; bfloat16 as its bits."""
        return bfloat16.numpy_dtype(self.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of all values, uncompressed."""
        return math.prod(self.shape) * self.numpy.itemsize

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of files along each axis."""
        return tuple(size // shard for size, shard in zip(self.shape, self.shard, strict=True))

    @property
    def inner(self) -> tuple[int, ...]:
        """Shape of the smallest part that can be read alone."""
        return self.shard if self.chunk is None else self.chunk

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of inner chunks along each axis of one file."""
        return tuple(size // inner for size, inner in zip(self.shard, self.inner, strict=True))

    @property
    def rows(self) -> int:
        """Rows of an inner chunk: places along all its axes but the last."""
        return math.prod(self.inner[:-1])

    @property
    def chunk_nbytes(self) -> int:
        """Bytes of one inner chunk, uncompressed."""
        return math.prod(self.inner) * self.numpy.itemsize

    @property
    def chunks_per_shard(self) -> int:
        """Number of inner chunks in one file."""
        return math.prod(self.counts)

    @property
    def encoding(self) -> Encoding:
        """How numbers are kept."""
        return self._said.get("name", "exact")

    @property
    def scale(self) -> str:
        """Name of the array of a lossy array's scales."""
        return self._said["scale"]

    @property
    def _said(self) -> dict[str, Any]:
        return cast("dict[str, Any]", self.attributes.get(ENCODING, {}))

    @property
    def loaded(self) -> np.dtype[Any]:
        """What readers are given."""
        floats = self.dtype == bfloat16.NAME or self.encoding != "exact"
        return np.dtype(np.float32) if floats else self.numpy

    @classmethod
    def sharded(
        cls,
        names: Sequence[str],
        shape: Sequence[int],
        dtype: str,
        *,
        files_along: Sequence[str],
        split: str,
        codec: Codec,
        attributes: Json,
    ) -> ArrayMeta:
        """An array of values: a file for each place along the axes `files_along`.

        A file that holds one cell has an inner chunk for each element of the axis `split`. One that bundles
        several cells is one inner chunk, or has one for each cell where it is larger than `BUNDLE`.
        """
        pairs = list(zip(names, shape, strict=True))
        shard = tuple(1 if name in files_along else size for name, size in pairs)
        bundled = any(name in CELL and name not in files_along for name in names)
        whole = cls(dims=tuple(names), shape=tuple(shape), dtype=dtype, shard=shard, chunk=shard)
        within = (split,) if not bundled else CELL if whole.chunk_nbytes > BUNDLE else ()
        chunk = tuple(1 if name in within else size for name, size in zip(names, shard, strict=True))
        return replace(whole, chunk=chunk, codec=codec, attributes=attributes)

    @property
    def in_order(self) -> bool:
        """Whether the chunks of a file lie one after the other in a C-contiguous cell."""
        split = [axis for axis, count in enumerate(self.counts) if count > 1]
        return all(self.inner[axis] == 1 for axis in range(max(split, default=-1) + 1))

    def is_cell(self, axis: int) -> bool:
        """Whether every element of an axis is in a file of its own."""
        return self.dims[axis] in CELL and self.shard[axis] == 1

    def is_split(self, axis: int) -> bool:
        """Whether every element of an axis is an inner chunk of its own, within a file."""
        return not self.is_cell(axis) and self.inner[axis] < self.shard[axis]

    def file(self, cell: Sequence[int]) -> str:
        """Name of the file at a place of the grid: Zarr's default key, separated by dots to save folders."""
        return ".".join(["c", *map(str, cell)])

    def to_json(self) -> bytes:
        """As Zarr v3 metadata."""
        if self.dtype == STRING:
            pipeline: list[Json] = [_VLEN, _CRC32C]
        elif self.chunk is None:
            pipeline = [_BYTES, _CRC32C]
        else:
            configuration = {
                "chunk_shape": list(self.chunk),
                "codecs": [_BYTES, *codecs.to_json(self.codec, self.numpy.itemsize)],
                "index_codecs": [_BYTES, _CRC32C],
                "index_location": "end",
            }
            pipeline = [cast(Json, {"name": "sharding_indexed", "configuration": configuration})]
        return _dump(
            {
                "zarr_format": 3,
                "node_type": "array",
                "shape": list(self.shape),
                "data_type": self.dtype,
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(self.shard)}},
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
                "fill_value": self._fill_value(),
                "codecs": pipeline,
                "attributes": self.attributes,
                "dimension_names": list(self.dims),
            }
        )

    def _fill_value(self) -> bool | int | float | str:
        # NaN rather than 0: to a reader that takes a lost shard for fill, it must not look like data.
        if self.dtype == STRING:
            return ""
        if self.dtype == "bool":
            return False
        return "NaN" if "float" in self.dtype else 0

    @classmethod
    def read(cls, folder: Location) -> ArrayMeta:
        """From `folder/zarr.json`.

        Raises:
            DamagedArray: if it is missing or not one that this code wrote.
        """
        path = folder / "zarr.json"
        text = files.read(path)
        try:
            return cls._from_json(json.loads(text))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DamagedArray(f"{path} does not describe an array of a stepscope store ({error})") from error

    @classmethod
    def _from_json(cls, node: dict[str, Any]) -> ArrayMeta:
        codec = node["codecs"][0]
        sharded = codec["name"] == "sharding_indexed"
        inner = [part["name"] for part in codec["configuration"]["codecs"]] if sharded else []
        meta = cls(
            dims=tuple(node["dimension_names"]),
            shape=tuple(node["shape"]),
            dtype=node["data_type"],
            shard=tuple(node["chunk_grid"]["configuration"]["chunk_shape"]),
            chunk=tuple(codec["configuration"]["chunk_shape"]) if sharded else None,
            codec=inner[1] if len(inner) > 1 else "none",
            attributes=node["attributes"],
        )
        if json.loads(meta.to_json()) != node:
            raise ValueError("it uses parts of Zarr that stepscope does not write")
        if meta.encoding not in get_args(Encoding):
            raise ValueError(f"its encoding {meta.encoding!r} is unknown")
        return meta


def group_json(attributes: Json) -> bytes:
    """A Zarr v3 group's `zarr.json`."""
    return _dump({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def read_group(folder: Location) -> dict[str, Any]:
    """A group's attributes.

    Raises:
        DamagedArray: if its `zarr.json` is missing or none.
    """
    path = folder / "zarr.json"
    text = files.read(path)
    try:
        return json.loads(text)["attributes"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedArray(f"{path} does not describe a group of a stepscope store ({error})") from error


def _dump(node: dict[str, Any]) -> bytes:
    return json.dumps(node, allow_nan=False, indent=1).encode()


def label_dtype(values: NDArray[Any]) -> str:
    """The data type in which coordinate `values` are kept: int64, float64, bool or string.

    Raises:
        ValueError: for anything else.
    """
    kinds = {"i": "int64", "u": "int64", "f": "float64", "b": "bool", "U": STRING, "T": STRING}
    if values.dtype.kind not in kinds:
        raise ValueError(f"coordinates are numbers, booleans or text, not {values.dtype}")
    return kinds[values.dtype.kind]
