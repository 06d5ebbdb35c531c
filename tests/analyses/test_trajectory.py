"""The x̂0 trajectory on planted paths: known distances, known steps of commitment, and none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import analyses
import store
from analyses._x0 import answer_commit, distance_commit, latent_path, score_table, settled_from
from tests.analyses.contract import AnalysisContract
from tests.planted import Planted

LATENTS = {"arrays": ("x0_hat/full",)}


class TestTrajectory(AnalysisContract):
    name = "trajectory"
    planted = Planted(wrong=(1,), arrays=("x0_hat/full", "x0_hat/pixels"))


def steps(*values: float) -> xr.DataArray:
    return xr.DataArray(np.array([values]), dims=("run", "step"), coords={"step": np.arange(len(values)) * 5})


def test_planted_distances_come_back(tmp_path):
    curve = (1.0, 0.9, 0.8, 0.3, 0.1, 0.0)
    data = analyses.trajectory(Planted(distance=curve, **LATENTS).plant(tmp_path / "acts")).to_dataset()
    np.testing.assert_allclose(data["latent_distance"], curve, atol=1e-6)
    np.testing.assert_allclose(data["latent_change"][1:], -np.diff(curve), atol=1e-6)
    assert np.isnan(data["latent_change"][0])
    by_frame = data["latent_distance_by_frame"]
    np.testing.assert_allclose(
        np.sqrt((data["latent_distance_by_frame_by_run"] ** 2).mean("frame"))[0], curve, atol=1e-6
    )
    assert by_frame.dims == ("step", "frame")


def test_pixels_agree_with_the_videos(tmp_path):
    planted = Planted(arrays=("x0_hat/pixels",))
    data = analyses.trajectory(planted.plant(tmp_path / "acts")).to_dataset()
    videos = np.array([[planted.videos(i, seed) for seed in planted.seeds] for i in range(planted.samples)], np.int16)
    expected = np.abs(videos - videos[:, :, -1:]).mean(axis=(0, 1, 3, 4, 5, 6)) / 255
    np.testing.assert_allclose(data["pixel_distance"], expected, rtol=1e-6)
    assert float(data["pixel_distance"][-1]) == 0.0


def test_commitment_is_where_it_was_planted(tmp_path):
    result = analyses.trajectory(Planted(settle_step=4, wrong=(0,), **LATENTS).plant(tmp_path / "acts"))
    summary = result.summary()
    assert summary["answer_commit"] == 4.0
    assert summary["runs_that_end_right"] == 4
    assert summary["distance_commit"] == 3.0  # a straight line from 1 to 0 over 6 steps is below a half from step 3 on
    data = result.to_dataset()
    assert data["answer_commit"].attrs["n"] == 2
    assert int(np.isnan(data["answer_commit_by_run"]).sum()) == 2
    assert "the right answer, which 4 of 6 runs reach, stays from step 4.0" in result.finding


def test_runs_that_all_end_wrong_commit_to_nothing(tmp_path):
    result = analyses.trajectory(Planted(wrong=(0, 1, 2), **LATENTS).plant(tmp_path / "acts"))
    assert result.summary()["answer_commit"] is None
    assert "0 of 6 runs end right" in result.finding


def test_x0_that_never_moves_has_no_commitment(tmp_path):
    result = analyses.trajectory(Planted(distance=(0.0,) * 6, **LATENTS).plant(tmp_path / "acts"))
    assert result.summary()["distance_commit"] is None
    assert "does not come nearer" in result.finding
    assert float(result.to_dataset()["latent_distance"].max()) == 0.0


@pytest.mark.parametrize(
    ("holds", "step"),
    [((0, 1, 1, 1), 5.0), ((1, 1, 1, 1), 0.0), ((1, 0, 0, 1), 15.0), ((1, 1, 1, 0), np.nan), ((0, 0, 0, 0), np.nan)],
)
def test_settled_from_is_the_last_change(holds, step):
    np.testing.assert_equal(settled_from(steps(*holds) > 0).item(), step)


def test_an_answer_that_comes_and_goes_commits_at_its_last_return():
    assert answer_commit(steps(1, 0, 1, 0.97), xr.DataArray([1.0], dims="run")).item() == 10.0


def test_a_wrong_end_never_commits_though_it_is_wrong_from_the_start():
    assert np.isnan(answer_commit(steps(0, 0, 0, 0), xr.DataArray([0.0], dims="run")).item())


def test_distance_that_rises_again_is_not_settled():
    assert distance_commit(steps(1.0, 0.4, 0.6, 0.3, 0.0)).item() == 15.0


def test_distance_by_frame_adds_up_to_the_whole():
    x0 = xr.DataArray(
        np.random.default_rng(0).normal(size=(2, 5, 4, 3, 3, 2)), dims=("run", "step", "frame", "y", "x", "channel")
    )
    path = latent_path(x0)
    whole = np.sqrt((path["latent_distance_by_frame"] ** 2).mean("frame"))
    np.testing.assert_allclose(whole, path["latent_distance"])
    assert (path["latent_distance"][:, -1] == 0).all()


def test_a_step_that_overflowed_is_refused():
    x0 = xr.DataArray(
        np.ones((2, 3, 1, 1, 1, 1)), dims=("run", "step", "frame", "y", "x", "channel"), coords={"run": ["a", "b"]}
    )
    x0[1, 0] = np.nan
    with pytest.raises(analyses.NonFinite, match=r"1 of 2 runs .* \(b\)"):
        latent_path(x0)


def test_without_scores_and_pixels_there_are_latents(tmp_path):
    acts = Planted(scored=False, arrays=("x0_hat/full",)).plant(tmp_path / "acts")
    result = analyses.trajectory(acts)
    assert not {"score", "answer_commit", "pixel_distance"} & set(result.to_dataset())
    assert result.to_dataset().attrs["headline"] == "latent_distance"
    assert "right answer" not in result.finding


def test_without_latents_there_are_pixels(tmp_path):
    acts = Planted(arrays=("x0_hat/pixels",)).plant(tmp_path / "acts")
    result = analyses.trajectory(acts)
    assert "latent_distance" not in result.to_dataset()
    assert result.to_dataframe()["pixel_distance"].iloc[-1] == 0.0


def test_runs_of_two_captures_without_a_common_array(tmp_path):
    acts = Planted(seeds=(0,), arrays=("x0_hat/pixels",)).plant(tmp_path / "acts")
    Planted(seeds=(1,), arrays=("x0_hat/full",)).plant(tmp_path / "acts")
    with pytest.raises(analyses.NoRuns, match="no array of x̂0 in common"):
        analyses.trajectory(acts)


def test_two_scorers_of_one_run_must_be_told_apart():
    rows = pd.DataFrame(
        {"run_id": "r", "scorer": ["one", "two"], "metric": "answer", "value": [0.0, 1.0], "step": [0.0, 0.0]}
    )
    with pytest.raises(analyses.AmbiguousScores, match=r"one, two.*scorer="):
        score_table(rows)


def test_unscored_videos_end_with_their_last_x0():
    rows = pd.DataFrame(
        {
            "run_id": ["a", "a", "b"],
            "scorer": "w",
            "metric": "answer",
            "value": [0.2, 0.9, 0.4],
            "step": [0.0, 3.0, 0.0],
        }
    )
    assert score_table(rows).final.to_series().to_dict() == {("a", "answer"): 0.9, ("b", "answer"): 0.4}


def test_intervals_of_steps_end_at_the_last_step(tmp_path):
    """Of two samples, which settle at once and at the end: Student's t would reach far beyond."""
    early = Planted(samples=2, seeds=(0,), layers=1, size=16, settle_step=1)
    late = dataclasses.replace(early, settle_step=5)
    acts = store.open(tmp_path / "acts", mode="a")
    for position, plan in enumerate((early, late)):
        plan._plant_run(acts, position, acts.put_sample(plan.sample(position)), 0)
    data = analyses.run("trajectory", acts).to_dataset()
    ends = [float(data[f"answer_commit{end}"]) for end in ("_low", "", "_high")]
    assert ends == [0, 3, 5]
