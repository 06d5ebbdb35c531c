"""Paired intervals and tests, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from analyses.experiments import _paired


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        found = _paired.interval(rng.normal(0.3, 1, 40))
        inside += found.low <= 0.3 <= found.high
    assert 180 <= inside <= 200


def test_samples_without_a_value_do_not_count():
    found = _paired.interval(np.array([1.0, np.nan, 3.0, 2.0]))
    assert found.n == 3
    assert found.mean == 2
    assert 1 <= found.low < 2 < found.high <= 3


@pytest.mark.parametrize(("values", "n"), [([], 0), ([np.nan], 0), ([0.4], 1)])
def test_one_sample_has_no_interval(values, n):
    found = _paired.interval(np.array(values))
    assert found.n == n
    assert np.isnan(found.low)
    assert np.isnan(_paired.p_value(np.array(values)))


def test_the_same_difference_everywhere_is_certain():
    found = _paired.interval(np.full(5, 0.2))
    assert (found.low, found.high) == (0.2, 0.2)


def test_signs_are_flipped_over_all_patterns():
    """Six differences of one sign: two of 64 patterns are as extreme."""
    assert _paired.p_value(np.array([1.0, 2, 3, 0.5, 0.1, 2])) == pytest.approx(2 / 64)
    assert _paired.p_value(np.zeros(6)) == 1


def test_noise_alone_is_rarely_called_a_difference():
    rng = np.random.default_rng(1)
    small = [_paired.p_value(rng.normal(size=8)) < 0.05 for _ in range(200)]
    assert sum(small) <= 20


def test_effect_size_is_the_mean_over_the_spread():
    assert _paired.effect_size(np.array([1.0, 2.0, 3.0])) == pytest.approx(2.0)
    assert np.isnan(_paired.effect_size(np.array([1.0, 1.0])))
