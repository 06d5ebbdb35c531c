"""Early selection: its criteria on planted x̂0, its cost, its verdict, and the commitment curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import analyses
from analyses import experiments
from analyses.experiments import EarlySelection, Frame
from analyses.experiments.early_selection import choices, cost, preferences
from tests.planted_arms import STEPS, empty, put, sample

FRAME = Frame(steps=20, layers=3, latent_frames=3, held=0, frames=17, seeds=(0, 1, 2, 3))
DOCS = Path(__file__).parents[3] / "docs" / "experiments.md"


def plant(path: Path, *, samples: int = 12, settled_is_right: bool = True, longer: float = 0.5, scores=(1.0, 0.0, 0.0)):
    """Three seeds; the first, which is right, changes least between its first two x̂0, or most."""
    acts = empty(path)
    for position in range(samples):
        question = sample(position)
        final = question.video
        for seed, score in enumerate(scores):
            moved = 0 if (seed == 0) == settled_is_right else 40
            first = (final.astype(int) + moved - 20).clip(0, 255).astype(np.uint8)
            shown = [first, final, final, final]
            answers = [0.0, 1.0 - score, score, score]
            put(acts, question, score=score, seed=seed, clean=True, x0=shown if moved else [final] * 4, answers=answers)
        for total in {cost(3, at, STEPS) for at in choices(None, STEPS)}:
            score = longer + 0.001 * (position % 3)
            put(acts, question, score=score, steps=total, x0=[final] * total)
    return acts


def test_it_is_registered_and_documented():
    assert experiments.get("early-selection") is EarlySelection
    assert "## `early-selection`" in DOCS.read_text()


def test_the_plan_has_one_longer_run_for_each_choice():
    arms = EarlySelection().plan(FRAME)
    assert choices(None, 20) == [2, 5, 10]
    assert [arm.settings["steps"] for arm in arms] == [4 * at + 20 - at for at in (2, 5, 10)]
    assert {arm.seeds for arm in arms} == {(0,)}


@pytest.mark.parametrize(
    ("options", "frame", "says"),
    [
        ({}, FRAME._replace(seeds=(0,)), "ask for --seeds 0-3"),
        ({"at": (1,)}, FRAME, "no choice after 1 step of 20: after 2 to 19"),
        ({"at": (20,)}, FRAME, "no choice after 20 steps"),
        ({}, FRAME._replace(steps=2), "needs 3 denoising steps"),
    ],
)
def test_what_does_not_fit_is_named(options, frame, says):
    with pytest.raises(analyses.BadPlan, match=says):
        EarlySelection(**options).plan(frame)


def test_each_criterion_prefers_what_it_says():
    rng = np.random.default_rng(0)
    first = rng.random((8, 8, 3))
    base = np.tile(first, (3, 4, 1, 1, 1))
    before = base.copy()
    x0 = base + 0.0
    x0[1] += 0.1  # moved, unfaithful, far from the others
    x0[2] = x0[2].mean(axis=(2, 3), keepdims=True)  # flat
    told = preferences(x0, before, first)
    assert told["settled"].argmax() == 0
    assert told["sharp"].argmin() == 2
    assert told["faithful"].argmax() == 0
    assert told["agreeing"].argmax() == 0


def test_the_choice_costs_all_seeds_up_to_it_and_one_to_its_end(tmp_path):
    data = EarlySelection().compare(plant(tmp_path / "acts", samples=2)).to_dataset()
    cells = {
        (str(method), int(at)): float(forwards)
        for method, at, forwards in zip(data["method"].values, data["at"].values, data["forwards"].values, strict=True)
    }
    assert cells["settled", 2] == cells["long", 0] == 3 * 2 + 2
    assert cells["any", 0] == STEPS
    assert cells["fewer", 2] == 2 * STEPS
    assert cells["best", STEPS] == 3 * STEPS


def test_a_planted_advantage_is_found(tmp_path):
    result = EarlySelection().compare(plant(tmp_path / "acts"))
    assert result.verdict == "replicates"
    summary = result.summary()
    assert summary["gain"] == pytest.approx(2 / 3)
    assert summary["best_seed_gain"] == pytest.approx(2 / 3)
    assert summary["gain_over_longer_run"] == pytest.approx(0.499)
    assert "n = 12 samples" in result.finding


@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        ({"settled_is_right": False}, "does not replicate"),
        ({"longer": 1.1}, "does not replicate"),
        ({"scores": (1.0, 1.0, 1.0)}, "inconclusive"),  # nothing to choose
        ({"samples": 9}, "inconclusive"),
    ],
)
def test_the_verdict_follows_what_was_planted(tmp_path, options, verdict):
    assert EarlySelection().compare(plant(tmp_path / "acts", **options)).verdict == verdict


def test_the_commitment_curve_says_when_the_answer_is_that_of_the_end(tmp_path):
    data = EarlySelection().compare(plant(tmp_path / "acts", samples=3)).to_dataset()
    np.testing.assert_allclose(data["committed"], [2 / 3, 0, 1, 1])


def test_seeds_that_a_sample_lacks_are_left_out(tmp_path):
    acts = plant(tmp_path / "acts", samples=2)
    put(acts, sample(0), score=1.0, seed=7, clean=True, x0=[sample(0).video] * 4)
    assert EarlySelection().compare(acts).summary()["seeds"] == 3


def test_a_choice_by_lot_is_rarely_said_to_help():
    """Criteria that know nothing: the chosen seed is a random one of four."""
    from analyses.experiments import _gain
    from tests.simulated import Quick

    rng, n, times = np.random.default_rng(0), 24, 3000
    scores = (rng.random((times, n, 4)) < 0.6).astype(float)
    gain = scores[..., 0] - scores.mean(axis=-1)
    quick = Quick(n)
    assert ((quick.ends(gain)[0] > 0) & (quick.p(gain) < _gain.LEVEL)).mean() <= 0.035
