"""Sections of behaviours, channels, colours and the kinds of energy: each is drawn with what stands beside it."""

from __future__ import annotations

import dataclasses

import pytest

import analyses
import reports
from tests.analyses.test_self_correction import PlantedAnswers
from tests.planted_tokens import PlantedTokens
from tests.planted_tracks import PlantedTracks


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """Whole tokens with a massive channel and a foreground."""
    planted = PlantedTokens(samples=3, seeds=(0, 1), massive=60.0, gain=1.5)
    return planted.plant(tmp_path_factory.mktemp("tokens") / "acts")


def test_kinds_and_parts_of_energy_are_drawn(tokens):
    page = reports.render(tokens, results=[analyses.energy(tokens)])
    for title in (
        "Share of the first frame, by kind of energy",
        "Classes of tokens, masked energy",
        "Foreground over background, standardised energy",
        "Which layers follow the objects",
        "Standardised energy, 3 samples",
    ):
        assert title in page


def test_raw_energy_alone_has_no_kinds(tmp_path):
    acts = PlantedTokens(segmented=False, arrays=("resid_post/energy",)).plant(tmp_path / "acts")
    page = reports.render(acts, results=[analyses.energy(acts)])
    assert "Classes of tokens, raw energy" in page
    assert "by kind of energy" not in page
    assert "Foreground over background" not in page


def test_channels_and_colours_are_drawn(tokens):
    page = reports.render(tokens, results=[analyses.channels(tokens), analyses.token_pca(tokens)])
    assert "What outlier channels carry" in page
    assert "outliers in some step, 1 of 24" in page
    assert "First run: layers, each with its own basis" in page
    assert "sample 3 run 2" in page


def test_behaviours_are_drawn(tmp_path):
    tracks = PlantedTracks(
        samples=24, steps=4, layers=1, channels=12, cover=(1, 2, 3, 4), since={"colour": 1, "where": 0, "how": 2}
    )
    acts = tracks.plant(tmp_path / "tracks")
    answers = dataclasses.replace(PlantedAnswers(), samples=4).plant(tmp_path / "answers")
    page = reports.render(acts, results=[analyses.working_memory(acts), analyses.perception_first(acts)])
    assert "colour, while hidden: " in page
    assert "Readable by step: action" in page
    assert "Perception minus action: " in page
    other = reports.render(answers, results=[analyses.self_correction(answers)])
    assert "Changes of the answer, since the picture has formed" in other
    assert "wrong to right: from 0 at step 0" in other
