"""The smallest sufficient number and the rule of a gain: planted truth, and the share of false claims."""

from __future__ import annotations

import numpy as np
import pytest

from analyses.experiments import _gain, _paired, _sufficient
from analyses.experiments._sufficient import MARGIN, guarded, sufficient
from tests.simulated import Quick, curve, guard


def test_the_knee_of_a_curve_is_found():
    found = sufficient(curve(0.2, 0.6, 0.94, 0.95, 0.95))
    assert (found.best, found.smallest) == (4, 2)
    assert found.passes == (False, False, True, True, True)


def test_a_summit_is_found_and_what_lies_behind_it_does_not_block_it():
    assert sufficient(curve(0.3, 0.93, 0.95, 0.6)).smallest == 1


def test_a_number_below_an_insufficient_one_is_not_taken():
    """By itself the first would pass; tested one after another from the best down it is never reached."""
    found = sufficient(curve(0.95, 0.5, 0.96))
    assert (found.passes, found.smallest) == ((True, False, True), 2)


@pytest.mark.parametrize("n", [3, 12, 40])
def test_few_samples_without_any_difference_prove_nothing(n):
    assert sufficient(np.ones((3, n))).smallest is None


def test_many_samples_without_any_difference_prove_the_smallest():
    assert sufficient(np.ones((3, 120))).smallest == 0


def test_samples_without_a_score_do_not_count():
    score = curve(0.2, 0.95, 0.95)
    score[:, ::2] = np.nan
    assert sufficient(score).smallest == 1
    assert guarded(np.full(4, np.nan)).n == 0


@pytest.mark.parametrize("n", [24, 60, 200])
def test_a_number_that_loses_the_margin_is_rarely_called_sufficient(n):
    """Scores 0 or 1; the loss is exactly the margin, the worst case of the null. Nominal: 2.5 %."""
    rng = np.random.default_rng(1)
    one = (rng.random((4000, n)) < MARGIN).astype(float)
    quick = Quick(n + 2)
    assert guarded(one[0]).high == pytest.approx(quick.ends(guard(one[:1]))[1, 0], abs=1.5 / n)
    claimed = quick.ends(guard(one))[1] <= MARGIN
    assert claimed.mean() <= 0.06  # a share of failures of 5 % is far from normal: 4.6 % with 60 samples
    naive = Quick(n).ends(one)[1] <= MARGIN
    assert claimed.mean() < naive.mean()  # the two added samples are what holds it


def test_graded_scores_keep_the_nominal_rate():
    rng = np.random.default_rng(2)
    lost = rng.normal(MARGIN, 0.2, (4000, 100)).clip(-1, 1)
    assert (Quick(102).ends(guard(lost))[1] <= MARGIN).mean() <= 0.03


@pytest.mark.parametrize("n", [12, 24, 100])
def test_a_method_that_does_nothing_is_rarely_said_to_raise_the_score(n):
    """Answers flip either way alike, as the same model under other noise gives. Nominal: 2.5 %."""
    rng = np.random.default_rng(3)
    quick = Quick(n)
    gain = rng.choice([-1.0, 0.0, 1.0], (4000, n), p=[0.15, 0.7, 0.15])
    claimed = (quick.ends(gain)[0] > 0) & (quick.p(gain) < _gain.LEVEL)
    assert claimed.mean() <= 0.03
    assert quick.p(gain[:1])[0] == pytest.approx(_paired.p_value(gain[0]), abs=0.03)
    at = np.argsort(quick.p(gain))[:3]
    assert claimed[at].any()
    assert all(
        (_gain.decide(gain[one], gain[one], room=0.3) == "replicates") == claimed[one] for one in at
    )  # the simulated rule is it


def test_the_rule_of_a_gain_at_its_edges():
    rng = np.random.default_rng(4)
    clear = rng.normal(0.1, 0.05, 40)
    zero = np.zeros(40)
    assert _gain.decide(clear, clear, room=0.3) == "replicates"
    assert _gain.decide(clear, zero, room=0.3) == "replicates"
    assert _gain.decide(clear, -clear, room=0.3) == "does not replicate"  # a longer run is better
    assert _gain.decide(zero, zero, room=0.3) == "does not replicate"
    assert _gain.decide(rng.normal(0.02, 0.3, 40), zero, room=0.3) == "inconclusive"
    four = np.array([1.0] * 4 + [0.0] * 8)  # the bootstrap is sure, four flips of a coin are not
    assert _paired.interval(four).low > 0
    assert _gain.decide(four, four, room=0.3) == "inconclusive"
    assert _gain.decide(clear, clear, room=0.02) == "inconclusive"
    assert _gain.decide(clear[:9], clear[:9], room=0.3) == "inconclusive"
    assert _gain.decide(clear, np.full(40, np.nan), room=0.3) == "inconclusive"


def test_the_rules_say_the_numbers_that_the_code_has():
    assert f"more than {MARGIN}" in _sufficient.RULE
    for number in (_gain.LEAST, _gain.ROOM, _gain.LEVEL, _gain.FEWEST):
        assert str(number) in _gain.RULE
