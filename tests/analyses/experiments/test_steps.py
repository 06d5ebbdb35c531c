"""The steps experiment: its plan, exploration and its collapse as planted, teacher and student each by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import analyses
from analyses import experiments
from analyses.experiments import Frame, Steps
from analyses.experiments.steps import decide
from tests.planted_arms import LORA, STEPS, empty, put, sample

FRAME = Frame(steps=20, layers=3, latent_frames=3, held=0, frames=17)
DOCS = Path(__file__).parents[3] / "docs" / "experiments.md"


def x0(question, weights) -> list[np.ndarray]:
    """x̂0 of several steps: mixtures of the two answers, the second one at these weights."""
    first, second = question.answer_videos.astype(float)
    return [((1 - w) * first + w * second).round().astype(np.uint8) for w in weights]


def plant(path: Path, *, samples: int = 12, teacher: float = 0.5, student: float = 0.0, answers: int = 2):
    """The first x̂0 of the teacher holds this share of the second answer, that of the student another one."""
    acts = empty(path)
    for position in range(samples):
        question = sample(position, answers=answers)

        def seen(first: float, steps: int, question=question) -> list[np.ndarray]:
            return x0(question, [first, *[0.0] * (steps - 1)]) if answers > 1 else []

        put(acts, question, score=0.9, clean=True, x0=seen(teacher, STEPS))
        put(acts, question, score=0.3, steps=1, x0=seen(teacher, 1))
        for steps, score in ((1, 0.5), (2, 0.9)):
            put(acts, question, score=score, steps=steps, adapters=(LORA,), x0=seen(student, steps))
    return acts


def test_it_is_registered_and_documented():
    assert experiments.get("steps") is Steps
    assert "## `steps`" in DOCS.read_text()


def test_the_plan_has_the_teacher_and_the_student():
    arms = Steps(student="few").plan(FRAME)
    assert [arm.settings["steps"] for arm in arms if not arm.variant] == [1, 2, 4, 8, 10, 50]
    assert [arm.settings["steps"] for arm in arms if arm.variant == "few"] == [1, 2, 4]
    assert not any(arm.variant for arm in Steps().plan(FRAME))
    with pytest.raises(analyses.BadPlan, match="1 denoising step or more, not 0"):
        Steps(numbers=(0,)).plan(FRAME)
    with pytest.raises(analyses.BadPlan, match="not 20 with itself"):
        Steps(numbers=(20,)).plan(FRAME)


def test_a_planted_collapse_is_found(tmp_path):
    result = Steps().compare(plant(tmp_path / "acts"))
    assert result.verdict == "replicates"
    data = result.to_dataset()
    arms = list(zip(data["model"].values, data["steps"].values.tolist(), strict=True))
    assert arms == [("teacher", 1), ("teacher", STEPS), ("student", 1), ("student", 2)]
    np.testing.assert_allclose(data["effective_first"], [2, 2, 1, 1], atol=0.02)
    np.testing.assert_allclose(data["effective_last"], [2, 1, 1, 1], atol=0.02)
    np.testing.assert_allclose(data["shown_steps"], [1, 1, 0, 0])
    np.testing.assert_allclose(data["score"], [0.3, 0.9, 0.5, 0.9])
    np.testing.assert_allclose(data["forwards"], [1, 4, 1, 2])
    summary = result.summary()
    assert summary["first_difference"] == pytest.approx(-1, abs=0.05)
    assert summary["samples_with_several_answers"] == 12
    assert summary["comparisons"] == 3
    assert "n = 12 samples" in result.finding


def test_a_student_that_explores_as_much_does_not_replicate(tmp_path):
    assert Steps().compare(plant(tmp_path / "acts", student=0.5)).verdict == "does not replicate"


def test_the_smallest_numbers_are_found_for_each_model(tmp_path):
    summary = Steps().compare(plant(tmp_path / "acts", samples=60, answers=1)).summary()
    assert summary["smallest_sufficient_teacher"] == STEPS
    assert summary["smallest_sufficient_student"] == 2


def test_samples_with_one_answer_say_nothing_of_exploration(tmp_path):
    result = Steps().compare(plant(tmp_path / "acts", answers=1))
    assert result.verdict == "inconclusive"
    assert np.isnan(result.to_dataset()["effective_first"]).all()
    assert result.summary()["samples_with_several_answers"] == 0


def test_without_a_student_there_is_no_verdict(tmp_path):
    acts = plant(tmp_path / "acts")
    mine = [id for id in acts.run_ids() if not acts.run(id).run.model.adapters]
    result = Steps().compare(acts, runs=mine)
    assert result.verdict == "inconclusive"
    assert "student" not in result.to_dataset()["model"].values


def test_the_rule_at_its_edges():
    rng = np.random.default_rng(0)
    assert decide(rng.normal(-0.5, 0.1, 20)) == "replicates"
    assert decide(rng.normal(0.0, 0.05, 20)) == "does not replicate"
    assert decide(rng.normal(-0.1, 0.5, 20)) == "inconclusive"
    assert decide(rng.normal(-0.5, 0.1, 9)) == "inconclusive"
    assert decide(np.full(20, np.nan)) == "inconclusive"


def test_a_student_alike_is_rarely_said_to_have_collapsed():
    rng = np.random.default_rng(1)
    said = [decide(rng.normal(0, 0.4, 20)) == "replicates" for _ in range(200)]
    assert sum(said) <= 12
