"""Sections of probes and similarity: each label and quantity is drawn, with what stands beside it."""

from __future__ import annotations

import pytest

import analyses
import reports
from tests.planted_features import PlantedFeatures


@pytest.fixture(scope="module")
def acts(tmp_path_factory):
    plan = PlantedFeatures(
        samples=20, seeds=(0, 1), steps=2, layers=2, at=(1, 1), arrays=("resid_post/token_mean", "latent/full")
    )
    return plan.plant(tmp_path_factory.mktemp("features") / "acts")


def test_each_label_has_its_grid(acts):
    page = reports.render(acts, results=[analyses.probes(acts)])
    for label in ("colour", "side", "speed"):
        assert f"Colour map of the score of {label}: smallest" in page
    assert "labels drawn by lot" in page
    assert "latents, mean over steps" in page
    assert "n\u00a0=\u00a020 samples" in page


def test_sites_without_layers_are_drawn(acts):
    page = reports.render(acts, results=[analyses.probes(acts, site="latent", by_frame=True, labels="side")])
    assert "latent frame" in page


@pytest.mark.parametrize("between", ["layers", "steps", "seeds"])
def test_likeness_is_drawn(acts, between):
    page = reports.render(acts, results=[analyses.similarity(acts, between=between)])
    assert f"Likeness between {between}" in page
    assert "debiased linear CKA; rows are samples" in page
    assert "Colour map: smallest" in page
