"""Changes of the answer: planted ones come back at their steps, a blur that clears is none, and noise is none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import analyses
from analyses.self_correction import ALPHA, changes, is_rare, judge, sign_test
from store import Score
from tests.analyses.contract import AnalysisContract
from tests.planted import Planted

RIGHT, WRONG = 1.0, 0.0


@dataclass(frozen=True, kw_only=True)
class PlantedAnswers(Planted):
    """x̂0 whose distance halves by step 3 of 8; what it answers at each step is given, sample after sample."""

    samples: int = 12
    seeds: tuple[int, ...] = (0,)
    steps: int = 8
    arrays: tuple[str, ...] = ("x0_hat/full",)
    answers: tuple[str, ...] = ("00000111",)
    """By step, 1 is right; sample i has number i modulo their count."""

    def scores(self, sample: int) -> list[Score]:
        """`answer` as planted."""
        told = [float(one) for one in self.answers[sample % len(self.answers)]]
        rows = [Score(scorer="planted", metric="answer", value=value, step=step) for step, value in enumerate(told)]
        return [*rows, Score(scorer="planted", metric="answer", value=told[-1])]


class TestSelfCorrection(AnalysisContract):
    name = "self_correction"
    planted = PlantedAnswers(samples=3, seeds=(0, 1))
    verdict = "inconclusive"  # of three samples


def test_planted_corrections_come_back(tmp_path):
    result = analyses.self_correction(PlantedAnswers().plant(tmp_path / "acts"))
    data = result.to_dataset()
    late = data.sel(since="formed picture")
    assert result.verdict == "replicates"
    assert result.summary()["better"] == 12
    assert float(late["corrections"]) == 1.0
    assert float(late["spoilings"]) == 0.0
    assert float(late["correction_step"]) == 5.0
    assert late["corrected"].to_numpy().tolist() == [0, 0, 0, 0, 0, 1, 0, 0]
    assert float(late["corrected_when_wrong"]) == pytest.approx(1 / 1)  # formed at step 4, right at 5
    assert float(data["corrected_when_wrong"].sel(since="first step")) == pytest.approx(1 / 5)


def test_a_blur_that_clears_is_no_correction(tmp_path):
    result = analyses.self_correction(PlantedAnswers(answers=("00111111",)).plant(tmp_path / "acts"))
    data = result.to_dataset()
    assert float(data["corrections"].sel(since="first step")) == 1.0
    assert float(data["corrections"].sel(since="formed picture")) == 0.0
    assert result.verdict == "inconclusive"  # none of 12: as many as a quarter may still correct themselves
    assert result.summary()["p"] == 1.0


def test_none_is_rare_where_there_are_enough_samples():
    assert [is_rare(0, 12), is_rare(0, 72), is_rare(0, 73), is_rare(2, 73), is_rare(2, 200)] == [0, 0, 1, 0, 1]


def test_spoiling_is_no_correction(tmp_path):
    planted = PlantedAnswers(answers=("01111100", "01111000", "00000000"))
    result = analyses.self_correction(planted.plant(tmp_path / "acts"))
    assert result.verdict == "does not replicate"
    assert (result.summary()["better"], result.summary()["worse"]) == (0, 8)
    assert result.summary()["spoiling_step"] == pytest.approx(5.5)


def test_a_change_and_back_is_two_changes_and_no_net():
    right = xr.DataArray(np.array([[0, 1, 0, 1, 0]], bool), dims=("run", "step"), coords={"step": [0, 4, 8, 12, 16]})
    found = changes(right, xr.DataArray([4.0], dims="run"))
    assert found["corrections"].to_numpy().tolist() == [[2], [1]]
    assert found["spoilings"].to_numpy().tolist() == [[2], [2]]
    assert found["net"].to_numpy().tolist() == [[0], [-1]]
    assert found["correction_step"].to_numpy().tolist() == [[8.0], [12.0]]
    never = changes(right, xr.DataArray([np.nan], dims="run"))
    assert never["corrections"].to_numpy().tolist() == [[2], [0]]


def test_scores_by_step_are_needed(tmp_path):
    acts = Planted(scored=False, arrays=("x0_hat/full",)).plant(tmp_path / "acts")
    with pytest.raises(analyses.NoRuns, match="no score `answer` of x̂0 by step"):
        analyses.self_correction(acts)


def test_answers_that_flip_by_chance_make_the_claim_at_the_nominal_rate():
    rng = np.random.default_rng(5)
    flips = rng.random((500, 60, 2, 10)) < 0.3  # [repeat, sample, run, step]
    right = (flips.cumsum(axis=-1) + rng.integers(2, size=(500, 60, 2, 1))) % 2 == 1
    array = xr.DataArray(right.reshape(-1, 10), dims=("run", "step"), coords={"step": np.arange(10)})
    found = changes(array, xr.zeros_like(array.isel(step=0, drop=True), dtype=float))
    net = found["net"].sel(since="formed picture").to_numpy().reshape(500, 60, 2).mean(axis=-1)
    signs = sign_test(net)
    claims = sum(
        judge(type(signs)(*(part[at] for part in signs)), samples=60, rare=False) == "replicates" for at in range(500)
    )
    # The test is exact and its steps are coarse: with some 40 changed samples its level lies between 3 and 5 %.
    low, high = stats.binom.interval(0.999, 500, ALPHA)
    assert (signs.p <= ALPHA).sum() <= high
    assert (signs.p <= ALPHA).sum() >= stats.binom.interval(0.999, 500, 0.02)[0]
    assert claims <= stats.binom.interval(0.999, 500, ALPHA / 2)[1]
    assert low < high
