"""How often exchanges flip the answer, by arm and unit: rates with intervals, and tests against a stranger's states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr

from analyses._stats import wilson
from analyses._words import finite
from analyses.experiments import _paired
from analyses.experiments._exchange import PARTS, RESID, Labels
from analyses.experiments._exchanged import Outcome, Read
from analyses.experiments._outcomes import ARM
from analyses.experiments._paired import Float, Interval
from store import Json, Sample, StepInfo

UNIT: Final = "sample"
"""Axis of what is independent: samples, of twins the first of each pair."""
FEWEST: Final = _paired.FEWEST
"""Units below which nothing is decided."""
_TOLD: Final = {
    "flip": ("share of runs that end in the donor's answer", "share"),
    "kept": ("share of runs that still end in their own answer", "share"),
    "margin": ("evidence of the donor's answer less that of the own one", "evidence"),
    "recovered": ("evidence of the donor's answer, from the clean run (0) to the donor (1)", "share"),
}


class Flips(NamedTuple):
    """Means over the runs of a unit, float64 `[arm, unit]`; NaN where an arm lacks a unit."""

    arms: tuple[Labels, ...]
    units: tuple[str, ...]
    values: dict[str, Float]
    """By the names of `_TOLD`, and `flip_forth` and `flip_back` where there are twins."""

    def at(self, name: str, **labels: Any) -> Float:
        """Mean over the arms with these labels, float64 `[unit]`; NaN where none has a value."""
        chosen = [at for at, arm in enumerate(self.arms) if all(getattr(arm, key) == labels[key] for key in labels)]
        return average(self.values[name][chosen])

    def control(self, arm: Labels) -> Float:
        """Flips under a stranger's states at the same place, float64 `[unit]`; NaN without one."""
        site = RESID if arm.part == "text" else arm.site
        wanted = arm._replace(part="stranger", site=site)
        if arm.part == "stranger" or wanted not in self.arms:
            return np.full(len(self.units), np.nan)
        return self.values["flip"][self.arms.index(wanted)]

    def gain(self, arm: Labels) -> Float:
        """Flips less those under a stranger's states, float64 `[unit]`."""
        return self.values["flip"][self.arms.index(arm)] - self.control(arm)


def average(rows: Float) -> Float:
    """Mean over rows, float64 `[column]`; NaN where no row has a value."""
    there = np.isfinite(rows)
    total = np.where(there, rows, 0).sum(axis=0)
    return np.divide(total, there.sum(axis=0), out=np.full(rows.shape[1], np.nan), where=there.any(axis=0))


def flips(outcomes: Sequence[Outcome]) -> Flips:
    """Outcomes as a table."""
    arms = tuple(sorted({one.arm for one in outcomes}, key=_order))
    units = tuple(sorted({one.exchange.unit for one in outcomes}))
    rows, columns = [arms.index(one.arm) for one in outcomes], [units.index(one.exchange.unit) for one in outcomes]

    def table(of: Callable[[Outcome], float]) -> Float:
        values = np.array([of(one) for one in outcomes], np.float64)
        return _paired.means(values, rows, columns, (len(arms), len(units)))

    values = {name: table(lambda one, name=name: float(getattr(one, name))) for name in _TOLD}
    if any(one.exchange.back for one in outcomes):
        values["flip_forth"] = table(lambda one: float("nan") if one.exchange.back else float(one.flip))
        values["flip_back"] = table(lambda one: float(one.flip) if one.exchange.back else float("nan"))
    return Flips(arms, units, values)


def _order(arm: Labels) -> tuple[Any, ...]:
    return PARTS.index(arm.part), *arm.cell


