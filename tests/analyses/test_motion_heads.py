"""Heads that tell frames apart: the planted one is found and ranked first; shuffled frames say when there is none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

import analyses
from analyses._separability import family_wise, shares, shuffles
from tests.analyses.contract import AnalysisContract
from tests.planted_motion import PlantedMotion

PLAN = PlantedMotion(arrays=("z/full",))


class TestMotionHeads(AnalysisContract):
    name = "motion_heads"
    planted = PLAN
    verdict = "replicates"


@pytest.fixture(scope="module")
def acts(tmp_path_factory):
    return PLAN.plant(tmp_path_factory.mktemp("motion") / "acts")


def test_the_planted_head_is_found_and_ranked_first(acts):
    result = analyses.motion_heads(acts)
    data = result.to_dataset().load()
    called = data["p"] <= 0.05
    assert called.sum() == 1
    assert called.sel(step=1, layer=0, head=2)
    # Two frames with offsets of variance 0.8² each, in noise of 1: half of 0.64 lies between the two, of 1.32 in all.
    assert float(data["separability"].sel(step=1, layer=0, head=2)) == pytest.approx(0.32 / 1.32, abs=0.03)
    rank = data.sel(layer=0, head=2)
    assert (float(rank["rank"]), float(rank["rank_low"]), float(rank["rank_high"])) == (1, 1, 1)
    assert result.summary()["ranked"][0].startswith("layer 0 head 2: ")
    assert data["excess_low"] > 0


def test_energies_by_head_do_too(tmp_path):
    acts = dataclasses.replace(PLAN, arrays=("z/head_energy",), offset=2.0).plant(tmp_path / "acts")
    result = analyses.motion_heads(acts)
    data = result.to_dataset()
    assert data.attrs["reduction"] == "head_energy"
    assert int(data["p"].sel(step=1, layer=0).argmin("head")) == 2
    assert data["p"].sel(step=1, layer=0, head=2) <= 0.05


def test_the_first_frame_counts_if_asked(acts):
    with_first = analyses.motion_heads(acts, first_frame=True, steps=[1], layers=[0]).to_dataset()
    assert float(with_first["separability"].sel(head=2).squeeze()) > 0.25  # three frames share more than two
    assert with_first.attrs["first_frame"] == 1


def test_heads_that_know_no_frames_are_not_called(tmp_path):
    plan = dataclasses.replace(PLAN, frames_in=(), samples=8)
    result = analyses.motion_heads(plan.plant(tmp_path / "acts"))
    assert result.verdict == "does not replicate"
    assert "0 of 12 cells separate frames" in result.finding


def test_where_all_heads_do_none_stands_out(tmp_path):
    plan = dataclasses.replace(PLAN, frames_in=(0, 1, 2), steps=1, layers=1, at=(0, 0), samples=16)
    result = analyses.motion_heads(plan.plant(tmp_path / "acts"))
    data = result.to_dataset()
    assert (data["p"] <= 0.05).all()
    assert data["excess_low"] < 0.02
    assert result.verdict != "replicates"


def test_motion_is_compared_where_it_is_known(tmp_path, acts):
    data = analyses.motion_heads(acts).to_dataset()
    assert data["with_motion"].dims == ("step", "layer", "head")
    assert (data["with_motion_low"] < data["with_motion_high"]).all()
    unknown = dataclasses.replace(PLAN, tracked=False).plant(tmp_path / "acts")
    assert "with_motion" not in analyses.motion_heads(unknown).to_dataset()


def test_separability_that_grows_with_motion_is_seen(tmp_path):
    class Grows(PlantedMotion):
        def heads_of(self, site, position, seed):
            found = super().heads_of(site, position, seed)
            far = np.linalg.norm(np.diff(self.way(position), axis=0), axis=1).sum()
            found[1, 0, 0, 2, ..., 0, :] += far / 6  # the last frame of head 0
            return found

    data = analyses.motion_heads(Grows(**{**vars(PLAN), "samples": 24}).plant(tmp_path / "acts")).to_dataset()
    assert data["with_motion_low"].sel(step=1, layer=0, head=0) > 0.4
    assert abs(data["with_motion"].sel(step=0, layer=0, head=0)) < 0.6


def test_noise_is_called_at_the_nominal_rate():
    """500 stores of 4 samples in which frames tell nothing, though places do and heads go together."""
    rng = np.random.default_rng(3)
    called, values = 0, []
    for _ in range(500):
        observed, null = [], []
        for _sample in range(4):
            place = rng.standard_normal((1, 9, 1, 2)) * 3
            common = rng.standard_normal((3, 9, 1, 2))
            tokens = (place + common + rng.standard_normal((3, 9, 5, 2))).astype(np.float32)
            found = shares(tokens, shuffles(rng, count=99, places=9, frames=3))
            observed.append(found.observed)
            null.append(found.null)
        called += family_wise(np.mean(observed, axis=0), np.mean(null, axis=0)).min() <= 0.05
        values.append(np.mean(observed))
    assert stats.binom.ppf(0.001, 500, 0.05) <= called <= stats.binom.ppf(0.999, 500, 0.05)
    assert abs(np.mean(values)) < 4 * stats.sem(values)


def test_shares_are_those_of_their_definition():
    rng = np.random.default_rng(4)
    tokens = rng.standard_normal((3, 5, 2, 4)).astype(np.float32)
    found = shares(tokens, shuffles(rng, count=2000, places=5, frames=3))
    head = tokens[:, :, 1].astype(float)
    between = 5 * ((head.mean(axis=1) - head.mean(axis=(0, 1))) ** 2).sum()
    around = ((head - head.mean(axis=0)) ** 2).sum() / 5
    total = ((head - head.mean(axis=(0, 1))) ** 2).sum()
    assert found.observed[1] == pytest.approx((between - around) / total, rel=1e-4)
    np.testing.assert_allclose(found.null.mean(axis=0), 0, atol=0.01)
    apart = np.broadcast_to(np.arange(3, dtype=np.float32)[:, None, None, None], (3, 5, 1, 1))
    assert shares(apart, shuffles(rng, count=9, places=5, frames=3)).observed[0] == pytest.approx(1 - 1 / 5)


def test_what_cannot_be_measured_is_said(tmp_path, acts):
    with pytest.raises(analyses.NoRuns, match=r"holds q/full or q/head_energy"):
        analyses.motion_heads(acts, site="q")
    still = dataclasses.replace(PLAN, frames=2, video_frames=5, samples=2).plant(tmp_path / "acts")
    with pytest.raises(analyses.NoRuns, match=r"2 latent frame\(s\)"):
        analyses.motion_heads(still)
