"""Lossy encodings made on the device, bit for bit those of `store.encodings`.

What leaves a GPU then is half of a bfloat16, and no core of the host is busy with rounding, which took three times as
long as the model itself where all layers of a full-size transformer were kept (docs/benchmarks.md).
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from interp.planning import ArrayPlan
from store import dims
from store.encodings import LARGEST, NOT_FINITE
from store.records import Encoding

Tensor = torch.Tensor


class Quantised(NamedTuple):
    """One cell in a lossy encoding, on the device or on its way."""

    numbers: Tensor
    """int8, or the bits of e4m3 as uint8; the cell's shape."""
    scale: Tensor
    """float32, the same shape with a length of 1 along `y` and `x`."""

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.numbers.nbytes + self.scale.nbytes


def encoded(plan: ArrayPlan, cell: Tensor) -> Tensor | Quantised:
    """What leaves the device of a cell of each run, `[b, …]`: the cell, or its numbers where its array is a lossy one.

    Small cells, and those on a CPU, are left to the store.
    """
    if plan.encoding == "exact" or not plan.reduction.by_cell or cell.device.type == "cpu":
        return cell
    return quantise(plan.encoding, cell, within(plan))


def within(plan: ArrayPlan) -> tuple[int, ...]:
    """The axes `y` and `x` of a cell `[b, …]`."""
    return tuple(axis for axis, name in enumerate(plan.reduction.dims, start=1) if name in (dims.Y, dims.X))


def quantise(encoding: Encoding, values: Tensor, axes: tuple[int, ...]) -> Quantised:
    """As `store.encodings.quantise`, without waiting for the device.

    Args:
        encoding: `int8` or `float8`.
        values: Floats of any dtype.
        axes: Those of `y` and `x`. What lies before them is taken one by one, so that what is made on the way stays
            small.
    """
    lead = min(axes)
    if not lead:
        return _quantise(encoding, values, axes)
    inner = tuple(axis - lead + 1 for axis in axes)
    parts = [_quantise(encoding, part, inner) for part in values.flatten(0, lead - 1).split(1)]
    return Quantised(*(torch.cat(each).unflatten(0, values.shape[:lead]) for each in zip(*parts, strict=True)))


def _quantise(encoding: Encoding, values: Tensor, axes: tuple[int, ...]) -> Quantised:
    lost = values.isfinite().logical_not_()
    finite = values.masked_fill(lost, 0)
    largest = torch.linalg.vector_norm(finite, ord=torch.inf, dim=axes, keepdim=True, dtype=torch.float32)
    scale = largest / LARGEST[encoding]
    ratio = finite.float().div_(torch.where(scale > 0, scale, 1.0))
    if encoding == "int8":
        numbers = ratio.round_().clamp_(-127, 127).to(torch.int8)
    else:
        numbers = ratio.clamp_(-LARGEST[encoding], LARGEST[encoding]).to(torch.float8_e4m3fn).view(torch.uint8)
    return Quantised(numbers.masked_fill_(lost, NOT_FINITE[encoding]), scale)
