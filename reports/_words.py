"""The sentences of captions and alternative texts, made from a result's attributes and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import shorten

import numpy as np
import xarray as xr

from store import Json


def behind(quantity: xr.DataArray, *, over: str = "", mark: str = "band") -> str:
    """`Mean over steps and n = 6 samples; band: 95 % …`, from the attributes of a quantity.

    Args:
        quantity: A quantity with an interval.
        over: What it is a mean of beside the samples, e.g. `steps`.
        mark: What shows the interval in the figure.
    """
    n = int(quantity.attrs["n"])
    return f"{_mean(n, over)}; {mark}: {quantity.attrs['interval']}." if n > 1 else f"{_mean(n, over)}, so no interval."


def typical(quantity: xr.DataArray, *, over: str = "") -> str:
    """The same for a dense figure, whose intervals are told by their typical width."""
    n = int(quantity.attrs["n"])
    width = quantity.attrs.get("typical_half_width")
    if n < 2:
        return f"{_mean(n, over)}, so no interval."
    text = f"{_mean(n, over)}; {quantity.attrs['interval']}"
    return f"{text}: ± {percent(float(width))} of the mean in the median cell." if width is not None else f"{text}."


def _mean(n: int, over: str) -> str:
    return f"Mean over {over}{', then over ' if over else ''}n = {some(n, 'sample')}"


def some(count: int, noun: str) -> str:
    """`1 run`, `6 runs`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def change(interventions: Sequence[Json]) -> str:
    """Interventions in a few words, `noise at step, matched, steps 2`; `clean` without any."""
    return " + ".join(_one_change(one) for one in interventions) or "clean"


def _one_change(intervention: Json) -> str:
    words = [str(intervention.get("kind", "changed")).replace("_", " ")]
    for name, value in sorted(intervention.items()):
        if name == "kind" or value in (None, False) or isinstance(value, dict):
            continue
        listed = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append(name if value is True else f"{name} {listed}")
    return shorten(", ".join(words), 60, placeholder="…")


def percent(fraction: float) -> str:
    """A fraction with two digits that count: `0.4 %`, `12 %`."""
    value = 100 * fraction
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{value:.2g} %"


def quantity_with_interval(one: xr.Dataset, name: str) -> str:
    """`0.83 (0.67 to 1.00)` of a quantity at one place, without the brackets where there is no interval."""
    mean, low, high = (float(one[name + end]) for end in ("", "_low", "_high"))
    return f"{mean:.2f} ({low:.2f} to {high:.2f})" if math.isfinite(low) else f"{mean:.2f}"


def ends(quantity: xr.DataArray, dim: str) -> str:
    """`from 1.00 at step 0 to 0.00 at step 19, largest 1.00 at step 0`, of a quantity with one axis."""
    values, labels = quantity.to_numpy(), quantity[dim].to_numpy()
    known = [i for i, value in enumerate(values) if math.isfinite(value)]
    if not known:
        return "without values"
    first, last, most = known[0], known[-1], max(known, key=lambda i: values[i])
    return (
        f"from {values[first]:.3g} at {dim} {labels[first]} to {values[last]:.3g} at {dim} {labels[last]}, "
        f"largest {values[most]:.3g} at {dim} {labels[most]}"
    )


def extremes(quantity: xr.DataArray, *, rows: str, columns: str) -> str:
    """Where a dense figure is smallest and largest: `smallest 1.2 at layer 0, frame 3; largest …`."""
    values = quantity.transpose(rows, columns).to_numpy()
    if not np.isfinite(values).any():
        return "without values"
    told: list[str] = []
    for word, find in (("smallest", np.nanargmin), ("largest", np.nanargmax)):
        row, column = np.unravel_index(int(find(values)), values.shape)
        place = f"{rows} {quantity[rows].to_numpy()[row]}, {columns} {quantity[columns].to_numpy()[column]}"
        told.append(f"{word} {values[row, column]:.3g} at {place}")
    return "; ".join(told)
