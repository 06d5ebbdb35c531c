"""Changed runs beside their clean ones: pairs, paired intervals and tests.

The unit is the sample: the runs of a sample (its seeds) are averaged first. Intervals are percentile bootstraps over
samples of the paired differences, at percentiles further out the fewer samples there are (`tails`); tests flip the
signs of these differences, over all patterns where there are few.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analyses._words import finite
from analyses.errors import NoRuns
from store import ActivationStore, Json, Run

RESAMPLES: Final = 10_000
INTERVAL: Final = (
    "95 % expanded percentile bootstrap over samples of paired differences, runs of a sample averaged first"
)
CORRECTION: Final = "Holm"
FEWEST: Final = 8
"""Samples below which no verdict is reached: no bootstrap goes beyond the smallest and the largest value, so that with
6 samples a mean of 0 still lies outside on one side in 3.6 % of cases; with 8, which experiments make if not told
otherwise, in 2.8 %."""

Float = NDArray[np.float64]


class Pair(NamedTuple):
    """A changed run and the clean run that it began as."""

    run: Run
    clean: Run
    arm: Hashable


def pairs(
    acts: ActivationStore,
    *,
    arm_of: Callable[[tuple[Json, ...]], Hashable | None],
    runs: Sequence[str] | None,
    where: str | None,
) -> list[Pair]:
    """Every stored run that belongs to an arm and whose clean run is stored, by id.

    Args:
        acts: The store.
        arm_of: The arm of a run with these interventions; None where it belongs to none.
        runs: Ids to choose from.
        where: SQL over `runs` and `samples`.

    Raises:
        NoRuns: if there is none.
    """
    stored = records(acts, runs=runs, where=where)
    found = [
        Pair(run, stored[run.parent_id], arm)
        for run in stored.values()
        if run.interventions and run.parent_id in stored and (arm := arm_of(run.interventions)) is not None
    ]
    if not found:
        raise NoRuns(
            f"None of the {len(stored)} runs belongs to this experiment with its clean run beside it; "
            "make them with `stepscope experiment`."
        )
    return found


def records(acts: ActivationStore, *, runs: Sequence[str] | None, where: str | None) -> dict[str, Run]:
    """Records of those of `runs`, or of all there are, that answer a condition on `runs` and `samples`, by id."""
    condition = "TRUE" if where is None else f"({where}\n)"
    query = f"SELECT run_id, record FROM runs LEFT JOIN samples USING (sample_id) WHERE {condition} ORDER BY run_id"
    rows, wanted = acts.sql(query).fetchall(), None if runs is None else set(runs)
    return {str(id): Run.model_validate_json(record) for id, record in rows if wanted is None or id in wanted}


def means(values: Float, rows: Sequence[int], columns: Sequence[int], shape: tuple[int, int]) -> Float:
    """Values dealt out to the cells of a table, and averaged there, float64 `shape`.

    Args:
        values: NaN is no value.
        rows: Row of each value.
        columns: Column of each value.
        shape: Rows and columns; a cell without a value is NaN.
    """
    total, count = np.zeros((2, *shape))
    there = np.isfinite(values)
    at = np.array(rows)[there], np.array(columns)[there]
    np.add.at(total, at, values[there])
    np.add.at(count, at, 1.0)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


class Interval(NamedTuple):
    """A mean over samples."""

    mean: float
    low: float
    high: float
    """NaN, as `low`, where fewer than two samples have a value."""
    n: int


def tails(n: int) -> float:
    """Share of resamples below the lower end of a 95 % interval of `n` values, and above the upper one.

    Plain percentiles, 2.5 %, are too narrow by √((n-1)/n) and by the quantile of the normal in place of Student's t:
    measured, a mean of 0 lies outside on one side in 8 % of cases with 6 samples, 5 % with 10.

    Source: Hesterberg 2015 (doi 10.1080/00031305.2015.1089789), expanded percentile interval.
    """
    return float(stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1)))


def interval(values: Float, *, seed: int = 0) -> Interval:
    """Mean over samples and its bootstrap interval; NaN is a sample without a value."""
    kept = values[np.isfinite(values)]
    if len(kept) < 2:
        return Interval(float(kept.mean()) if len(kept) else np.nan, np.nan, np.nan, len(kept))
    if np.ptp(kept) == 0:  # every resample has the same mean
        return Interval(float(kept[0]), float(kept[0]), float(kept[0]), len(kept))
    found = stats.bootstrap(
        (kept,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=1 - 2 * tails(len(kept)),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(kept.mean()), float(found.low), float(found.high), len(kept))


def ends(name: str, one: Interval) -> Json:
    """A mean with its interval, as a summary holds them: `name`, `name_low`, `name_high`."""
    return {name: finite(one.mean), f"{name}_low": finite(one.low), f"{name}_high": finite(one.high)}


def p_value(differences: Float, *, seed: int = 0) -> float:
    """Two-sided p of a mean difference of 0, by flipping signs; NaN with fewer than two samples."""
    kept = differences[np.isfinite(differences)]
    if len(kept) < 2:
        return float("nan")
    if not kept.any():
        return 1.0
    found = stats.permutation_test(
        (kept,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def holm(p_values: Float) -> Float:
    """Several p values corrected for their number by Holm's step-down; NaN stays NaN and is not counted.

    Example:
        >>> holm(np.array([0.01, 0.04, np.nan, 0.03])).round(3).tolist()
        [0.03, 0.06, nan, 0.06]
    """
    corrected = np.full_like(p_values, np.nan)
    order = [int(at) for at in np.argsort(p_values) if np.isfinite(p_values[at])]
    worst = 0.0
    for rank, at in enumerate(order):
        worst = max(worst, min(1.0, float(p_values[at]) * (len(order) - rank)))
        corrected[at] = worst
    return corrected


def effect_size(differences: Float) -> float:
    """Mean difference over its standard deviation over samples (d_z); NaN where there is none."""
    kept = differences[np.isfinite(differences)]
    spread = float(kept.std(ddof=1)) if len(kept) > 1 else 0.0
    return float(kept.mean() / spread) if spread > 0 else float("nan")
