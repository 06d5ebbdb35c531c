"""Numbers as words for findings: a mean with its interval, and how many samples and runs stand behind it."""

from __future__ import annotations

import math

import xarray as xr


def percent(mean: float, low: float, high: float) -> str:
    """A fraction as `23 % (18 to 28 %)`, without the brackets where there is no interval."""
    return with_interval(100 * mean, 100 * low, 100 * high, unit=" %", digits=0)


def with_interval(mean: float, low: float, high: float, *, unit: str = "", digits: int = 1) -> str:
    """A mean as `4.2 (3.1 to 5.3)`, without the brackets where there is no interval."""
    text = f"{mean:.{digits}f}{unit}"
    return f"{text} ({low:.{digits}f} to {high:.{digits}f}{unit})" if math.isfinite(low) else text


def counts(*, samples: int, runs: int) -> str:
    """`n = 6 samples, 12 runs`, and whether the brackets are an interval."""
    interval = "brackets: 95 % interval over samples" if samples > 1 else "one sample, so no interval"
    return f"n = {some(samples, 'sample')}, {some(runs, 'run')}; {interval}"


def some(count: int, noun: str) -> str:
    """`1 run`, `6 runs`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def finite(value: float) -> float | None:
    """A number that JSON can hold: None for NaN and infinity."""
    return float(value) if math.isfinite(value) else None


def triple(data: xr.Dataset, name: str) -> tuple[float, float, float]:
    """Mean, lower and upper end of a quantity without axes."""
    return float(data[name]), float(data[f"{name}_low"]), float(data[f"{name}_high"])
