"""What a page shows of experiments: gains by cost, curves by number, and that a store's report has them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import reports
import store
from analyses.experiments import EarlySelection, Ensemble, Frames, Steps
from tests.analyses.experiments import test_early_selection, test_ensemble, test_frames, test_steps
from tests.planted_arms import FRAMES
from tests.test_cli import run


def page_of(acts: store.ActivationStore, result) -> tuple[str, list[str]]:
    page = reports.render(acts, results=[result])
    return page, re.findall(r'role="img" aria-label="([^"]*)"', page)


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> store.ActivationStore:
    curves = {FRAMES: np.full(3, 0.9), 2: np.full(3, 0.2), 5: np.array([0.5, 0.6, 0.7])}
    acts = test_frames.plant(tmp_path_factory.mktemp("frames") / "acts", curves)
    Frames().compare(acts)
    return acts


def test_ensembles_stand_beside_what_as_many_forwards_buy(tmp_path):
    acts = test_ensemble.plant(tmp_path / "acts", samples=2, score=test_ensemble.raised(0.1))
    result = Ensemble().compare(acts)
    page, (rows, plane) = page_of(acts, result)
    assert "Averaging seeds inside the model" in page
    assert "hidden states of 3, layers 2, step 0: +0.101 for 6 forwards" in rows.replace("+0.100", "+0.101")
    assert "3 × 2 steps, best (oracle): " in rows
    assert rows.count(" forwards") == result.to_dataset().sizes["arm"]
    costs = [int(cost) for cost in re.findall(r"for (\d+) forwards", rows)]
    assert costs == sorted(costs)
    assert "one longer run, 6 steps: 0.50 for 6" in plane
    assert "nan" not in rows


def test_early_choices_and_the_commitment_curve_are_drawn(tmp_path):
    acts = test_early_selection.plant(tmp_path / "acts", samples=3)
    page, (rows, curve) = page_of(acts, EarlySelection().compare(acts))
    assert "Choosing a seed early" in page
    assert "most settled of 3 after 2 steps: +0.667 for 8 forwards" in rows
    assert "from 0.667 at step 0 to 1 at step 3" in curve


def test_the_curve_of_frames_has_its_numbers(frames):
    page, (score, cost) = page_of(frames, Frames().compare(frames))
    assert "0.20 at 2, 0.90 at 3, 0.60 at 5" in score
    assert "smallest sufficient: " in score
    assert "2 s at 2" in cost
    assert "out of its training" in page


def test_teacher_and_student_are_drawn_with_what_their_x0_hold(tmp_path):
    acts = test_steps.plant(tmp_path / "two", samples=2)
    _, (score, held) = page_of(acts, Steps().compare(acts))
    assert "teacher: 0.30 at 1, 0.90 at 4" in score
    assert "student, first x̂0: 1.00 at 1, 1.00 at 2" in held
    acts = test_steps.plant(tmp_path / "one", samples=2, answers=1)
    page, alts = page_of(acts, Steps().compare(acts))
    assert len(alts) == 1
    assert "No sample has several valid answers" in page


def test_the_report_of_a_store_has_its_experiments(frames, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its runs are of several settings, which no analysis averages; that ends no report."""
    assert run("report", "--store", frames.path, "-o", tmp_path / "page.html") == 0
    assert "How many frames it takes" in (tmp_path / "page.html").read_text()
    assert "left out" in capsys.readouterr().out
