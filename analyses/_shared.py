"""Two groups of runs on the samples that they share: paired differences of what each run says of itself."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr

from analyses._result import Result
from analyses._stats import SAMPLE, per_sample
from analyses.experiments._paired import INTERVAL, Interval, interval
from store import dims

BY_RUN: Final = "_by_run"
MOST_PARTS: Final = 4
"""Labels of a further axis (metrics) that get a difference each, at most."""
DIFFERENCE_INTERVAL: Final = INTERVAL
"""How the interval of a difference is made, for captions."""


class Difference(NamedTuple):
    """What one number is more in the other group than in the first."""

    name: str
    """Of the quantity, and its part: `final_score, answer`."""
    over: Interval
    """Mean, ends and n of the samples that both have a value for; n is 0 where they share none."""


def paired(first: Result, other: Result) -> list[Difference]:
    """The differences `other - first` of every quantity that both results know of each run as one number.

    Runs of a sample (its seeds) are averaged first; a sample counts where both groups have a value for it. A quantity
    with one further named axis (a metric) gives a difference for each label that both have.

    Args:
        first: Result of the group that the other is compared with.
        other: A result of the same analysis, of other runs.
    """
    mine, yours = (_by_sample(result.to_dataset()) for result in (first, other))
    found: list[Difference] = []
    for name, values in mine.items():
        if name in yours:
            one, two = xr.align(values, yours[name], join="inner")
            found.append(Difference(name, interval((two - one).to_numpy().astype(np.float64))))
    return found


def _by_sample(data: xr.Dataset) -> dict[str, xr.DataArray]:
    """`[sample]` of each such quantity, by its name."""
    found: dict[str, xr.DataArray] = {}
    for key in sorted(map(str, data.data_vars)):
        array = data[key]
        further = [str(dim) for dim in array.dims if dim != dims.RUN]
        if not key.endswith(BY_RUN) or dims.RUN not in array.dims or "sample_id" not in array.coords:
            continue
        name = key.removesuffix(BY_RUN)
        if not further:
            found[name] = _averaged(array)
        elif len(further) == 1 and _names(array, further[0]):
            for label in array[further[0]].to_numpy().tolist():
                found[f"{name}, {label}"] = _averaged(array.sel({further[0]: label}, drop=True))
    return found


def _names(array: xr.DataArray, dim: str) -> bool:
    """Whether an axis has a few labels that are words: steps and candidates of a sample are no quantities."""
    labels: Any = array.coords.get(dim)
    return labels is not None and labels.dtype.kind not in "iuf" and labels.size <= MOST_PARTS


def _averaged(array: xr.DataArray) -> xr.DataArray:
    return per_sample(array.compute().astype(np.float64)).transpose(SAMPLE)
