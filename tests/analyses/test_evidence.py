"""Evidence of candidates on mixtures whose recipe is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from analyses._evidence import Candidates, effective_number

FIRST = np.full((24, 24, 3), 240, np.uint8)


def _answers(*, apart: bool) -> NDArray[np.uint8]:
    """Three answers in different places, or at one place in different colours."""
    videos = np.repeat(FIRST[None, None], 5, axis=1).repeat(3, axis=0)
    for number in range(3):
        left = 8 * number if apart else 8
        videos[number, 1:, 4:12, left : left + 8] = np.eye(3)[number] * 200
    return videos


def _evidence(video: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.float64]:
    return Candidates(FIRST, answers).mixture(video).evidence


def _mixture(answers: NDArray[np.uint8], weights: NDArray[np.float64]) -> NDArray[np.uint8]:
    change = np.tensordot(weights, answers.astype(float) - FIRST, axes=1)
    return np.clip(np.round(FIRST + change), 0, 255).astype(np.uint8)


@settings(max_examples=30, deadline=None)
@given(
    weights=st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda w: 0.1 < sum(w) <= 1), apart=st.booleans()
)
def test_the_recipe_of_a_mixture_is_found(weights: list[float], apart: bool) -> None:
    answers = _answers(apart=apart)
    found = _evidence(_mixture(answers, np.array(weights)), answers)
    np.testing.assert_allclose(found, weights, atol=0.02)


@pytest.mark.parametrize("apart", [True, False])
def test_a_true_video_is_evidence_of_itself_alone(apart: bool) -> None:
    answers = _answers(apart=apart)
    for number in range(3):
        np.testing.assert_allclose(_evidence(answers[number], answers), np.eye(3)[number], atol=1e-3)


def test_a_still_picture_and_what_fits_no_answer_are_no_evidence() -> None:
    answers = _answers(apart=True)
    still = np.repeat(FIRST[None], 5, axis=0)
    np.testing.assert_allclose(_evidence(still, answers), 0, atol=1e-6)
    elsewhere = still.copy()
    elsewhere[1:, 16:] = 0
    np.testing.assert_allclose(_evidence(elsewhere, answers), 0, atol=1e-6)


def test_evidence_is_never_negative() -> None:
    answers = _answers(apart=False)
    brighter = np.full_like(answers[0], 255)
    assert (_evidence(brighter, answers) >= 0).all()


def test_effective_number() -> None:
    assert effective_number(np.array([0.5, 0.5, 0.0])) == pytest.approx(2)
    assert effective_number(np.array([0.2, 0.2, 0.2])) == pytest.approx(3)
    assert effective_number(np.array([0.9, 0.0])) == pytest.approx(1)
    assert effective_number(np.zeros(2)) == 0
