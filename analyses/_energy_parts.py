"""Energy by parts of the picture: classes of tokens, foreground against background, and how layers differ in it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np
import xarray as xr

from analyses._energy_kinds import KIND
from analyses._registry import Verdict
from analyses._stats import SAMPLE, bare, over_samples
from analyses._token_regions import CLASSES, FOREGROUND, REGION, TOKEN_CLASS
from store import dims

EARLY: Final = 0.25
"""Share of the depth whose layers are early: 0 to 9 of 40, as the paper says."""
MIN_SAMPLES: Final = 10
"""Samples with a foreground below which there is no verdict."""
MIN_LAYERS: Final = 4
"""Captured layers below which there is no verdict; one of them is early, one is not."""
RULED_OUT: Final = 0.05
"""A rise of the specialisation whose interval ends below this is too small to speak of: a foreground that is a tenth
brighter than the background."""
_RATIO: Final = "ratio"


class Layers(NamedTuple):
    """What is said about early and later layers."""

    verdict: Verdict | Literal["descriptive"]
    late: tuple[float, float, float]
    """Mean specialisation of later layers with its interval."""
    rise: tuple[float, float, float]
    """The same minus that of early layers."""
    n: int
    """Samples with a foreground."""


def quantities(parts: xr.DataArray) -> dict[str, xr.DataArray]:
    """Every quantity with its interval.

    Args:
        parts: Mean energy of each part in each frame, float64 `[sample, kind, step, layer, frame, region]`; NaN where a
            sample has no such part.
    """
    found = _classes(parts)
    own, elsewhere = (_contrast(parts, FOREGROUND[at], FOREGROUND[at + 1]) for at in (0, 2))
    if not bool(own.notnull().any()):
        return found
    found |= _exp(over_samples("foreground_ratio", _said(own, "foreground over background, geometric mean")))
    if not bool(elsewhere.notnull().any()):  # one sample alone
        return found
    found |= _exp(
        over_samples("foreground_ratio_elsewhere", _said(elsewhere, "the same where another sample has its foreground"))
    )
    index = specialisation(own, elsewhere)
    said = "normalised contrast of foreground and background, minus that of another sample's foreground"
    found |= over_samples("specialisation", _said(index, said, "−2 to 2"), bounds=(-2, 2))
    late, rise = late_and_rise(index)
    found |= over_samples("late_specialisation", _said(late, "specialisation, mean of later layers", "−2 to 2"))
    found |= over_samples("rise", _said(rise, "specialisation of later layers minus that of early ones", "−4 to 4"))
    return found


def specialisation(own: xr.DataArray, elsewhere: xr.DataArray) -> xr.DataArray:
    """How much more of the energy of a layer follows this sample's foreground than another's.

    The contrast of foreground f and background b, (f − b)/(f + b), is tanh(log(f/b)/2); here that of the own foreground
    minus that of another sample's, since objects keep to places that may be bright for other reasons.

    Args:
        own: log(f/b) `[…, step, layer]`.
        elsewhere: The same with the foreground of another sample.

    Returns:
        `[…, layer]`, mean over steps.
    """
    contrast = xr.apply_ufunc(np.tanh, own / 2) - xr.apply_ufunc(np.tanh, elsewhere / 2)
    return contrast.mean(dims.STEP, skipna=True)


def late_and_rise(index: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Mean of later layers, and that minus the mean of early ones, `[…]` from `[…, layer]`; NaN without both."""
    early = index[dims.LAYER] < EARLY * (index[dims.LAYER].max() + 1)
    late = index.where(~early).mean(dims.LAYER, skipna=True)
    return late, late - index.where(early).mean(dims.LAYER, skipna=True)


def judge(data: xr.Dataset) -> Layers | None:
    """The rule of `energy`, on raw energy; None where no two samples have a foreground."""
    if "rise" not in data:
        return None
    raw = data.sel({KIND: "raw"})
    late, rise = (tuple(float(raw[f"{name}{end}"]) for end in ("", "_low", "_high")) for name in _JUDGED)
    n = int(data["rise"].attrs["n"])
    if n < MIN_SAMPLES or data.sizes[dims.LAYER] < MIN_LAYERS or not np.isfinite(rise).all():
        verdict = "inconclusive"
    elif rise[1] > 0 and late[1] > 0:
        verdict = "replicates"
    else:
        verdict = "does not replicate" if rise[2] < RULED_OUT else "inconclusive"
    return Layers(verdict, (late[0], late[1], late[2]), (rise[0], rise[1], rise[2]), n)


_JUDGED: Final = ("late_specialisation", "rise")


def _classes(parts: xr.DataArray) -> dict[str, xr.DataArray]:
    """Energy of each class of tokens, and over that of interior tokens."""
    energy = parts.sel({REGION: list(CLASSES)}).mean((dims.STEP, dims.FRAME), skipna=True).rename({REGION: TOKEN_CLASS})
    named = _said(energy, "energy of a class of tokens, mean over steps, frames and tokens", "as its kind")
    found = over_samples("class_energy", named, bounds=(0, np.inf))
    means = parts.sel({REGION: list(CLASSES)}).mean(dims.FRAME, skipna=True).rename({REGION: TOKEN_CLASS})
    inside = means.sel({TOKEN_CLASS: CLASSES[-1]}, drop=True)
    ratio = _log(means.sel({TOKEN_CLASS: list(CLASSES[:-1])})) - _log(inside)
    said = _said(ratio.mean(dims.STEP, skipna=True), "energy of a class of tokens over that of interior ones")
    # Its own axis: the class that all are compared with is not on it.
    return found | _exp(over_samples("class_ratio", said.rename({TOKEN_CLASS: "compared"})))


def _contrast(parts: xr.DataArray, above: str, below: str) -> xr.DataArray:
    """Logarithm of the energy of one part over that of another, mean over frames with both, `[…, step, layer]`."""
    both = [parts.sel({REGION: name}, drop=True) for name in (above, below)]
    return (_log(both[0]) - _log(both[1])).mean(dims.FRAME, skipna=True)


def _log(energy: xr.DataArray) -> xr.DataArray:
    return xr.apply_ufunc(np.log, energy.where(energy > 0))


def _exp(arrays: dict[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Mean logarithms and their intervals as ratios."""
    found: dict[str, xr.DataArray] = {}
    for name, array in arrays.items():
        attrs = {key: value for key, value in array.attrs.items() if key != "typical_half_width"}
        found[name] = xr.apply_ufunc(np.exp, array).assign_attrs({**attrs, "units": _RATIO})
    name = next(iter(found))
    half = (found[f"{name}_high"] - found[f"{name}_low"]) / (2 * found[name])
    if bool(half.notnull().any()):
        for array in found.values():
            array.attrs["typical_half_width"] = float(half.median(skipna=True))
    return found


def _said(array: xr.DataArray, long_name: str, units: str = _RATIO) -> xr.DataArray:
    return bare(array).assign_attrs(long_name=long_name, units=units).transpose(SAMPLE, ...)
