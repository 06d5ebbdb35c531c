"""Intervals over samples and the rule for a peak, on numbers with a known answer and on none."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from analyses._stats import SAMPLE, find_peak, over_samples, per_sample


def by_sample(values: np.ndarray) -> xr.DataArray:
    return xr.DataArray(values, dims=(SAMPLE, "step"), coords={"step": np.arange(values.shape[1]) * 2})


def test_a_run_without_a_value_is_left_out_of_its_sample():
    runs = xr.DataArray([np.nan, 2.0, np.nan], dims="run", coords={"sample_id": ("run", ["b", "b", "a"])})
    np.testing.assert_equal(per_sample(runs).to_numpy(), [np.nan, 2.0])


def test_seeds_of_a_sample_are_averaged_before_samples():
    runs = xr.DataArray([0.0, 2.0, 4.0, 10.0], dims="run", coords={"sample_id": ("run", ["b", "b", "b", "a"])})
    means = per_sample(runs)
    assert dict(zip(means[SAMPLE].to_numpy(), means.to_numpy(), strict=True)) == {"a": 10.0, "b": 2.0}
    assert float(over_samples("q", means)["q"]) == 6.0  # and not 4.0, the mean over runs


def test_interval_is_the_t_interval():
    values = np.random.default_rng(0).normal(size=7)
    found = over_samples("q", xr.DataArray(values, dims=SAMPLE))
    low, high = stats.t.interval(0.95, 6, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose([found["q_low"], found["q_high"]], [low, high])
    assert found["q"].attrs["n"] == 7


def test_interval_covers_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(1).normal(3.0, 2.0, size=(5, 4000))
    found = over_samples("q", xr.DataArray(draws, dims=(SAMPLE, "trial")))
    covered = float(((found["q_low"] < 3) & (found["q_high"] > 3)).mean())
    assert 0.94 < covered < 0.96


def test_one_sample_has_no_interval():
    found = over_samples("q", xr.DataArray([[1.0, 2.0]], dims=(SAMPLE, "step")))
    assert found["q"].to_numpy().tolist() == [1.0, 2.0]
    assert np.isnan(found["q_low"]).all()
    assert found["q"].attrs["interval"].startswith("no interval")
    assert "typical_half_width" not in found["q"].attrs


def test_a_sample_without_a_value_is_left_out_and_not_counted():
    found = over_samples("q", xr.DataArray([1.0, np.nan, 3.0], dims=SAMPLE))
    assert float(found["q"]) == 2.0
    assert found["q"].attrs["n"] == 2


def test_interval_stays_within_what_is_possible():
    found = over_samples("q", xr.DataArray([0.0, 1.0], dims=SAMPLE), bounds=(0, 1))
    assert (float(found["q_low"]), float(found["q_high"])) == (0.0, 1.0)


def test_planted_peak_is_found_with_its_height():
    rng = np.random.default_rng(2)
    values = 10 * (1 + 0.02 * rng.standard_normal((6, 12)))
    values[:, 7] *= 1.3
    peak = find_peak(by_sample(values))
    assert peak.step == 14  # the label of position 7
    assert not peak.edge
    assert peak.low < 0.3 < peak.high


def test_flat_profile_has_no_peak():
    peak = find_peak(by_sample(np.full((6, 12), 3.0)))
    assert peak.step is None
    assert peak.excess == 0.0


def test_noise_alone_rarely_makes_a_peak():
    rng = np.random.default_rng(3)
    flat = (1 + 0.3 * rng.standard_normal((1000, 6, 20))).clip(0.05)
    found = [find_peak(by_sample(values)).step is not None for values in flat]
    assert np.mean(found) < 0.045  # 0.064 with a sample left out at a time, 0.125 on the same samples


def test_a_step_that_only_one_sample_has_is_no_peak():
    values = np.ones((5, 10))
    values[0, 4] = 20.0
    assert find_peak(by_sample(values)).step is None


def test_a_slope_ends_at_an_edge():
    peak = find_peak(by_sample(np.tile(np.linspace(1, 2, 9), (4, 1))))
    assert (peak.step, peak.edge) == (16, True)


@pytest.mark.parametrize("shape", [(2, 12), (1, 12), (6, 2)])
def test_too_little_is_not_judged(shape):
    values = np.ones(shape)
    values[:, 1] = 9.0
    peak = find_peak(by_sample(values))
    assert peak.step is None
    assert np.isnan(peak.excess)
