"""What an exploration result says of single runs: the candidates that x̂0 holds, by step."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from reports._section import Context, Curve, Curves, Readout
from store import dims

MOST: Final = 3
"""Candidates that are drawn under a pane: as many as there are series colours."""
_READINGS: Final = (
    ("evidence_by_run", "answer", "evidence of each valid answer"),
    ("component_weight_by_run", "component", "weight of each component"),
)
"""Quantity, its axis of candidates, and what it is: known answers before parts that nobody named."""


class Evidence(NamedTuple):
    """The candidates of one run."""

    curves: Curves
    strongest: Readout
    """Which one is strongest at each step, and how strong."""


def by_run(context: Context) -> dict[str, xr.Dataset]:
    """Datasets of the page's exploration results, by the runs that they hold."""
    found: dict[str, xr.Dataset] = {}
    for result in context.of("exploration"):
        data = result.to_dataset()[[name for name, *_ in _READINGS if name in result.to_dataset()]].compute()
        found |= {str(run): data for run in data[dims.RUN].to_numpy()}
    return found


def evidence(data: xr.Dataset, run_id: str, steps: NDArray[np.int64]) -> Evidence | None:
    """The strongest candidates of a run at the shown steps; None where the result has none for it.

    Args:
        data: Of an `exploration` result that holds the run.
        run_id: The run.
        steps: The steps that are shown, `[step]`.
    """
    for name, axis, words in _READINGS:
        if name not in data:
            continue
        values = data[name].sel(run=run_id).reindex({dims.STEP: steps}).transpose(dims.STEP, axis).to_numpy()
        held = [at for at in range(values.shape[1]) if np.isfinite(values[:, at]).any()]
        chosen = sorted(sorted(held, key=lambda at: -float(np.nanmax(values[:, at])))[:MOST])
        if chosen:
            labels = [f"{axis} {data[axis].to_numpy()[at]}" for at in chosen]
            return _drawn(values[:, chosen], labels, words)
    return None


def _drawn(values: NDArray[np.float64], labels: list[str], words: str) -> Evidence:
    curves = tuple(Curve(label, tuple(values[:, at].astype(float).tolist())) for at, label in enumerate(labels))
    top = max(1.0, float(np.nanmax(values)))
    texts = tuple(_strongest(row, labels) for row in values)
    return Evidence(Curves(words, curves, top), Readout("strongest", texts))


def _strongest(row: NDArray[np.float64], labels: list[str]) -> str:
    if not np.isfinite(row).any():
        return "–"
    at = int(np.nanargmax(row))
    return f"{labels[at]} ({row[at]:.2f})" if math.isfinite(row[at]) else "–"
