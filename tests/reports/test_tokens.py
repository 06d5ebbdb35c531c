"""Sections of correspondence, motion heads and features: what was found is drawn, with what stands beside it."""

from __future__ import annotations

import dataclasses
import re

import pytest

import analyses
import reports
from tests.planted_dictionary import PlantedDictionary
from tests.planted_motion import PlantedMotion

PLAN = PlantedMotion(arrays=("q/full", "k/full", "z/full"), seeds=(0,), samples=10)


@pytest.fixture(scope="module")
def acts(tmp_path_factory):
    return PLAN.plant(tmp_path_factory.mktemp("motion") / "acts")


def alts(page: str) -> list[str]:
    found = re.findall(r'<div role="img" aria-label="([^"]*)"><svg', page)
    assert "nan" not in " ".join(found).lower()
    return found


@pytest.mark.parametrize("direction", ["from_first", "to_first"])
def test_matches_and_tracks_are_drawn(acts, direction):
    page = reports.render(acts, results=[analyses.correspondence(acts, direction=direction)])
    found = alts(page)
    assert len(found) == 3
    assert "at layer 0, step 1" in found[0].split("largest")[1]
    assert "Pictures of 4 first frames" in found[2]
    assert "head 1 of layer 0, step 1: 0." in found[2]
    assert "0 samples with several valid answers" in page


def test_maps_without_heads_are_drawn(tmp_path):
    plan = dataclasses.replace(PLAN, arrays=("pattern/map",), one_head=True, samples=4)
    acts = plan.plant(tmp_path / "acts")
    page = reports.render(acts, results=[analyses.correspondence(acts)])
    assert len(alts(page)) == 2
    assert "attention as the model uses it" in page


def test_heads_ranks_and_motion_are_drawn(acts, tmp_path):
    found = alts(reports.render(acts, results=[analyses.motion_heads(acts)]))
    assert len(found) == 3
    assert found[1].startswith("Heads in order, from 0.2 with ")
    unknown = dataclasses.replace(PLAN, tracked=False, samples=3).plant(tmp_path / "acts")
    page = reports.render(unknown, results=[analyses.motion_heads(unknown)])
    assert len(alts(page)) == 2
    assert "Too few samples have true tracks" in page


@pytest.mark.parametrize("plan", [PlantedDictionary(), PlantedDictionary(samples=1, seeds=(0,), gaussian=True)])
def test_features_are_shown_where_they_fire(tmp_path, plan):
    acts = plan.plant(tmp_path / "acts")
    page = reports.render(acts, results=[analyses.features(acts, updates=100, progress=False)])
    found = alts(page)
    assert len(found) == 3
    assert page.count("<image ") >= 8 + 2  # examples of eight features, the colour map and its scale
    assert "for Gaussian tokens" in found[2]
