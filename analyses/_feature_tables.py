"""Two dictionaries and what they make of held-out tokens, as arrays with names, units and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from analyses._feature_scores import Explained, Firing
from analyses._stats import SAMPLE, over_samples
from analyses._token_units import Moments
from analyses._topk import Dictionary, likeness
from analyses._tracks import groups
from store import dims

FEATURE: Final = "feature"
"""Axis of features, the one that carries most first."""
EXAMPLE: Final = "example"
"""Axis of the tokens at which a feature is most active."""
SAME: Final = 0.7
"""Cosine from which two features are the same one."""
KEPT: Final = 4096
"""Features whose firing and examples are kept, at most."""
_SHARE: Final = "share of the variance of standardised channels"
WORDS: Final[dict[str, tuple[str, str, tuple[float, float]]]] = {
    "explained": ("variance of held-out samples that the dictionary explains", _SHARE, (-np.inf, 1)),
    "over_pca": ("that, minus what PCA of equal rank explains", _SHARE, (-np.inf, 1)),
    "over_gaussian": ("that, minus the same of Gaussian tokens of equal covariance", _SHARE, (-np.inf, 1)),
    "active": ("features that are active at a token", "features", (0, np.inf)),
}
"""Quantity → what it is, its unit, and what is possible."""


class Half(NamedTuple):
    """A dictionary, trained on one half of the samples and judged on the other."""

    learned: Dictionary
    by: Moments
    real: Explained
    gaussian: Explained
    stand_in: Dictionary
    """Trained on Gaussian tokens."""
    firing: Firing


def scores(each: Sequence[Half]) -> dict[str, xr.DataArray]:
    """What is explained, with intervals over samples; every sample is held out by one of the halves."""

    def both(name: str, which: str) -> NDArray[np.float64]:
        return np.nanmean([getattr(getattr(half, which), name) for half in each], axis=0)

    real = both("dictionary", "real")
    values = {
        "explained": real,
        "over_pca": real - both("pca", "real"),
        "over_gaussian": real - both("dictionary", "gaussian"),
        "active": both("active", "real"),
    }
    arrays: dict[str, xr.DataArray] = {}
    for name, (long_name, units, bounds) in WORDS.items():
        array = xr.DataArray(values[name], dims=SAMPLE, attrs={"long_name": long_name, "units": units})
        arrays |= over_samples(name, array, bounds=bounds)
    return arrays


def alike(each: Sequence[Half], order: NDArray[np.intp]) -> dict[str, xr.DataArray]:
    """How much each feature of the first dictionary is like one of the second, and the same of Gaussian tokens."""
    arrays: dict[str, xr.DataArray] = {}
    for name, which, told in (
        ("likeness", "learned", "largest cosine with a feature of the other dictionary"),
        ("gaussian_likeness", "stand_in", "the same of the two dictionaries of Gaussian tokens, sorted"),
    ):
        # Each half has units of its own: those of the first are taken for both.
        rows, others = (getattr(half, which).decoder * half.by.scale / each[0].by.scale for half in each)
        found = likeness(rows, others)
        values = found[order] if which == "learned" else np.sort(found)[::-1][: len(order)]
        arrays[name] = _named(values, (FEATURE,), told, "cosine")
    return arrays


def firing(half: Half, order: NDArray[np.intp], steps: Sequence[int]) -> dict[str, xr.DataArray]:
    """Weight, firing by step and direction of the features of one dictionary."""
    found = half.firing
    share = found.energy[order] / max(float(found.energy.sum()), np.finfo(np.float64).tiny)
    by_step = _named(
        found.by_step[order], (FEATURE, dims.STEP), "share of held-out tokens at which a feature is active", "share"
    )
    return {
        "weight": _named(share, (FEATURE,), "share of all squared activations", "share"),
        "firing": by_step.assign_coords({dims.STEP: [*steps]}),
        "direction": _named(
            (half.learned.decoder * half.by.scale)[order],
            (FEATURE, dims.CHANNEL),
            "what one unit of the feature adds to a token, raw channels",
            "activation",
        ),
    }


def examples(
    found: Firing, order: NDArray[np.intp], runs: Sequence[str], *, video: int, latent: int
) -> dict[str, xr.DataArray]:
    """Where features are most active.

    Args:
        found: What was kept.
        order: Features in the order wanted.
        runs: Run ids, by their numbers.
        video: Frames of the video.
        latent: Latent frames.
    """
    axes, place = (FEATURE, EXAMPLE), found.place[order]
    told = "largest activations at held-out tokens, one of each run"
    arrays = {"example_value": _named(found.value[order].astype(np.float32), axes, told, "standardised")}
    for at, name in enumerate(("run", dims.STEP, dims.FRAME, dims.Y, dims.X)):
        labels = np.array([*runs, ""])[place[..., at]] if name == "run" else place[..., at]
        arrays[f"example_{name}"] = _named(labels, axes, f"{name} of each example", "1")
    middle = np.array([*((part.start + part.stop) // 2 for part in groups(video, latent)), -1])
    told = "a video frame in the middle of the latent one"
    arrays["example_pixel_frame"] = _named(middle[place[..., 2]], axes, told, "1")
    return arrays


def _named(values: NDArray[Any], axes: tuple[str, ...], long_name: str, units: str) -> xr.DataArray:
    return xr.DataArray(values, dims=axes, attrs={"long_name": long_name, "units": units})
