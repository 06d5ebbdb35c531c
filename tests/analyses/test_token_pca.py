"""Tokens as colours: planted directions come back, and one basis serves all steps, seeds and samples."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import analyses
from analyses.token_pca import Basis, fit, measure
from tests.analyses.contract import AnalysisContract
from tests.planted_tokens import PlantedTokens

PROJECT = PlantedTokens(arrays=("resid_post/project",), layers=2, bright=())


class TestTokenPca(AnalysisContract):
    name = "token_pca"
    planted = PlantedTokens(arrays=("resid_post/project",), seeds=(0, 1), layers=2, bright=())


def runs(values: np.ndarray) -> dict[str, list[xr.DataArray]]:
    """Samples with one run each, from `[sample, step, layer, frame, y, x, channel]`."""
    axes = ("run", "step", "layer", "frame", "y", "x", "channel")
    labels = {"step": np.arange(values.shape[1]), "layer": np.arange(values.shape[2])}
    return {f"s{at}": [xr.DataArray(one[None], dims=axes, coords=labels)] for at, one in enumerate(values)}


def noise(**sizes: int) -> np.ndarray:
    shape = tuple({"sample": 3, "step": 4, "layer": 2, "frame": 2, "y": 6, "x": 6, "channel": 16, **sizes}.values())
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_a_planted_direction_comes_back_whatever_a_massive_channel_does():
    values = noise()
    planted = np.zeros(16)
    planted[[2, 3, 4, 5]] = 0.5
    along = 6 * np.random.default_rng(1).standard_normal(values.shape[:-1])[..., None]
    values[:, :, 1] += (along * planted)[:, :, 1]
    values[..., 9] *= 1000
    data = measure(runs(values), seed=0)
    direction = data["direction"].isel(layer=1, component=0).to_numpy()
    assert direction @ planted > 0.98
    assert float(data["explained"].isel(layer=1, component=0)) == pytest.approx(4 / 16 * 0.93, abs=0.03)
    assert float(data["explained_by_three"].isel(layer=0)) < 0.35  # noise: three of 16, and a little that was fitted
    np.testing.assert_allclose(data["step_share"], 0, atol=0.02)


def test_a_direction_that_tells_the_step_is_told():
    values = noise()
    values[..., 3] += 8 * np.arange(4)[None, :, None, None, None, None]
    values[..., 4] += 8 * np.arange(4)[None, :, None, None, None, None]
    data = measure(runs(values), seed=0)
    assert (data["step_share"].isel(component=0) > 0.9).all()
    assert (data["step_share"].isel(component=1) < 0.1).all()


def test_colours_of_all_runs_are_of_one_basis(tmp_path):
    planted = PlantedTokens(arrays=("resid_post/full",), seeds=(0, 1, 2), samples=4)
    acts = planted.plant(tmp_path / "acts")
    data = analyses.token_pca(acts).to_dataset().load()
    assert data["colour"].sizes["map_run"] == 6  # two of three seeds, three of four samples
    assert data["colour"].dtype == np.uint8
    for layer in (0, 3):
        own = data.isel(layer=layer)
        names = ("channel_mean", "channel_scale", "direction", "low", "high")
        basis = Basis(*(own[name].to_numpy().astype(np.float64) for name in names))
        for at, run in enumerate(own["map_run"].to_numpy()):
            tokens = acts.load("resid_post", "full", runs=[run], layer=layer, branch="cond", lazy=False)
            expected = basis.colours(tokens.isel(run=0).to_numpy())
            np.testing.assert_array_equal(own["colour"].isel(map_run=at).to_numpy(), expected)


def test_signs_are_fixed():
    tokens = noise(sample=1, step=1, layer=1).reshape(-1, 16)
    tokens[:, 7] *= 1.0
    both = [fit(tokens), fit(-tokens)]
    for one in both:
        largest = np.take_along_axis(one.directions, np.abs(one.directions).argmax(axis=1)[:, None], axis=1)
        assert (largest > 0).all()
    np.testing.assert_allclose(np.abs(both[0].directions), np.abs(both[1].directions), atol=1e-6)


def test_what_cannot_be_drawn_is_told(tmp_path):
    acts = PlantedTokens(samples=1, arrays=("resid_post/energy",)).plant(tmp_path / "acts")
    with pytest.raises(analyses.NoRuns, match="holds resid_post/project or resid_post/full"):
        analyses.token_pca(acts)
    broken = noise()
    broken[1, 0, 0, 0, 0, :, 0] = np.nan
    with pytest.raises(analyses.NonFinite, match="sample s1"):
        measure(runs(broken), seed=0)