def dataset(found: Flips, steps: Sequence[StepInfo], samples: dict[str, Sample], *, headline: str) -> xr.Dataset:
    """The table as a result holds it: means over units with intervals, tests, labels as coordinates.

    Args:
        found: The table.
        steps: Of a clean run; each arm gets sigma and expert of its first step.
        samples: For family and difficulty of each unit.
        headline: The quantity that stands for the result.
    """
    info = {step.step: step for step in steps}
    columns: dict[str, Any] = {name: (ARM, [getattr(arm, name) for arm in found.arms]) for name in Labels._fields}
    columns |= {
        "sigma": (ARM, [info[arm.first_step].sigma for arm in found.arms]),
        "expert": (ARM, [info[arm.first_step].expert for arm in found.arms]),
        UNIT: list(found.units),
        "family": (UNIT, [samples[unit].record.family for unit in found.units]),
        "difficulty": (UNIT, [samples[unit].record.difficulty for unit in found.units]),
    }
    data: dict[str, Any] = {}
    for name, values in found.values.items():
        long_name, units = _TOLD[name.partition("_")[0]]
        side = {"flip_forth": ", into the sample", "flip_back": ", into its twin"}.get(name, "")
        data |= ranges(name, values, (ARM,), long_name=long_name + side, units=units)
    gains = np.array([found.gain(arm) for arm in found.arms])
    data |= ranges("gain", gains, (ARM,), long_name="flips less those under a stranger's states", units="share")
    p = p_values(found)
    for name in ("flip", "recovered"):
        told = {"long_name": _TOLD[name][0], "units": _TOLD[name][1]}
        data[f"{name}_by_sample"] = ((ARM, UNIT), found.values[name], told)
    data["effect_size"] = (ARM, [_paired.effect_size(row) for row in gains], {"long_name": "d_z of the gain"})
    data["p_value"] = (ARM, p, {"long_name": "p of no gain over a stranger's states, by flipping signs"})
    data["p_adjusted"] = (ARM, _paired.holm(p), {"long_name": f"the same, {_paired.CORRECTION} over all arms"})
    return xr.Dataset(data, coords=columns, attrs={"headline": headline})


def ranges(name: str, values: Float, dims: tuple[str, ...], *, long_name: str, units: str) -> dict[str, Any]:
    """Means over the last axis with their intervals, as `name`, `name_low` and `name_high` of a dataset.

    Args:
        name: Of the quantity.
        values: float64 `[*dims, unit]`.
        dims: Names of all axes but the last.
        long_name: In words.
        units: Of the quantity.
    """
    lead = values.shape[:-1]
    is_rate = name.partition("_")[0] == "flip"
    found = [(rate if is_rate else _paired.interval)(row) for row in values.reshape(-1, values.shape[-1])]
    method = f"{_paired.INTERVAL}; Wilson where all are 0 or all are 1" if is_rate else _paired.INTERVAL
    attrs = {"long_name": long_name, "units": units, "n": values.shape[-1], "interval": method}
    parts = (("mean", ""), ("low", "_low"), ("high", "_high"))
    return {
        name + suffix: (dims, np.array([getattr(one, part) for one in found], np.float64).reshape(lead), attrs)
        for part, suffix in parts
    }


def p_values(found: Flips) -> Float:
    """P of no gain over a stranger's states in each arm, float64 `[arm]`, not corrected; NaN without that control."""
    return np.array([_paired.p_value(found.gain(arm)) for arm in found.arms], np.float64)


def tests(found: Flips) -> Json:
    """How many arms were compared with their control, how many differ, and what corrects for their number."""
    corrected = _paired.holm(p_values(found))
    return {
        "comparisons": int(np.isfinite(corrected).sum()),
        "significant": int((corrected < 0.05).sum()),
        "correction": _paired.CORRECTION,
    }


def told(read: Read) -> Json:
    """What a summary says of how answers were read."""
    return {"left_out": read.wrong, "reading_agreement": finite(read.agreement)}


def rate(values: Float) -> Interval:
    """A share over units and its interval: Wilson's where all units say 0 or all say 1, since resamples do so, too."""
    kept = values[np.isfinite(values)]
    if len(kept) < 2 or not (np.all(kept == 0) or np.all(kept == 1)):
        return _paired.interval(values)
    return Interval(float(kept[0]), *wilson(int(kept.sum()), len(kept)), len(kept))
