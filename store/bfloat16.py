"""bfloat16: NumPy holds the bits as uint16, and readers get float32."""

from __future__ import annotations

from typing import Any, Final

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

NAME: Final = "bfloat16"
"""The data type's name in Zarr and in `ArrayInfo.dtype`."""


def to_float32(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The values that `bits` stand for, exactly: bfloat16 is the upper half of float32."""
    return numbers(bits).astype(np.float32)


def numbers(bits: NDArray[np.uint16]) -> NDArray[Any]:
    """The same memory as numbers, which NumPy widens twice as fast as it shifts bits."""
    return bits.view(ml_dtypes.bfloat16)


def numpy_dtype(name: str) -> np.dtype[Any]:
    """How NumPy holds values of a data type of Zarr: little-endian, bfloat16 as its bits."""
    return np.dtype("<u2") if name == NAME else np.dtype(name).newbyteorder("<")
