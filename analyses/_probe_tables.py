"""From scores and what samples contribute to them, to quantities with intervals and to verdicts.

Shapes: l labels, g the axes of the grid, s samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from analyses._features import Grid
from analyses._probe_grid import Cells, Plan
from analyses._probe_labels import Label
from analyses._probe_scores import INTERVAL, above_chance, difference_interval, interval, positive
from analyses._registry import Verdict
from store import dims

LABEL: Final = "label"
"""Axis of what is probed."""
TARGET: Final = "target"
"""Axis of directions: a class of a label, or a number."""
FALSE_RATE: Final = 0.05
"""Of the cells called decodable, the share that may be false (Benjamini and Hochberg 1995)."""
RULED_OUT: Final = 0.1
"""A gain over chance whose interval ends below this in every cell is too small to speak of."""
_UNITS: Final = "accuracy, or R² of a number"


class Scored(NamedTuple):
    """Scores with what each sample contributes, labels first."""

    value: NDArray[np.float64]
    """`[l, …]`"""
    pull: NDArray[np.float32]
    """`[l, …, s]`"""

    def minus(self, other: Scored) -> Scored:
        """The differences; axes that the other lacks are added behind its own."""
        missing = self.value.ndim - other.value.ndim
        value = other.value.reshape(*other.value.shape, *[1] * missing)
        pull = other.pull.reshape(*other.value.shape, *[1] * missing, -1)
        return Scored(self.value - value, self.pull - pull)

    def at(self, label: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Value and pull of one label."""
        return self.value[label], self.pull[label]


def scored(value: NDArray[np.float32], pull: NDArray[np.float32]) -> Scored:
    """Labels moved to the front."""
    return Scored(np.moveaxis(value.astype(np.float64), -1, 0), np.moveaxis(pull, -2, 0))


def tables(plan: Plan, grid: Grid, cells: Cells, *, latent: Cells | None, prompt: Cells) -> dict[str, xr.DataArray]:
    """Every quantity of the analysis by name."""
    axes = (LABEL, *grid.labels)
    score, control = scored(cells.score, cells.pull), scored(cells.control, cells.control_pull)
    chance = np.array([label.chance for label in plan.labels])
    gain = Scored(score.value - chance.reshape(-1, *[1] * (score.value.ndim - 1)), score.pull)
    text = scored(prompt.score, prompt.pull)
    found = _table(plan, "score", score, axes, "held-out score of the probe", interval)
    found |= _table(plan, "gain", gain, axes, "score minus chance", _gain_interval)
    found |= _table(plan, "selectivity", score.minus(control), axes, "score minus that of labels drawn by lot")
    found |= _table(
        plan, "prompt_score", text, (LABEL,), "score of the same probe on the words of the prompt", interval
    )
    found |= _table(plan, "over_prompt", score.minus(text), axes, "score minus that on the words of the prompt")
    found |= _table(plan, "best_score", _best(score), (LABEL,), "score in the cell that other samples chose", interval)
    if latent is not None:
        base = scored(latent.score, latent.pull)
        at_step = (LABEL, dims.STEP)
        found |= _table(plan, "latent_score", base, at_step, "score of the same probe on the step's latent", interval)
        found |= _table(plan, "over_latent", score.minus(base), axes, "score minus that on the step's latent")
    found["control_score"] = _plain(control.value, axes, "score of the probe on labels drawn by lot", _UNITS)
    found["chance"] = _plain(chance, (LABEL,), "share of the most frequent class, 0 for a number", _UNITS)
    found["penalty"] = _plain(
        np.moveaxis(cells.penalty, -1, 0), axes, "ridge penalty of the fit to all runs", "squared length of a row"
    )
    found["decodable"] = _plain(
        decodable(plan.labels, score, control), axes, "above chance and above the control task", "1 = yes"
    )
    return found | _directions(plan, grid, cells)


def decodable(labels: tuple[Label, ...], score: Scored, control: Scored) -> NDArray[np.int8]:
    """Cells in which a label is above chance and above its control task, at `FALSE_RATE` over its cells."""
    found = np.zeros(score.value.shape, np.int8)
    against = score.minus(control)
    for at, label in enumerate(labels):
        worse = np.maximum(above_chance(*score.at(at), label), positive(*against.at(at), label))
        found[at] = (stats.false_discovery_control(worse.ravel()) <= FALSE_RATE).reshape(worse.shape)
    return found


def verdict(decodable: NDArray[np.int8], gain_high: NDArray[np.float64]) -> Verdict:
    """Of one label, by the rule that `probes` states."""
    if decodable.any():
        return "replicates"
    return "does not replicate" if (gain_high < RULED_OUT).all() else "inconclusive"


def _best(score: Scored) -> Scored:
    """Each half of the samples is judged in the cell in which the other half scores best `[l]`."""
    labels, samples = len(score.value), score.pull.shape[-1]
    each = (score.value[..., None] + score.pull).reshape(labels, -1, samples)
    half = np.arange(samples) % 2  # samples are sorted by their ids, which are hashes
    chosen = np.stack([each[..., half != mine].mean(axis=-1).argmax(axis=-1) for mine in (0, 1)])  # [half, l]
    values = np.empty((labels, samples))
    for at in range(labels):
        values[at] = each[at, chosen[half, at], np.arange(samples)]
    mean = values.mean(axis=-1)
    return Scored(mean, (values - mean[:, None]).astype(np.float32))


_Ends = Callable[[NDArray[np.float64], NDArray[np.float32], Label], NDArray[np.float64]]


def _gain_interval(value: NDArray[np.float64], pull: NDArray[np.float32], label: Label) -> NDArray[np.float64]:
    return interval(value + label.chance, pull, label) - label.chance


def _table(
    plan: Plan, name: str, scores: Scored, axes: tuple[str, ...], long_name: str, ends: _Ends = difference_interval
) -> dict[str, xr.DataArray]:
    both = np.stack([ends(*scores.at(at), label) for at, label in enumerate(plan.labels)], axis=1)
    samples = scores.pull.shape[-1]
    attrs = {"long_name": long_name, "units": _UNITS, "n": samples, "interval": INTERVAL}
    half = (both[1] - both[0]) / 2
    relative = np.abs(half / np.where(scores.value == 0, np.nan, scores.value))
    if np.isfinite(relative).any():
        attrs["typical_half_width"] = float(np.nanmedian(relative))
    parts = {name: scores.value, f"{name}_low": both[0], f"{name}_high": both[1]}
    return {key: xr.DataArray(values, dims=axes, attrs=attrs) for key, values in parts.items()}


def _plain(values: NDArray[Any], axes: tuple[str, ...], long_name: str, units: str) -> xr.DataArray:
    return xr.DataArray(values, dims=axes, attrs={"long_name": long_name, "units": units})


def _directions(plan: Plan, grid: Grid, cells: Cells) -> dict[str, xr.DataArray]:
    if not plan.directions:
        return {}
    axes = (TARGET, *grid.labels)
    return {
        "direction": _plain(
            np.moveaxis(cells.direction, -2, 0), (*axes, dims.CHANNEL), "unit vector along which the probe reads", "1"
        ),
        "direction_scale": _plain(
            np.moveaxis(cells.scale, -1, 0), axes, "deviation of the runs along it", "activation"
        ),
        "direction_shift": _plain(
            np.moveaxis(cells.shift, -1, 0), axes, "difference along it for one unit more of the target", "activation"
        ),
    }
