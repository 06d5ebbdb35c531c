"""Kinds of energy, classes of tokens and foregrounds on planted truth, and their absence."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import analyses
from analyses._channel_stats import outlying
from analyses._energy_cells import KINDS, of_cell
from analyses._energy_measure import _Table
from analyses._energy_parts import judge, quantities
from analyses._token_regions import CLASSES, FOREGROUND, coverage, frames
from tests.planted_tokens import AT, MASSIVE, PlantedTokens


@pytest.fixture(scope="module")
def massive(tmp_path_factory):
    """A massive channel, and a foreground that is brighter in the last layer only."""
    planted = PlantedTokens(samples=12, massive=60.0, gain=1.5, steps=1)
    return analyses.energy(planted.plant(tmp_path_factory.mktemp("massive") / "acts"))


def test_kinds_agree_with_numpy():
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((2, 3, 4, 5, 7)).astype(np.float32)  # [cell, F, h, w, d]
    tokens[..., 2] = 3.0 + 50 * tokens[..., 2]
    tokens[..., 4] = 8.0  # does not vary
    outlier = np.zeros((2, 7), bool)
    outlier[1, 2] = True
    cells = [of_cell(one.reshape(-1, 7).copy(), out, KINDS) for one, out in zip(tokens, outlier, strict=True)]
    found = np.stack([one.energy.reshape(4, 3, 4, 5) for one in cells], axis=1)
    raw, masked, massive, standardised = found.astype(np.float64)
    for cell, one in zip(cells, tokens.astype(np.float64), strict=True):
        np.testing.assert_allclose(cell.square, (one**2).mean(axis=(0, 1, 2)), rtol=1e-5)
        np.testing.assert_array_equal(cell.absmax, np.abs(one).max(axis=(0, 1, 2)))
    np.testing.assert_allclose(raw, np.linalg.norm(tokens, axis=-1), rtol=1e-5)
    np.testing.assert_allclose(masked[0], raw[0], rtol=1e-6)
    np.testing.assert_allclose(masked[1], np.linalg.norm(np.delete(tokens[1], 2, axis=-1), axis=-1), rtol=1e-5)
    np.testing.assert_allclose(massive[1], np.abs(tokens[1, ..., 2]), rtol=1e-5)
    assert (massive[0] == 0).all()
    varying = np.delete(tokens, 4, axis=-1).astype(np.float64)
    z = (varying - varying.mean(axis=(1, 2, 3), keepdims=True)) / varying.std(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(standardised, np.sqrt((z**2).mean(axis=-1)), rtol=1e-4)
    assert of_cell(tokens[0].reshape(-1, 7).copy(), outlier[0], ["raw", "masked"]).energy.shape == (2, 60)


def test_a_massive_channel_is_found_and_left_out(massive):
    data = massive.to_dataset()
    assert data["outlier"].sum("channel").to_numpy().tolist() == [1, 1, 1, 1]
    assert (data["outlier"].sel(channel=MASSIVE) == 1).all()
    of = {kind: data["class_ratio"].sel(kind=kind) for kind in KINDS}
    for name in ("first frame", "frame border"):
        np.testing.assert_allclose(of["massive"].sel(compared=name), AT[name], rtol=0.03)
        np.testing.assert_allclose(of["masked"].sel(compared=name), 1.0, atol=0.12)
    assert (of["raw"].sel(compared="first frame") > 2.5).all()
    shares = data["kind_first_frame_share"]
    assert (shares.sel(kind="raw") > 0.5).all()
    np.testing.assert_allclose(shares.sel(kind="masked"), 1 / 3, atol=0.03)
    assert data["maps_masked"].dims == data["maps"].dims
    assert float(data["maps_massive"].min()) > 50


def test_outliers_that_turn_out_otherwise_are_read_again(tmp_path, monkeypatch):
    """A channel so near the bound that it is an outlier of some samples, in some layers."""
    planted = PlantedTokens(samples=8, steps=3, massive=5.03)
    again: list[list[int]] = []
    correct = _Table.correct
    monkeypatch.setattr(
        _Table,
        "correct",
        lambda table, sample, one: again.append(one.layer.values.tolist()) or correct(table, sample, one),
    )
    acts = planted.plant(tmp_path / "acts")
    data = analyses.energy(acts).to_dataset().compute()
    assert again
    assert any(len(layers) < planted.layers for layers in again)
    by_id = sorted(range(planted.samples), key=lambda position: planted.sample(position).id)
    tokens = np.stack([planted.tokens(position, 0)[:, 0] for position in by_id]).astype(np.float64)
    rms = np.sqrt((tokens**2).mean(axis=(0, 1, 3, 4, 5)))
    absmax = np.abs(tokens).max(axis=(3, 4, 5)).mean(axis=(0, 1))  # [layer, channel]
    outlier = outlying(*(xr.DataArray(one, dims=("layer", "channel")) for one in (rms, absmax))).to_numpy()
    np.testing.assert_array_equal(data["outlier"], outlier)
    assert 0 < outlier.sum() <= planted.layers
    kept = np.where(outlier[:, None, None, None], 0, tokens)
    for kind, part in {"raw": tokens, "masked": kept, "massive": tokens - kept}.items():
        energy = np.linalg.norm(part, axis=-1)  # [sample, step, layer, F, y, x]
        np.testing.assert_allclose(data["kind_energy"].sel(kind=kind), energy.mean(axis=(0, 1, 4, 5)), rtol=1e-5)
        maps = data["maps" if kind == "raw" else f"maps_{kind}"]
        np.testing.assert_allclose(maps, energy.mean(axis=0)[: maps.sizes["map_step"]], rtol=1e-5)
    spread = np.linalg.norm(tokens, axis=-1).std(axis=0, ddof=1) / np.linalg.norm(tokens, axis=-1).mean(axis=0)
    width = stats.t.ppf(0.975, 7) / np.sqrt(8)
    assert data["maps"].attrs["typical_half_width"] == pytest.approx(np.median(spread) * width, rel=1e-4)


def test_the_planted_foreground_layer_comes_back(massive):
    data = massive.to_dataset()
    index = data["specialisation"].sel(kind="masked")
    assert (data["specialisation_low"].sel(kind="masked", layer=3) > 0.2).all()
    assert (np.abs(index.sel(layer=[0, 1, 2])) < 0.1).all()
    own, elsewhere = (
        data[name].sel(kind="masked", layer=3) for name in ("foreground_ratio", "foreground_ratio_elsewhere")
    )
    assert (own > 1.5).all()  # covered by halves, a token has half the gain
    np.testing.assert_allclose(elsewhere, 1.0, atol=0.25)
    late = float(data["rise"].sel(kind="masked"))
    assert late == pytest.approx(float(index.sel(layer=[1, 2, 3]).mean() - index.sel(layer=0)), abs=1e-6)
    assert data["rise_low"].sel(kind="masked") > 0
    assert data.attrs["foregrounds"] == 12


def test_a_foreground_makes_the_claim(tmp_path):
    planted = PlantedTokens(samples=12, gain=1.5, bright=(1, 2, 3), steps=1, arrays=("resid_post/energy",))
    result = analyses.energy(planted.plant(tmp_path / "acts"))
    assert result.verdict == "replicates"
    assert "follows the objects more in later than in early layers" in result.finding
    assert result.to_dataset()["kind"].to_numpy().tolist() == ["raw"]
    assert "kind_energy" not in result.to_dataset()
    everywhere = PlantedTokens(samples=12, gain=1.5, bright=(0, 1, 2, 3), steps=1, arrays=("resid_post/energy",))
    assert analyses.energy(everywhere.plant(tmp_path / "all")).verdict == "does not replicate"


def test_a_bright_place_is_no_foreground(tmp_path):
    planted = PlantedTokens(samples=12, still=3.0, steps=1, arrays=("resid_post/energy",))
    result = analyses.energy(planted.plant(tmp_path / "acts"))
    data = result.to_dataset()
    assert result.verdict != "replicates"
    assert (data["specialisation_low"] < 0).all()
    assert float(data["foreground_ratio_high"].max()) > 1.5  # what would be said without the other sample's mask


def test_without_a_segmentation_nothing_is_claimed(tmp_path):
    planted = PlantedTokens(segmented=False, arrays=("resid_post/energy",))
    result = analyses.energy(planted.plant(tmp_path / "acts"))
    assert result.verdict == "descriptive"
    assert "specialisation" not in result.to_dataset()
    one = analyses.energy(PlantedTokens(samples=1, arrays=("resid_post/energy",)).plant(tmp_path / "one"))
    assert one.verdict == "descriptive"
    assert "foreground_ratio" in one.to_dataset()
    assert "specialisation" not in one.to_dataset()


def test_what_is_missing_is_told(tmp_path):
    acts = PlantedTokens(samples=1, arrays=("resid_post/energy",)).plant(tmp_path / "acts")
    with pytest.raises(analyses.NoRuns, match=r"masked needs whole tokens: capture resid_post/full.*share .*energy"):
        analyses.energy(acts, kinds=["masked"])
    with pytest.raises(analyses.UnknownOption, match="no energy loud; there are raw, masked"):
        analyses.energy(acts, kinds=["loud"])


def test_raw_energy_of_whole_tokens_is_that_of_the_reduction(tmp_path):
    whole, kept = (PlantedTokens(arrays=(f"resid_post/{name}",)) for name in ("full", "energy"))
    data = [analyses.energy(one.plant(tmp_path / one.arrays[0])).to_dataset() for one in (whole, kept)]
    for name in ("energy", "class_ratio", "foreground_ratio", "specialisation", "maps"):
        left = data[0][name].sel(kind=["raw"]) if "kind" in data[0][name].dims else data[0][name]
        np.testing.assert_allclose(left, data[1][name], rtol=1e-4, atol=1e-5)


def test_noise_makes_the_claim_at_most_at_the_nominal_rate():
    """Foreground and background alike up to noise, 500 times at once along an axis of its own."""
    regions = [*CLASSES, *FOREGROUND]
    axes = ("sample", "repeat", "kind", "step", "layer", "frame", "region")
    values = 5 + np.random.default_rng(3).standard_normal((12, 500, 1, 2, 8, 2, len(regions)))
    labels = {"kind": ["raw"], "step": [0, 1], "layer": np.arange(8), "frame": [0, 1], "region": regions}
    data = xr.Dataset(quantities(xr.DataArray(values, dims=axes, coords=labels)))
    told = [judge(data.isel(repeat=at)) for at in range(500)]
    rises = sum(one is not None and one.rise[1] > 0 for one in told)
    low, high = stats.binom.interval(0.999, 500, 0.025)  # one side of a 95 % interval
    assert low <= rises <= high
    assert sum(one is not None and one.verdict == "replicates" for one in told) <= rises


def test_gaussian_channels_are_no_outliers():
    values = np.random.default_rng(0).standard_normal((500, 100, 24))
    rms, absmax = np.sqrt((values**2).mean(axis=1)), np.abs(values).max(axis=1)
    found = outlying(*(xr.DataArray(one, dims=("cell", "channel")) for one in (rms, absmax)))
    assert int(found.sum()) == 0


@pytest.mark.parametrize(("video", "latent", "first"), [(17, 5, [1.0, 0.0]), (9, 9, [1.0, 0.0]), (8, 4, [0.5, 0.5])])
def test_video_frames_fall_into_latent_frames(video, latent, first):
    shares = frames(video, latent)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(shares[0, :2], first)
    if (video, latent) == (17, 5):
        np.testing.assert_allclose(shares[1, 1:5], 0.25)


def test_coverage_agrees_with_counting():
    planted = PlantedTokens()
    for position in range(3):
        grid = (planted.frames, planted.grid, planted.grid)
        found = coverage(planted.foreground(position), grid)
        np.testing.assert_allclose(found, planted.covered(position), atol=1e-6)
    uneven = coverage(np.ones((5, 10, 10), np.uint8), (3, 4, 7))
    np.testing.assert_allclose(uneven, 1, atol=1e-6)


def test_statistics_may_know_more_layers_than_are_kept_whole(tmp_path):
    """Outlier channels come from `channel_stats` of every layer; energies are of the layers that there are."""
    arrays = ("resid_post/full", "resid_post/channel_stats")
    planted = PlantedTokens(samples=3, massive=60.0, steps=1, arrays=arrays, full_layers=(0, 3))
    data = analyses.energy(planted.plant(tmp_path / "acts")).to_dataset()
    assert data["class_energy"].layer.to_numpy().tolist() == [0, 3]
    assert np.isfinite(data["class_energy"]).all()
    np.testing.assert_allclose(
        data["class_ratio"].sel(kind="massive", compared="first frame"), AT["first frame"], rtol=0.03
    )
