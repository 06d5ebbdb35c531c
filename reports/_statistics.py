"""Every number of the page's results that has a layer and a step, as one grid each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from analyses import Result
from reports._again import python
from reports._colours import coloured, palette
from reports._media import map_sheet
from reports._section import Context, Statistic
from reports._words import typical
from store import dims

FIRST: Final = "energy"
"""Analysis whose grids stand first."""
MOST: Final = 24
"""Grids on a page, at most."""
MOST_PARTS: Final = 6
"""Grids of one quantity, which may have a further axis (kind, label, …), at most."""
_PLANE: Final = {dims.STEP, dims.LAYER}


def statistics(context: Context) -> tuple[Statistic, ...]:
    """Those of all results, energy first, as far as the page's weight goes."""
    names = dict.fromkeys(result.record.analysis for result in context.results)
    found: list[Statistic] = []
    for analysis in sorted(names, key=lambda name: name != FIRST):
        for result in context.of(analysis):
            name = context.name(result)
            found += [
                one
                for one in _of(result, f", {name}" if name else "")
                if len(found) < MOST and context.afford(one.nbytes)
            ]
    return tuple(found[:MOST])


def _of(result: Result, of: str) -> Iterator[Statistic]:
    data = result.to_dataset()
    for name in sorted(map(str, data.data_vars), key=lambda name: (name != "energy_by_step", name)):
        quantity = data[name]
        if name.endswith(("_low", "_high")) or not set(quantity.dims) >= _PLANE or quantity.dtype.kind != "f":
            continue
        others = [str(dim) for dim in quantity.dims if dim not in _PLANE]
        if min(quantity.sizes[dim] for dim in _PLANE) < 2 or _parts(quantity, others) > MOST_PARTS:
            continue
        for places in product(*(range(quantity.sizes[dim]) for dim in others)):
            at = dict(zip(others, places, strict=True))
            labels = [str(quantity[dim].to_numpy()[place]) for dim, place in at.items()]
            yield from _statistic(result, name, at, labels, of)


def _parts(quantity: xr.DataArray, others: list[str]) -> int:
    return math.prod(quantity.sizes[dim] for dim in others)


def _statistic(result: Result, name: str, at: dict[str, int], labels: list[str], of: str) -> Iterator[Statistic]:
    data = result.to_dataset()
    quantity = data[name]
    values, low, high = (_plane(data, f"{name}{end}", at) for end in ("", "_low", "_high"))
    if values is None or not np.isfinite(values).any():
        return
    shown, scale = coloured(values)
    words = str(quantity.attrs.get("long_name", name.replace("_", " ")))
    title = ": ".join([result.record.analysis, ", ".join([words, *labels])]) + of
    yield Statistic(
        id=":".join([result.id[:6], name, *labels]),
        name=title,
        units=str(quantity.attrs.get("units", "")),
        caption=typical(quantity) if {"n", "interval"} <= set(quantity.attrs) else "No interval.",
        steps=tuple(map(int, quantity[dims.STEP].to_numpy())),
        layers=tuple(map(int, quantity[dims.LAYER].to_numpy())),
        values=_rows(values),
        low=_rows(low),
        high=_rows(high),
        picture=map_sheet(shown[None, None, ::-1], palette()),
        scale=scale,
        python=python(result, [name]),
    )


def _plane(data: xr.Dataset, name: str, at: dict[str, int]) -> NDArray[np.float64] | None:
    """`[layer, step]`; None if the result has no such quantity."""
    if name not in data:
        return None
    return data[name].isel(at).transpose(dims.LAYER, dims.STEP).to_numpy().astype(np.float64)


def _rows(values: NDArray[np.float64] | None) -> tuple[tuple[float | None, ...], ...]:
    """Numbers with four digits that count; None where there is none."""
    if values is None:
        return ()
    return tuple(tuple(float(f"{one:.4g}") if math.isfinite(one) else None for one in row) for row in values.tolist())
