"""Token energy on planted truth: factors of layer, frame and step that must come back, and their absence."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from dataclasses import dataclass

import dask
import numpy as np
import pytest
import xarray as xr

import analyses
import store
from analyses import _energy_raw
from analyses._energy_maps import in_blocks
from analyses.energy import MAP_CELLS
from tests.analyses.contract import AnalysisContract
from tests.planted import Planted

ONLY = {"arrays": ("resid_post/energy",), "scored": False}


class TestEnergy(AnalysisContract):
    name = "energy"
    planted = Planted(noise=0.02, **ONLY)


@dataclass(frozen=True, kw_only=True)
class Given(Planted):
    """Runs whose energies are given, `[sample, seed, step, layer, frame, y, x]`."""

    values: np.ndarray

    def energies(self, sample: int, seed: int) -> np.ndarray:
        return self.values[sample, seed][:, None].astype(np.float32)


def given(values: np.ndarray) -> Given:
    samples, seeds, steps, layers, frames, grid, _ = values.shape
    sizes = {"samples": samples, "seeds": tuple(range(seeds)), "steps": steps, "layers": layers, "frames": frames}
    return Given(values=values, grid=grid, **sizes, **ONLY)


def test_planted_factors_come_back(tmp_path):
    planted = Planted(peak_step=4, peak_gain=0.5, first_frame=3.0, **ONLY)
    data = analyses.energy(planted.plant(tmp_path / "acts")).to_dataset()
    step = np.where(np.arange(planted.steps) == 4, 1.5, 1.0)
    layer, frame = 1.0 + np.arange(planted.layers), np.array([3.0, 1.0, 1.0])
    np.testing.assert_allclose(data["energy"], np.multiply.outer(layer, frame) * step.mean(), rtol=1e-6)
    np.testing.assert_allclose(data["energy_by_step"], np.multiply.outer(step, layer) * frame.mean(), rtol=1e-6)
    np.testing.assert_allclose(data["step_profile"], step * layer.mean() * frame.mean(), rtol=1e-6)
    np.testing.assert_allclose(data["first_frame_share"], 3 / 5, rtol=1e-6)
    np.testing.assert_allclose(data["energy_low"], data["energy_high"], rtol=1e-6)  # no noise was planted
    assert data["step_profile"].dims == ("step",)
    assert data.attrs["energy"] == "raw"
    assert "raw" in data["energy"].attrs["long_name"]


def test_numbers_agree_with_the_stored_tokens(tmp_path):
    planted = Planted(noise=0.2, **ONLY)
    acts = planted.plant(tmp_path / "acts")
    data = analyses.energy(acts).to_dataset()
    runs = [[planted.energies(sample, seed)[:, 0] for seed in planted.seeds] for sample in range(planted.samples)]
    samples = np.array(runs, np.float64).mean(axis=1)  # [sample, step, layer, frame, y, x]
    np.testing.assert_allclose(data["energy"], samples.mean(axis=(0, 1, 4, 5)), rtol=1e-5)
    kept = data["map_step"].to_numpy()
    assert kept.tolist() == [0, 1, 2, 4, 5]
    np.testing.assert_allclose(data["maps"], samples.mean(axis=0)[kept], rtol=1e-5)
    spread = samples[:, kept].std(axis=0, ddof=1) / samples[:, kept].mean(axis=0)
    np.testing.assert_allclose(
        data["maps"].attrs["typical_half_width"], np.median(spread) * 4.302653 / 3**0.5, rtol=1e-4
    )
    by_id = sorted(range(planted.samples), key=lambda position: planted.sample(position).id)
    assert data["map_sample"].to_numpy().tolist() == [planted.sample(position).id for position in by_id]
    np.testing.assert_allclose(data["sample_maps"], samples[by_id][:, kept], rtol=1e-5)
    per_sample = samples.mean(axis=(2, 3, 4, 5))
    half = (data["step_profile_high"] - data["step_profile_low"]) / 2
    expected = 4.302653 * per_sample.std(axis=0, ddof=1) / 3**0.5  # t of 2 degrees of freedom, 3 samples
    np.testing.assert_allclose(half, expected, rtol=1e-4)


def test_sql_statistics_say_the_same(tmp_path):
    acts = Planted(noise=0.1, **ONLY).plant(tmp_path / "acts")
    data = analyses.energy(acts).to_dataset()
    query = "SELECT layer, frame, avg(mean) FROM token_stats GROUP BY ALL ORDER BY layer, frame"
    from_sql = np.array([row[2] for row in acts.sql(query).fetchall()]).reshape(data["energy"].shape)
    np.testing.assert_allclose(data["energy"], from_sql, rtol=1e-5)


def test_peak_is_reported_with_its_step(tmp_path):
    result = analyses.energy(Planted(peak_step=4, noise=0.02, **ONLY).plant(tmp_path / "acts"))
    assert result.summary()["peak_step"] == 4
    assert result.summary()["peak_at_expert_switch"] is False
    assert "highest at step 4," in result.finding
    assert "switch" not in result.finding


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_flat_energy_has_no_peak(tmp_path, noise):
    result = analyses.energy(Planted(peak_step=None, noise=noise, **ONLY).plant(tmp_path / "acts"))
    assert result.summary()["peak_step"] is None
    assert "no peak over steps" in result.finding
    assert "peak_step" not in result.to_dataset().attrs


@pytest.mark.parametrize(("switch", "coincides"), [(3, True), (4, True), (2, True), (1, False), (5, False)])
def test_a_peak_at_the_switch_of_experts_is_told(tmp_path, switch, coincides):
    planted = Planted(peak_step=3, switch_step=switch, seeds=(0,), **ONLY)
    result = analyses.energy(planted.plant(tmp_path / "acts"))
    assert result.summary()["expert_switches"] == [switch]
    assert result.summary()["peak_at_expert_switch"] is coincides
    assert (f"coincides with the switch of experts at step {switch}" in result.finding) is coincides
    assert result.to_dataset()["expert"].to_numpy().tolist()[switch] == "transformer_2"


def test_large_maps_are_averaged_in_blocks(tmp_path):
    side = 2 * MAP_CELLS + 1
    values = np.ones((2, 1, 1, 1, 1, side, side))
    values[..., :3, :3] = 10.0
    data = analyses.energy(given(values).plant(tmp_path / "acts")).to_dataset()
    assert data["maps"].shape == (1, 1, 1, 43, 43)
    assert float(data["maps"][0, 0, 0, 0, 0]) == 10.0
    assert float(data["maps"][0, 0, 0, 1, 1]) == 1.0
    assert "blocks of 3 × 3" in data["maps"].attrs["long_name"]


def test_a_block_at_the_edge_is_the_mean_of_what_is_there():
    values = np.random.default_rng(0).random((2, 7, 5), np.float32)
    found = in_blocks(values, 3)
    assert found.shape == (2, 3, 2)
    np.testing.assert_allclose(found[:, 2, 1], values[:, 6:, 3:].mean(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_allclose(found[:, 1, 0], values[:, 3:6, :3].mean(axis=(1, 2)), rtol=1e-6)


@pytest.mark.parametrize("overflow", [np.inf, np.nan])
def test_overflow_is_refused_by_the_name_of_its_sample(tmp_path, overflow):
    values = np.ones((3, 2, 2, 2, 2, 2, 2))
    values[1, 1, 0, 1, 0, 0, 0] = overflow  # in one of its two runs
    planted = given(values)
    with pytest.raises(analyses.NonFinite, match=f"of sample {planted.sample(1).id} are NaN or infinite"):
        analyses.energy(planted.plant(tmp_path / "acts"))


def test_zero_energy_has_no_share(tmp_path):
    data = analyses.energy(given(np.zeros((3, 1, 2, 2, 2, 2, 2))).plant(tmp_path / "acts")).to_dataset()
    assert np.isnan(data["first_frame_share"]).all()
    assert float(data["energy"].max()) == 0.0


def test_other_branch_and_site_are_other_questions(tmp_path):
    acts = Planted(samples=1, **ONLY).plant(tmp_path / "acts")
    with pytest.raises(KeyError, match="uncond"):
        analyses.energy(acts, branch="uncond")
    with pytest.raises(analyses.NoRuns, match=r"attn_out/energy.*resid_post/energy"):
        analyses.energy(acts, site="attn_out")


def test_memory_does_not_grow_with_the_samples_or_the_steps(tmp_path, monkeypatch):
    """A block of steps at a time is there, and what stays of the ones before is small."""
    planted = Planted(samples=4, seeds=(0,), steps=24, layers=2, frames=4, grid=128, **ONLY)
    acts = store.open(planted.plant(tmp_path / "acts").path)  # for reading only, so that no result is kept
    step = 4 * 2 * 4 * 128 * 128
    monkeypatch.setattr("analyses._energy_raw.BLOCK", step)
    analyses.energy(acts)  # what is imported and kept once
    tracemalloc.start()
    with dask.config.set(scheduler="synchronous"):
        data = analyses.energy(acts).to_dataset()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 * step  # what one of the four runs holds
    assert sum(one.nbytes for one in data.values()) < peak


def test_blocks_of_steps_say_the_same_as_one(tmp_path, monkeypatch):
    acts = store.open(Planted(samples=3, steps=7, noise=0.1, **ONLY).plant(tmp_path / "acts").path)
    whole = analyses.energy(acts).to_dataset()
    monkeypatch.setattr("analyses._energy_raw.BLOCK", 2 * 4 * 3 * 3 * 6 * 6)  # two steps
    read = Counter()
    block = _energy_raw._block
    monkeypatch.setattr("analyses._energy_raw._block", lambda *args: (read.update([len(args[4])]), block(*args))[1])
    xr.testing.assert_identical(analyses.energy(acts).to_dataset(), whole)
    assert read == {2: 3 * 3 * 2, 1: 3 * 2}
