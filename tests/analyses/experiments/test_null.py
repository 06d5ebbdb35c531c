"""Every experiment's verdict on pure noise, 500 times: claims are as rare as a 95 % interval says (2.5 % on one side).

The null of each is that of its own rule, where it is easiest to be wrong: answers that flip by lot, whoever donates and
wherever; scores that fall alike whatever is done; numbers that rank arms by chance. `Quick` draws the resamples of all
repeats at once; `test_the_simulated_intervals_are_those_of_the_rules` holds it against the real one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from analyses.experiments import _paired, noise, patch, propagation, swap, windows
from analyses.experiments import attribution as attributing
from analyses.experiments._paired import Interval
from tests.simulated import Quick

REPEATS = 500
MOST = int(stats.binom.ppf(0.999, REPEATS, 0.025))
"""Claims that an honest 2.5 % exceeds once in a thousand times."""
SIZES = (8, 40)


def intervals(values: np.ndarray) -> list[Interval]:
    """Of each repeat, `[repeat, unit]`."""
    low, high = Quick(values.shape[1]).ends(values)
    ends = zip(values.mean(axis=1), low, high, strict=True)
    return [Interval(float(mean), float(a), float(b), values.shape[1]) for mean, a, b in ends]


def claims(verdicts: Sequence[str]) -> dict[str, int]:
    assert len(verdicts) == REPEATS
    return {word: verdicts.count(word) for word in ("replicates", "does not replicate")}


@pytest.mark.parametrize("n", SIZES)
def test_the_simulated_intervals_are_those_of_the_rules(n):
    values = np.random.default_rng(0).standard_normal((4, n))
    for row, quick in zip(values, intervals(values), strict=True):
        real = _paired.interval(row)
        assert (quick.low, quick.high) == pytest.approx((real.low, real.high), abs=0.35 / np.sqrt(n))


@pytest.mark.parametrize("n", SIZES)
def test_an_interval_misses_the_truth_on_either_side_at_the_nominal_rate(n):
    """Normal, skewed to either side, and coins."""
    rng = np.random.default_rng(1)
    drawn = {
        "normal": rng.standard_normal((REPEATS, n)),
        "uniform": rng.random((REPEATS, n)) - 0.5,
        "coins": rng.integers(2, size=(REPEATS, n)) - 0.5,
    }
    for name, values in drawn.items():
        low, high = Quick(n).ends(values)
        assert (low > 0).sum() <= MOST, name
        assert (high < 0).sum() <= MOST, name


def test_plain_percentiles_would_miss_it_far_more_often():
    rng = np.random.default_rng(2)
    quick = Quick(6)
    low = np.percentile(rng.standard_normal((REPEATS, 6)) @ quick._weights, 2.5, axis=1)
    assert (low > 0).sum() > MOST


@pytest.mark.parametrize("n", SIZES)
def test_noise_that_takes_as_much_at_a_frame_as_at_a_step_is_no_replication(n):
    """Both take just over half of the score on average, by lot."""
    rng = np.random.default_rng(3)
    step, frame = 0.8 * rng.binomial(12, 0.75, (2, REPEATS, n)) / 12
    clean = Interval(0.8, 0.8, 0.8, n)
    told = [noise.decide(clean, a, b) for a, b in zip(intervals(step), intervals(step - frame), strict=True)]
    assert claims([one.frame for one in told])["replicates"] <= MOST
    half = 0.8 * rng.beta(2, 2, (REPEATS, n))  # half is taken, and nothing by frames
    told = [noise.decide(clean, a, b).step for a, b in zip(intervals(half), intervals(half), strict=True)]
    assert claims(told)["replicates"] <= MOST
    assert claims(told)["does not replicate"] <= MOST


@pytest.mark.parametrize("n", SIZES)
def test_equally_sensitive_steps_have_no_peak(n):
    """Six steps alike, of which the highest is judged on the samples that chose it."""
    rng = np.random.default_rng(4)
    quick = Quick(n)
    rates = 0.5 + 0.1 * rng.standard_normal((2 * REPEATS, 6, n))
    above = 1.2 * (rates - rates.mean(axis=1, keepdims=True))  # less the mean of the other five
    p = np.stack([quick.p(above[:, at]) for at in range(6)], axis=1)
    at = rates.mean(axis=2).argmax(axis=1)
    own = above[np.arange(2 * REPEATS), at]
    peaks = [
        propagation.Peak(one, float(_paired.holm(p[repeat])[at[repeat]]), inner=0 < at[repeat] < 5)
        for repeat, one in enumerate(intervals(own))
    ]
    healed = Interval(0.2, 0.1, 0.3, n)  # early noise stays, so that the peaks alone decide
    told = [propagation.decide(healed, pair) for pair in zip(peaks[::2], peaks[1::2], strict=True)]
    assert claims(told)["replicates"] <= MOST
    assert claims(told)["does not replicate"] <= 2 * MOST  # under either noise
    assert sum(one.above.low > 0 for one in peaks) > 0.1 * len(peaks)  # without the correction
    assert sum(one.stands_out for one in peaks) <= stats.binom.ppf(0.999, 2 * REPEATS, 0.025)


@pytest.mark.parametrize("n", SIZES)
def test_layers_that_flip_as_a_strangers_do_carry_no_answer(n):
    """Four inner layers flip three of four runs, and so does a stranger; target and background do alike."""
    rng = np.random.default_rng(5)
    quick = Quick(n)
    flips, strange, target, rest = (rng.random((4, 6, REPEATS, n)) < 0.75).astype(float)
    gains = flips - strange
    p = np.stack([quick.p(one) for one in gains], axis=1)
    parts = [[intervals(one) for one in kind] for kind in (flips, gains, target - rest)]
    told: list[str] = []
    for repeat in range(REPEATS):
        corrected = _paired.holm(p[repeat])
        cells = [
            swap.Cell(at, parts[0][at][repeat], float(corrected[at]), parts[1][at][repeat], parts[2][at][repeat])
            for at in range(6)
        ]
        told.append(swap.decide(cells))
    assert claims(told)["replicates"] <= MOST


@pytest.mark.parametrize("n", SIZES)
def test_steps_that_flip_as_a_strangers_do_decide_nothing(n):
    """Two blocks before the answer settles flip by lot, whoever donates; two after it never do."""
    rng = np.random.default_rng(6)
    flips, strange = (rng.random((2, 2, REPEATS, n)) < 0.75).astype(float)
    never = Interval(0.0, 0.0, 0.0, n)
    early = [(intervals(flips[at]), intervals(flips[at] - strange[at])) for at in (0, 1)]
    p = np.stack([Quick(n).p(flips[at] - strange[at]) for at in (0, 1)], axis=1)
    corrected = [_paired.holm(np.append(row, [1.0, 1.0])) for row in p]
    told = [
        windows.decide(
            [windows.Block(at, at, *(of[repeat] for of in early[at]), corrected[repeat][at], 0.2) for at in (0, 1)]
            + [windows.Block(at, at, never, never, 1.0, 1.0) for at in (2, 3)]
        )
        for repeat in range(REPEATS)
    ]
    assert claims(told)["replicates"] <= MOST
    half = (rng.random((REPEATS, n)) < 0.5).astype(float)  # of the least that would count, and after it nothing
    told = [
        windows.decide([windows.Block(0, 0, one, one, 0.0, 0.2), windows.Block(1, 1, never, never, 1.0, 1.0)])
        for one in intervals(half)
    ]
    assert claims(told)["does not replicate"] <= MOST
    assert claims(told)["replicates"] <= MOST


@pytest.mark.parametrize("n", SIZES)
def test_places_that_recover_alike_are_not_told_apart(n):
    rng = np.random.default_rng(7)
    place, depth = (intervals(one) for one in rng.normal(0, 0.3, (2, REPEATS, n)))
    told = [patch.decide(patch.Contrasts(a, b, 4)) for a, b in zip(place, depth, strict=True)]
    assert claims(told)["replicates"] <= MOST
    assert claims(told)["does not replicate"] <= 2 * MOST  # either of two contrasts


@pytest.mark.parametrize("n", SIZES)
def test_numbers_by_lot_foretell_no_patch(n):
    """Attributed by chance; and as well foretold by the size of the change, at the least rho that would do."""
    rng = np.random.default_rng(8)
    ranks = rng.permuted(np.tile(np.arange(18.0), (3, REPEATS, n, 1)), axis=-1)
    ours, size, truth = (one - one.mean() for one in ranks)

    def rho(one: np.ndarray) -> np.ndarray:
        return (one * truth).sum(axis=-1) / (truth * truth).sum(axis=-1)

    by_lot = zip(intervals(rho(ours)), intervals(rho(ours) - rho(size)), strict=True)
    told = [attributing.decide(attributing.Agreement(*both, arms=18)) for both in by_lot]
    assert claims(told)["replicates"] == 0
    good = Interval(0.8, 0.7, 0.9, n)
    above = intervals(rng.normal(0, 0.2, (REPEATS, n)))
    told = [attributing.decide(attributing.Agreement(good, one, 18)) for one in above]
    assert claims(told)["replicates"] <= MOST
    assert claims(told)["does not replicate"] <= MOST
