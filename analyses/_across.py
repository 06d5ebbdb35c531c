"""Cells (steps, layers, heads) compared over samples: which stand above nothing, and the best of them without flattery.

Shapes: s samples, first axis; the others are cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]


def above_zero(by_sample: NDArray[Any]) -> Floats:
    """One-sided p value of a Student t test that the mean over samples is above 0, for each cell.

    Args:
        by_sample: `[s, …]`; NaN is a sample without a value.

    Returns:
        `[…]`; 1 where fewer than two samples have a value, or where nothing varies and the mean is not above 0.
    """
    values = by_sample.astype(np.float64)
    count = np.isfinite(values).sum(axis=0)
    enough = count > 1
    some = np.where(enough, values, 0)
    mean = np.nanmean(some, axis=0)
    spread = np.sqrt(np.nansum((some - mean) ** 2, axis=0) / np.maximum(count - 1, 1))
    error = np.maximum(spread / np.sqrt(np.maximum(count, 1)), np.finfo(np.float64).tiny)
    return np.where(enough, stats.t.sf(mean / error, np.maximum(count - 1, 1)), 1.0)


def chosen_by_others(by_sample: NDArray[Any]) -> NDArray[np.intp]:
    """For each sample, the cell in which the *other* half of the samples is best, so that noise cannot confirm itself.

    Every second sample makes a half (they are sorted by their ids, which are hashes); one sample chooses for itself.

    Args:
        by_sample: `[s, cells]`.
    """
    half = np.arange(len(by_sample)) % 2
    choosing = [by_sample[half != mine] if (half != mine).any() else by_sample for mine in (0, 1)]
    best = [int(np.nanargmax(np.nanmean(rows, axis=0))) for rows in choosing]
    return np.array(best)[half]
