"""How well a probe tells a label, with what each sample contributes, so that two scores can be compared in pairs.

The score of a class is accuracy, of a number R² against the mean over all samples; both are over samples, the runs of a
sample averaged first. Held-out predictions of two samples are not independent: each helps to train the probe that is
tried on the other, so under the null their hits go together. For a linear probe of two classes the variance of the
accuracy is at most 1 + 2/π times the binomial one (the sign of a margin whose pairs count twice), for R² twice; every
interval here is as wide as that. It is what keeps false positives at the nominal rate (tests/analyses/test_probes.py).

Shapes: n rows, s samples.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analyses._probe_labels import Label
from analyses._stats import LEVEL

SHARED_CLASS: Final = 1 + 2 / np.pi
"""Variance of a held-out accuracy over that of independent samples."""
SHARED_NUMBER: Final = 2.0
"""The same of a held-out R²."""
INTERVAL: Final = (
    "95 % interval over samples (Wilson for accuracy, Student t for R² and differences), "
    "widened for folds that share samples"
)


class Score(NamedTuple):
    """A score and how far each sample pulls it."""

    value: float
    influence: NDArray[np.float32]
    """`[s]`, mean 0: the score's standard error is that of their mean."""


def score(held_out: NDArray[np.float32], label: Label, rows: NDArray[np.intp]) -> Score:
    """Accuracy or R² of held-out predictions.

    Args:
        held_out: What each row was told to be: class index, or the number of mean 0 and deviation 1 `[n]`.
        label: The truth of each sample.
        rows: The sample of each row `[n]`.
    """
    runs = np.bincount(rows)
    if label.classes:
        hits = np.bincount(rows, held_out == label.values[rows]) / runs
        return Score(float(hits.mean()), (hits - hits.mean()).astype(np.float32))
    truth = (label.values - label.values.mean()) / label.values.std()
    wrong = np.bincount(rows, (held_out - truth[rows]) ** 2) / runs
    lost = wrong.mean() / (truth**2).mean()
    return Score(float(1 - lost), (lost * truth**2 - wrong).astype(np.float32))


def mean(scores: list[Score]) -> Score:
    """The mean of several scores."""
    influences = np.stack([one.influence for one in scores]).mean(axis=0)
    return Score(float(np.mean([one.value for one in scores])), influences)


def interval(value: NDArray[np.float64], influence: NDArray[np.float32], label: Label) -> NDArray[np.float64]:
    """Lower and upper ends of scores `[2, …]`.

    Args:
        value: Scores `[…]`.
        influence: Of each sample `[…, s]`.
        label: What was told.
    """
    if not label.classes:
        return difference_interval(value, influence, label)
    n = influence.shape[-1] / SHARED_CLASS
    z = stats.norm.ppf((1 + LEVEL) / 2)
    middle = (value + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(value * (1 - value) / n + z**2 / (4 * n**2))
    return np.stack([middle - half, middle + half])


def difference_interval(
    value: NDArray[np.float64], influence: NDArray[np.float32], label: Label
) -> NDArray[np.float64]:
    """The same of differences of two scores, from the differences of their influences."""
    half = stats.t.ppf((1 + LEVEL) / 2, influence.shape[-1] - 1) * _error(influence, label)
    return np.stack([value - half, value + half])


def above_chance(value: NDArray[np.float64], influence: NDArray[np.float32], label: Label) -> NDArray[np.float64]:
    """One-sided p value of scores against telling nothing: for classes a score test, whose variance is chance's."""
    if not label.classes:
        return positive(value, influence, label)
    error = np.sqrt(SHARED_CLASS * label.chance * (1 - label.chance) / influence.shape[-1])
    return stats.norm.sf((value - label.chance) / error)


def positive(value: NDArray[np.float64], influence: NDArray[np.float32], label: Label) -> NDArray[np.float64]:
    """One-sided p value that a difference of two scores is above 0."""
    error = np.maximum(_error(influence, label), np.finfo(np.float32).eps)
    return stats.t.sf(value / error, influence.shape[-1] - 1)


def _error(influence: NDArray[np.float32], label: Label) -> NDArray[np.float64]:
    shared = SHARED_CLASS if label.classes else SHARED_NUMBER
    n = influence.shape[-1]
    return np.sqrt(shared / n) * influence.astype(np.float64).std(axis=-1, ddof=1)
