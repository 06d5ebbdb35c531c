"""The frames experiment: its plan, its verdict on planted curves, and the number that it finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import analyses
import store
from analyses import experiments
from analyses.experiments import Frame, Frames
from analyses.experiments._table import Arms
from analyses.experiments.frames import Labels, decide
from tests.planted_arms import FRAMES, empty, put, sample
from tests.simulated import Quick, curve, guard

FRAME = Frame(steps=4, layers=3, latent_frames=3, held=0, frames=17)
DOCS = Path(__file__).parents[3] / "docs" / "experiments.md"


def plant(path: Path, curves: dict[int, np.ndarray], **more) -> store.ActivationStore:
    """Runs of `FRAMES` frames are the clean ones; `curves` are the scores of the samples by number of frames."""
    acts = empty(path)
    for position in range(len(curves[FRAMES])):
        question = sample(position)
        for frames, scores in sorted(curves.items(), key=lambda one: one[0] != FRAMES):
            put(acts, question, score=scores[position], frames=frames, clean=frames == FRAMES, **more)
    return acts


def arms_of(curves: np.ndarray, *, own: int) -> Arms:
    labels = tuple(Labels(5 + 4 * at, at == own) for at in range(len(curves)))
    samples = tuple(map(str, range(curves.shape[1])))
    return Arms(labels, samples, curves, np.zeros(len(curves)), np.zeros(len(curves)))


def verdict(*rates: float, own: int = 0, n: int = 200) -> str:
    arms = arms_of(curve(*rates, n=n), own=own)
    return decide(arms, experiments.frames.sufficient(arms.score))


def test_it_is_registered_and_documented():
    assert experiments.get("frames") is Frames
    assert "## `frames`" in DOCS.read_text()


def test_the_plan_has_every_other_number_and_leaves_out_the_clean_one():
    arms = Frames().plan(FRAME)
    assert [arm.settings for arm in arms] == [{"frames": count} for count in (5, 9, 13, 21, 25, 33)]
    assert not any(arm.interventions or arm.variant for arm in arms)
    with pytest.raises(analyses.BadPlan, match="1 frame shows the question alone"):
        Frames(counts=(1, 5)).plan(FRAME)
    with pytest.raises(analyses.BadPlan, match="not 17 with itself"):
        Frames(counts=(17,)).plan(FRAME)


def test_planted_scores_costs_and_labels_come_back(tmp_path):
    few, own, many = np.array([0.0, 0.2] * 6), np.full(12, 0.9), np.array([0.9, 0.5] * 6)
    acts = plant(tmp_path / "acts", {FRAMES: own, 2: few, 5: many}, guidance=2.0)
    result = Frames().compare(acts)
    data = result.to_dataset()
    assert data["frames"].values.tolist() == [2, FRAMES, 5]
    assert data["own"].values.tolist() == [False, True, False]
    np.testing.assert_allclose(data["score"], [0.1, 0.9, 0.7])
    np.testing.assert_allclose(data["gain"], [-0.8, 0.0, -0.2])
    np.testing.assert_allclose(data["forwards"], 8)  # four guided steps
    np.testing.assert_allclose(data["seconds"], 2)
    assert np.isnan(data["p_value"][1])
    assert float(data["p_adjusted"][0]) < 0.01
    assert result.summary()["comparisons"] == 2
    assert result.verdict == "inconclusive"  # the best number is the model's own
    assert result.summary()["smallest_sufficient"] is None
    assert "n = 12 samples" in result.finding
    assert Frames().compare(store.open(acts.path)).record == result.record


def test_the_smallest_sufficient_number_is_found_where_it_was_planted(tmp_path):
    low, high = np.zeros(60), np.ones(60)
    acts = plant(tmp_path / "acts", {2: low, FRAMES: high, 5: high, 9: high})
    assert Frames().compare(acts).summary()["smallest_sufficient"] == FRAMES


@pytest.mark.parametrize(
    ("rates", "own", "said"),
    [
        ((0.2, 0.9, 0.95, 0.6), 0, "replicates"),
        ((0.2, 0.9, 0.95, 0.6), 2, "inconclusive"),  # training at that number alone explains it
        ((0.95, 0.95, 0.95, 0.6), 3, "does not replicate"),  # few frames do
        ((0.2, 0.9, 0.95, 0.94), 0, "does not replicate"),  # many do no harm
        ((0.88, 0.92, 0.94, 0.9), 0, "inconclusive"),
    ],
)
def test_the_verdict_follows_the_curve(rates, own, said):
    assert verdict(*rates, own=own) == said


def test_few_samples_decide_nothing():
    assert verdict(0.0, 1.0, 0.0, own=0, n=9) == "inconclusive"
    assert verdict(0.0, 1.0, 0.0, own=0, n=12) == "replicates"


def test_a_flat_curve_is_rarely_said_to_have_a_summit():
    """Seven numbers that do alike, answers by lot; the best is chosen among them and judged on the same samples."""
    rng, n, times = np.random.default_rng(0), 24, 1500
    scores = (rng.random((times, 7, n)) < 0.5).astype(float)
    best = scores[np.arange(times), scores.mean(axis=2).argmax(axis=1)]
    quick = Quick(n + 2)
    fewest, most = (quick.ends(guard(best - scores[:, end]))[0] for end in (0, -1))
    assert ((fewest > 0.05) & (most > 0)).mean() <= 0.05


def test_videos_that_nothing_scored_are_said_to_be_so(tmp_path):
    acts = plant(tmp_path / "acts", {FRAMES: np.array([None, None]), 5: np.array([None, None])})
    result = Frames().compare(acts)
    assert result.verdict == "inconclusive"
    assert "Nothing scored these videos" in result.finding


def test_runs_of_other_kinds_are_left_out(tmp_path):
    acts = plant(tmp_path / "acts", {FRAMES: np.ones(2), 5: np.ones(2)})
    other = put(acts, sample(0), score=0.0, steps=9)
    changed = put(acts, sample(0), score=0.0, interventions=[{"kind": "noise_at_step", "steps": [1]}])
    record = Frames().compare(acts).record
    assert not {other, changed} & set(record.run_ids)
    assert len(record.run_ids) == 4


def test_without_runs_it_says_how_to_make_them(tmp_path):
    acts = empty(tmp_path / "acts")
    put(acts, sample(0), score=1.0, clean=True)
    with pytest.raises(analyses.NoRuns, match=r"None of the 1 runs .* `stepscope experiment`"):
        Frames().compare(acts)


def test_clean_runs_of_two_settings_are_not_mixed(tmp_path):
    acts = plant(tmp_path / "acts", {FRAMES: np.ones(2), 5: np.ones(2)})
    plant(tmp_path / "acts", {FRAMES: np.ones(2), 5: np.ones(2)}, guidance=2.0)
    with pytest.raises(analyses.MixedRuns, match="choose with where="):
        Frames().compare(acts)
    assert Frames().compare(acts, where="guidance = 1").record.n == 2


def test_a_run_that_was_there_before_without_its_parent_is_found(tmp_path):
    """A run's id leaves its parent out, so one that was captured for itself is not made again as a child."""
    acts = empty(tmp_path / "acts")
    for position in range(2):
        put(acts, sample(position), score=1.0, clean=True)
    put(acts, sample(0), score=0.5, frames=5, clean=True)
    put(acts, sample(1), score=0.5, frames=5)
    assert len(Frames().compare(acts).record.run_ids) == 4
