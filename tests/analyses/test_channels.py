"""Outlier channels on planted truth, from statistics and from whole tokens, and their absence."""

from __future__ import annotations

import numpy as np
import pytest

import analyses
from tests.analyses.contract import AnalysisContract
from tests.planted_tokens import MASSIVE, PlantedTokens

STATS = PlantedTokens(massive=60.0, arrays=("resid_post/channel_stats",))


class TestChannels(AnalysisContract):
    name = "channels"
    planted = PlantedTokens(massive=60.0, seeds=(0, 1), layers=2, bright=(), arrays=("resid_post/channel_stats",))


def test_the_planted_channel_comes_back(tmp_path):
    result = analyses.channels(STATS.plant(tmp_path / "acts"))
    data = result.to_dataset()
    assert (data["outliers"] == 1).all()
    assert data["outlier_rate"].sel(channel=MASSIVE).to_numpy().tolist() == [1.0] * STATS.layers
    assert result.summary()["lasting_outlier_channels"] == [MASSIVE]
    strength = 60 * STATS.strength()
    square = (strength**2).mean() + 1
    np.testing.assert_allclose(data["rms"].sel(channel=MASSIVE), square**0.5, rtol=1e-3)
    np.testing.assert_allclose(data["outlier_share"], square / (square + STATS.channels - 1), rtol=1e-3)
    np.testing.assert_allclose(data["variance"], (strength.var() + STATS.channels) / STATS.channels, rtol=0.02)
    assert (data["effective_channels"] < 1.1).all()
    assert f"channels {MASSIVE} are outliers" in result.finding


def test_whole_tokens_say_the_same(tmp_path):
    both = [
        PlantedTokens(massive=60.0, samples=2, arrays=(f"resid_post/{name}",)) for name in ("full", "channel_stats")
    ]
    data = [analyses.channels(one.plant(tmp_path / one.arrays[0])).to_dataset() for one in both]
    for name in ("outliers", "outlier_share", "effective_channels", "variance", "rms", "absmax"):
        np.testing.assert_allclose(data[0][name], data[1][name], rtol=1e-3)


def test_without_massive_channels_there_are_none(tmp_path):
    result = analyses.channels(PlantedTokens(arrays=("resid_post/channel_stats",)).plant(tmp_path / "acts"))
    assert float(result.to_dataset()["outliers"].max()) == 0
    assert result.finding.startswith("No channel of resid_post (cond) is an outlier")
    assert (result.to_dataset()["effective_channels"] > 0.9 * STATS.channels).all()


def test_what_is_missing_is_told(tmp_path):
    acts = PlantedTokens(samples=1, arrays=("resid_post/energy",)).plant(tmp_path / "acts")
    with pytest.raises(
        analyses.NoRuns, match=r"No run.* holds resid_post/channel_stats or resid_post/full.*Capture it"
    ):
        analyses.channels(acts)
