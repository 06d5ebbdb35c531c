"""Heads in their order, and whether that order has to do with how far things move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import xarray as xr
from scipy import stats

from analyses._stats import LEVEL, SAMPLE, bare
from store import Sample

RESAMPLES: Final = 1000
"""Bootstrap resamples behind the interval of a rank."""
MIN_MOVING: Final = 8
"""Samples with known motion that a correlation with it needs."""


def ranks(by_head: xr.DataArray, seed: int) -> dict[str, xr.DataArray]:
    """Rank of each head, 1 = the most separable, with an interval over bootstrap resamples of the samples."""
    values = by_head.to_numpy().reshape(by_head.sizes[SAMPLE], -1)
    n = len(values)
    rank = stats.rankdata(-values.mean(axis=0), nan_policy="omit")
    rng = np.random.default_rng([seed, 1])
    drawn = np.stack([values[rng.integers(n, size=n)].mean(axis=0) for _ in range(RESAMPLES if n > 1 else 1)])
    low, high = np.nanquantile(
        stats.rankdata(-drawn, axis=1, nan_policy="omit"), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0
    )
    if n == 1:
        low = high = np.full(rank.shape, np.nan)
    ends = {"rank": rank, "rank_low": np.minimum(low, rank), "rank_high": np.maximum(high, rank)}
    attrs = {
        "long_name": "rank by separability, mean over steps; 1 is the largest",
        "units": "rank",
        "n": n,
        "interval": f"95 % of {RESAMPLES} bootstrap resamples of the samples" if n > 1 else "no interval",
    }
    like = bare(by_head.isel({SAMPLE: 0}, drop=True))
    return {key: like.copy(data=one.reshape(like.shape)).assign_attrs(attrs) for key, one in ends.items()}


def with_motion(array: xr.DataArray, samples: Sequence[Sample]) -> dict[str, xr.DataArray]:
    """Spearman correlation over samples of separability with how far things truly move, where enough is known."""
    far = np.array([_moved(sample) for sample in samples])
    known = np.isfinite(far)
    n = int(known.sum())
    if n < MIN_MOVING or np.ptp(far[known]) == 0:
        return {}
    order = stats.rankdata(array.to_numpy()[known], axis=0)
    order -= order.mean(axis=0)
    own = stats.rankdata(far[known])
    own -= own.mean()
    spread = np.sqrt((order**2).sum(axis=0) * (own**2).sum())
    found = np.divide(np.tensordot(own, order, 1), spread, out=np.full(spread.shape, np.nan), where=spread > 0)
    half = stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt(1.06 / (n - 3))
    attrs = {
        "long_name": "rank correlation over samples of separability with how far things truly move",
        "units": "Spearman's ρ",
        "n": n,
        "interval": "95 % interval over samples, by Fisher's z with the variance 1.06/(n − 3) (Fieller 1957)",
    }
    z = np.arctanh(np.clip(found, -1 + 1e-9, 1 - 1e-9))
    ends = {"with_motion": found, "with_motion_low": np.tanh(z - half), "with_motion_high": np.tanh(z + half)}
    like = bare(array.isel({SAMPLE: 0}, drop=True))
    return {key: like.copy(data=one).assign_attrs(attrs) for key, one in ends.items()}


def _moved(sample: Sample) -> float:
    """Length of the ways of all things together, as a share of the picture's height; NaN where nobody knows."""
    if sample.tracks is None:
        return float("nan")
    return float(np.linalg.norm(np.diff(sample.tracks, axis=1), axis=-1).sum() / sample.first_frame.shape[0])
