"""When a training ends: by steps, or by the clock."""

from __future__ import annotations

import pytest

from training import loop, progress
from training.config import Fit


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def fit(**ends: float | int | None) -> Fit:
    return Fit(batch=1, rate=1.0, **ends)  # type: ignore[arg-type]


def test_by_steps_the_clock_does_not_matter(clock: list[float]) -> None:
    budget = progress.Budget(fit(steps=10), {}, device="cpu")
    fractions = []
    for step in range(11):
        clock[0] += 1000
        fractions.append(budget.fraction(step))
    assert fractions == [step / 10 for step in range(11)]


def test_by_the_clock_it_ends_in_time_and_starting_up_is_not_held_against_the_schedule(clock: list[float]) -> None:
    budget = progress.Budget(fit(minutes=5), {}, device="cpu")
    clock[0] += 100  # filling a pool and compiling
    step, fractions = 0, []
    while (fraction := budget.fraction(step)) < 1:
        fractions.append(fraction)
        clock[0] += 1
        step += 1
    assert fractions[progress.SETTLED] == 0
    assert fractions == sorted(fractions)
    assert 300 <= budget.seconds <= 300 + progress.EVERY


def test_an_interrupted_clock_goes_on_where_it_was(clock: list[float]) -> None:
    record = {"step": 40, "seconds": 150.0, "fraction": 0.4}
    budget = progress.Budget(fit(minutes=5), record, device="cpu")
    assert budget.fraction(40) == 0.4
    step = 40
    while (fraction := budget.fraction(step)) < 1:
        assert fraction >= 0.4
        clock[0] += 1
        step += 1
    assert budget.seconds <= 300 + progress.EVERY


def test_a_finished_training_goes_on_when_its_end_is_moved(clock: list[float]) -> None:
    record = {"step": 100, "seconds": 60.0, "fraction": 1.0}
    assert progress.Budget(fit(minutes=2), record, device="cpu").fraction(100) == 0.5
    assert progress.Budget(fit(steps=200), record, device="cpu").fraction(100) == 0.5


@pytest.mark.parametrize(
    ("ends", "record", "spent"),
    [
        ({"steps": 10}, {"step": 10, "seconds": 5.0}, True),
        ({"steps": 11}, {"step": 10, "seconds": 5.0}, False),
        ({"minutes": 1.0}, {"step": 10, "seconds": 60.0}, True),
        ({"minutes": 2.0}, {"step": 10, "seconds": 60.0}, False),
        ({"minutes": 2.0}, {}, False),
    ],
)
def test_what_is_finished_is_not_begun_again(ends: dict[str, float], record: dict[str, float], spent: bool) -> None:
    assert progress.Budget(fit(**ends), record, device="cpu").spent is spent


def test_a_training_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="set one of them"):
        progress.Budget(fit(), {}, device="cpu")


def test_the_rate_rises_and_falls() -> None:
    rates = [loop.schedule(step, step / 1000, 100) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01, abs=1e-4)
    assert max(rates) == pytest.approx(0.98, abs=0.02)
    assert rates[99:] == sorted(rates[99:], reverse=True)
    assert rates[-1] == pytest.approx(0.02, abs=1e-6)
