"""Steps of rise: planted ones come back in their order, and labels that rise together differ by nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import analyses
from analyses.perception_first import Curves, interval, judge, mean_rise, readable, rises
from tests.analyses.contract import AnalysisContract
from tests.planted_tracks import PlantedTracks

KEEPS = ("resid_post/frame_mean",)
REPEATS, STEPS, SAMPLES = 500, 12, 60


class TestPerceptionFirst(AnalysisContract):
    name = "perception_first"
    planted = PlantedTracks(samples=24, seeds=(0, 1), layers=1, channels=12, since={"where": 0, "how": 3}, arrays=KEEPS)
    verdict = "replicates"

    def test_one_sample_has_no_interval_and_says_so(self, tmp_path):
        acts = PlantedTracks(samples=1, arrays=KEEPS).plant(tmp_path / "one")
        with pytest.raises(analyses.UnknownProbeLabel, match=r"No label of perception can be told from 1 sample"):
            analyses.perception_first(acts)


def test_planted_steps_come_back(tmp_path):
    planted = PlantedTracks(since={"colour": 0, "shape": 1, "where": 1, "how": 4}, strength=4.0, arrays=KEEPS)
    result = analyses.perception_first(planted.plant(tmp_path / "acts"))
    data = result.to_dataset()
    assert data["label"].to_numpy().tolist() == ["what.colour", "what.shape", "where.y", "where.x", "how.y", "how.x"]
    assert data["readable"].to_numpy().tolist() == [1] * 6
    np.testing.assert_allclose(data["rise_step"], [0, 1, 1, 1, 4, 4], atol=0.4)
    assert data["plateau_step"].to_numpy().tolist() == [0, 1, 1, 1, 4, 4]
    assert result.verdict == "replicates"
    assert float(data["difference"]) == pytest.approx(-3.25, abs=0.4)
    assert "the way at step" in result.finding


def test_what_rises_together_is_no_order(tmp_path):
    planted = PlantedTracks(since={"where": 2, "how": 2}, strength=4.0, arrays=KEEPS)
    result = analyses.perception_first(planted.plant(tmp_path / "acts"), perception=["where.y", "where.x"])
    assert result.verdict == "does not replicate"
    back = analyses.perception_first(
        PlantedTracks(since={"where": 4, "how": 0}, strength=4.0, arrays=KEEPS).plant(tmp_path / "back")
    )
    assert back.verdict == "does not replicate"


def test_what_cannot_be_read_has_no_step(tmp_path):
    planted = PlantedTracks(samples=40, layers=1, since={"where": 0}, arrays=KEEPS)
    result = analyses.perception_first(planted.plant(tmp_path / "acts"))
    assert result.verdict == "inconclusive"
    assert np.isnan(result.to_dataset()["difference"])
    assert "how.y, how.x cannot be read in the last steps" in result.finding
    still = PlantedTracks(samples=10, layers=1, moves=False, arrays=KEEPS).plant(tmp_path / "still")
    with pytest.raises(analyses.UnknownProbeLabel, match="0 samples with an object that moves"):
        analyses.perception_first(still)


def test_a_curve_that_jumps_rises_where_it_jumps():
    steps = np.array([0, 4, 8, 12, 16, 20])
    jump = (steps >= 8).astype(float)
    assert mean_rise(jump, steps) == 8.0
    assert mean_rise(0.3 * np.ones(6), steps) == 0.0
    assert mean_rise(np.stack([jump, 5 * jump]), steps).tolist() == [8.0, 8.0]


def curves_of_chance(rng: np.random.Generator, plateaus: tuple[float, ...], rise: int) -> Curves:
    """Accuracies of labels of two classes that all rise at one step, from independent samples."""
    right = np.full((len(plateaus), STEPS, SAMPLES), 0.5)
    right[:, rise:] += np.array(plateaus)[:, None, None]
    hits = rng.random(right.shape) < right
    value = hits.mean(axis=-1)
    return Curves(value - 0.5, hits - value[..., None], np.ones(len(plateaus)))


@pytest.mark.parametrize("rise", [0, 4])
def test_weak_and_strong_labels_that_rise_together_differ_at_the_nominal_rate(rise):
    rng, groups, steps = np.random.default_rng(7), np.array([0, 0, 1, 1]), np.arange(STEPS)
    apart, judged, early = 0, 0, 0
    for repeat in range(REPEATS):
        curves = curves_of_chance(rng, (0.45, 0.45, 0.25, 0.25), rise)
        _, low, high = interval(rises(curves, groups, steps, resamples=400, seed=repeat).difference)
        if np.isfinite(low):
            judged += 1
            apart += not low <= 0 <= high
            early += judge(float(low), float(high), samples=SAMPLES, step=1.0) == "replicates"
    assert judged > 0.95 * REPEATS
    low, high = stats.binom.interval(0.999, judged, 0.05)
    assert 0.4 * low <= apart <= high
    assert early <= stats.binom.interval(0.999, judged, 0.025)[1]


def test_noise_is_read_at_no_more_than_its_rate():
    rng = np.random.default_rng(8)
    told = [readable(curves_of_chance(rng, (0.0,) * 4, 0)) for _ in range(REPEATS)]
    assert np.mean(told) <= 0.01
