"""How numbers are kept: exactly, or in one byte each with a scale for every channel of every frame.

A lossy array holds small numbers, and the array `<reduction>_scale` beside it holds one float32 for each frame and
channel (each place along all axes but `y` and `x`): value = number × scale. Channels of a DiT differ a hundredfold, so
a scale that they share would lose the small ones (measured: docs/store-format.md). `int8` rounds to 127 steps on each
side of zero, the better choice unless tails matter; `float8` (e4m3) keeps 3 bits of every number, however small.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from store import bfloat16, dims
from store.records import Encoding

WITHIN: Final = (dims.Y, dims.X)
"""Axes along which numbers share a scale."""

FLOATS: Final = ("float16", "float32", "float64", bfloat16.NAME)
"""Data types that a lossy encoding takes."""

_STORED: Final[dict[Encoding, str]] = {"int8": "int8", "float8": "uint8"}
LARGEST: Final[dict[Encoding, float]] = {"int8": 127.0, "float8": 448.0}
"""The number that the largest value of a channel becomes."""

_PIECE: Final = 1 << 15
NOT_FINITE: Final[dict[Encoding, int]] = {"int8": -128, "float8": 0x7F}
"""The number of what is not finite."""


class Quantised(NamedTuple):
    """One chunk in a lossy encoding."""

    numbers: NDArray[Any]
    """int8, or the bits of e4m3 as uint8; the chunk's shape."""
    scale: NDArray[np.float32]
    """The same shape with a length of 1 along `y` and `x`."""


def needs(chunk: NDArray[Any]) -> int:
    """Bytes that keeping a chunk in a lossy encoding takes at most: three float32 a value, and the number twice."""
    return 14 * chunk.size


def stored_dtype(encoding: Encoding) -> str:
    """The data type of the Zarr array that holds the numbers of a lossy encoding."""
    return _STORED[encoding]


def to_float32(values: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """Values of a float dtype as float32; bfloat16 from its bits."""
    return bfloat16.to_float32(values) if dtype == bfloat16.NAME else values.astype(np.float32, copy=False)


def quantise(encoding: Encoding, values: NDArray[np.float32], axes: tuple[int, ...]) -> Quantised:
    """Round `values` to numbers of one byte.

    Args:
        encoding: `int8` or `float8`.
        values: One chunk.
        axes: Those of `y` and `x`.

    Returns:
        Numbers and scales. What is not finite becomes NaN, and does not count for the scale.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        largest = np.maximum(values.max(axis=axes, keepdims=True), -values.min(axis=axes, keepdims=True))
        if not (whole := bool(np.isfinite(largest).all())):
            finite = np.where(np.isfinite(values), values, np.float32(0))
            largest = np.abs(finite).max(axis=axes, keepdims=True)
            del finite  # as large as the chunk
        scale = (largest / np.float32(LARGEST[encoding])).astype(np.float32)
        # By division, so that the largest number is hit exactly; subnormal scales would overflow their reciprocal.
        ratio = np.divide(values, np.where(scale > 0, scale, np.float32(1)))
        numbers = np.empty(values.shape, _STORED[encoding])
        rounded = _round_int8 if encoding == "int8" else _round_float8
        flat, target = ratio.reshape(-1), numbers.reshape(-1)
        for start in range(0, len(flat), _PIECE):  # what it makes on the way stays in the processor's cache
            target[start : start + _PIECE] = rounded(flat[start : start + _PIECE])
    if not whole:
        numbers[~np.isfinite(values)] = NOT_FINITE[encoding]
    return Quantised(numbers, scale)


def restore(encoding: Encoding, numbers: NDArray[Any], scale: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Fill `out` with number × scale.

    Args:
        encoding: `int8` or `float8`.
        numbers: As `quantise` made them.
        scale: Of a shape that broadcasts to theirs.
        out: Of their shape.
    """
    if encoding == "float8":
        np.take(float8_values(), numbers, out=out, mode="clip")
        np.multiply(out, scale, out=out)
        return
    np.multiply(numbers, scale, out=out, casting="unsafe")
    if numbers.size and numbers.min() == NOT_FINITE["int8"]:
        out[numbers == NOT_FINITE["int8"]] = np.nan


@cache
def float8_values() -> NDArray[np.float32]:
    """What the 256 bit patterns of e4m3 (bias 7, no infinities, NaN where all seven low bits are set) stand for."""
    bits = np.arange(256)
    exponent, mantissa = bits >> 3 & 15, bits & 7
    values = np.where(exponent > 0, np.ldexp(8.0 + mantissa, exponent - 10), np.ldexp(1.0 * mantissa, -9))
    values[(bits & 0x7F) == NOT_FINITE["float8"]] = np.nan
    return np.where(bits & 0x80, -values, values).astype(np.float32)


def _round_int8(ratio: NDArray[np.float32]) -> NDArray[np.int8]:
    np.rint(ratio, out=ratio)
    np.clip(ratio, -127, 127, out=ratio)
    return ratio.astype(np.int8)


def _round_float8(ratio: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Nearest e4m3 number, ties to even, never beyond the largest."""
    bits = ratio.view(np.uint32)
    sign = (bits >> 24).astype(np.uint8) & np.uint8(0x80)
    size = np.minimum(np.abs(ratio), np.float32(LARGEST["float8"]))
    small = size < 2.0**-6  # below the smallest normal number, steps are equal
    steps = np.rint(size * np.float32(512)).astype(np.uint8, casting="unsafe")
    bits = size.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFFF) + (bits >> 20 & np.uint32(1))) >> 20
    # float32 counts its exponent from 127, e4m3 from 7.
    return np.where(small, steps, (rounded - np.uint32(120 << 3)).astype(np.uint8)) | sign
