"""bfloat16 for zarr-python, which does not know it: the values come as their bits, uint16.

Named in pyproject.toml as an entry point of zarr, so that plain `zarr.open` reads bfloat16 arrays wherever
stepscope is installed beside a zarr that looks for such entry points (3.4 does; 3.1.6, the last for Python
3.11, does not: there, call `zarr.dtype.data_type_registry.register("bfloat16", BFloat16)` first).
`store.bfloat16.to_float32` turns the bits into numbers; `load` does so by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from zarr.dtype import UInt16

from store import bfloat16


@dataclass(frozen=True, kw_only=True)
class BFloat16(UInt16):
    """Zarr's data type `bfloat16`, held by NumPy as uint16."""

    _zarr_v3_name: ClassVar[Any] = bfloat16.NAME
    _zarr_v2_names: ClassVar[Any] = ()

    @classmethod
    def _check_native_dtype(cls, dtype: object) -> Any:
        """Never inferred from NumPy: there, uint16 means whole numbers."""
        return False

    def from_json_scalar(self, data: object, *, zarr_format: object) -> np.uint16:
        """The bits of a fill value; rounded towards zero, which no fill value of ours needs."""
        return np.uint16(np.float32(str(data)).view(np.uint32) >> np.uint32(16))

    def to_json_scalar(self, data: object, *, zarr_format: object) -> Any:
        """A fill value's bits as the number that they stand for, or `NaN`, `Infinity`, `-Infinity`."""
        number = float(bfloat16.to_float32(np.array([data], np.uint16))[0])
        if np.isfinite(number):
            return number
        return "NaN" if np.isnan(number) else "Infinity" if number > 0 else "-Infinity"
