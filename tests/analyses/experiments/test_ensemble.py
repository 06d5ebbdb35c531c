"""The ensemble experiment: its plan at equal compute, its costs, choices among several, its verdict as planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import analyses
from analyses import experiments
from analyses.experiments import Ensemble, Frame
from analyses.experiments._ensembles import Labels, labels_of, medoid, steps_of
from tests.planted_arms import FRAMES, SIZE, STEPS, empty, put, sample

FULL = Frame(steps=20, layers=40, latent_frames=5, held=0, frames=17, seeds=tuple(range(8)))
SMALL = Frame(steps=STEPS, layers=4, latent_frames=3, held=0, frames=FRAMES, seeds=(0, 1, 2))
PAPER = Labels("hidden", 3, "2", "0", "uniform", STEPS)
DOCS = Path(__file__).parents[3] / "docs" / "experiments.md"


def labels(frame: Frame, **options) -> list[Labels]:
    return [Labels(**arm.labels) for arm in Ensemble(**options).plan(frame)]


def plant(
    path: Path,
    *,
    score: Callable[[Labels, int], float] = lambda label, position: 0.5,
    clean: tuple[float, ...] = (0.5, 0.6, 0.7),
    samples: int = 12,
    few: bool = False,
    **more,
):
    """Every arm of `SMALL`, or a `few` that the verdict is about; clean runs score as `clean`, arms as `score` says.

    Seed 1 makes the middle video.
    """
    acts = empty(path)
    for position in range(samples):
        question = sample(position)
        shade = {seed: np.full((FRAMES, SIZE, SIZE, 3), value, np.uint8) for seed, value in enumerate((10, 20, 90))}
        for seed in SMALL.seeds:
            put(acts, question, score=clean[seed], seed=seed, clean=True, video=shade[seed], **more)
        there: set[tuple[int, int]] = set()
        for arm in Ensemble().plan(SMALL):
            label = Labels(**arm.labels)
            if few and label._replace(members=3) != PAPER and label[-1] != STEPS + 2:
                continue
            for seed in arm.seeds or SMALL.seeds:
                if not arm.interventions and (seed, label.steps) in there:
                    continue  # one run is of two arms
                there.add((seed, label.steps))
                put(
                    acts,
                    question,
                    score=score(label, position),
                    seed=seed,
                    steps=label.steps,
                    interventions=arm.interventions,
                    video=shade[seed],
                    **more,
                )
    return acts


def raised(by: float, *, longer: float = 0.0) -> Callable[[Labels, int], float]:
    """Ensembles of hidden states score `by` more than 0.5, one longer run `longer` more; a little apart by sample."""

    def score(label: Labels, position: int) -> float:
        return 0.5 + {"hidden": by, "long": longer}.get(label.method, 0.0) + 0.001 * (position % 3)

    return score


def test_it_is_registered_and_documented():
    assert experiments.get("ensemble") is Ensemble
    assert "## `ensemble`" in DOCS.read_text()


def test_the_plan_has_the_papers_window_and_varies_one_thing_at_a_time():
    arms = labels(FULL)
    paper = Labels("hidden", 3, "20-29", "0", "uniform", 20)
    assert paper in arms
    hidden = [one for one in arms if one.method == "hidden" and one != paper]
    assert {one.members for one in hidden if one[2:] == paper[2:]} == {2, 5, 8}
    assert {one.layers for one in hidden if one.layers != paper.layers} == {"0-9", "10-19", "30-39", "all"}
    assert {one.window for one in hidden if one.window != "0"} == {"0-4", "10", "0-19"}
    assert {one.weights for one in hidden if one.weights != "uniform"} == {"agreement", "median"}
    for one in hidden:
        changed = [a for a, b in zip(one[1:5], paper[1:5], strict=True) if a != b]
        assert len(changed) == 1, one
    assert {(one.window, one.members) for one in arms if one.method == "latent"} == {("1", 3), ("10", 3)}


def test_every_ensemble_has_one_longer_run_and_several_shorter_ones_of_its_cost():
    arms = labels(FULL)
    costs = {(one.members, steps_of(one)) for one in arms if one.method in ("hidden", "latent")}
    assert (3, 22) in costs
    assert (3, 60) in costs
    assert {one.steps for one in arms if one.method == "long"} == {steps for _, steps in costs}
    for members, steps in costs - {(3, 60)}:  # three whole runs are there anyway
        (shorter,) = [one for one in arms if one[:2] == ("best", members) and one.steps == steps // members]
        assert members * shorter.steps <= steps < members * (shorter.steps + 1)
    assert not [one for one in labels(FULL, baselines=False) if one.method in ("long", "best")]


def test_arms_are_known_again_by_their_records_and_run_with_their_seeds():
    for arm in Ensemble().plan(FULL):
        label = Labels(**arm.labels)
        assert arm.seeds == ((0,) if arm.interventions or label.method == "long" else tuple(range(label.members)))
        if arm.interventions:
            assert arm.interventions[0]["seeds"] == list(range(label.members))


def test_the_record_of_an_ensemble_tells_its_labels(tmp_path):
    acts = empty(tmp_path / "acts")
    for arm in Ensemble().plan(SMALL):
        if arm.interventions:
            run = acts.run(put(acts, sample(0), score=1.0, interventions=arm.interventions)).run
            assert labels_of(run) == Labels(**arm.labels)


def test_what_does_not_fit_is_named():
    with pytest.raises(analyses.BadPlan, match=r"3 seeds, not 2: ask for --seeds 0-2"):
        Ensemble().plan(SMALL._replace(seeds=(0, 1)))
    with pytest.raises(analyses.BadPlan, match="an ensemble of 5 does not fit 3 seeds"):
        Ensemble(sizes=(5,)).plan(SMALL)
    assert {one.members for one in labels(FULL, sizes=(4,)) if one.method == "hidden"} == {3, 4}


def test_costs_count_forwards_of_members_and_of_every_run(tmp_path):
    data = Ensemble().compare(plant(tmp_path / "acts", samples=1, guidance=2.0)).to_dataset()
    at = {
        Labels(*values): place
        for place, values in enumerate(zip(*(data[name].values for name in Labels._fields), strict=True))
    }
    forwards = {label: float(data["forwards"][place]) for label, place in at.items()}
    assert forwards[PAPER] == 2 * (STEPS + 2)
    assert forwards[PAPER._replace(window="0-3")] == 2 * 3 * STEPS
    assert forwards[Labels("latent", 3, "", "1", "uniform", STEPS)] == 2 * (STEPS + 2)
    assert forwards[Labels("long", 1, "", "", "", STEPS + 2)] == 2 * (STEPS + 2)
    assert forwards[Labels("best", 3, "", "", "", STEPS)] == 2 * 3 * STEPS
    assert forwards[Labels("one", 1, "", "", "", STEPS)] == 2 * STEPS
    seconds = {label: float(data["seconds"][place]) for label, place in at.items()}
    assert seconds[Labels("best", 3, "", "", "", STEPS)] == 6
    assert np.isnan(seconds[PAPER._replace(window="2")])  # begun with steps of its clean run
    assert seconds[PAPER] == 2


def test_the_best_is_an_oracle_and_the_medoid_is_not(tmp_path):
    data = Ensemble().compare(plant(tmp_path / "acts", samples=2, clean=(0.1, 0.6, 0.9))).to_dataset()
    whole = {
        method: float(data["score"][(data["method"] == method).values & (data["steps"] == STEPS).values][-1])
        for method in ("one", "best", "medoid")
    }
    assert whole == pytest.approx({"one": 0.1, "best": 0.9, "medoid": 0.6})
    assert np.isnan(data["p_value"][(data["method"] == "best").values]).all()


def test_the_medoid_of_two_is_the_first():
    assert medoid(np.array([[9], [3]], np.int16)) == 0


@pytest.mark.parametrize(
    ("score", "verdict"),
    [
        (raised(0.1), "replicates"),
        (raised(0.1, longer=0.2), "does not replicate"),
        (raised(0.0), "does not replicate"),
        (lambda label, at: 0.5 + 0.4 * (-1) ** at * (label == PAPER), "inconclusive"),
    ],
)
def test_the_verdict_follows_what_was_planted(tmp_path, score, verdict):
    result = Ensemble().compare(plant(tmp_path / "acts", score=score, few=True))
    assert result.verdict == verdict
    assert result.summary()["paper_layers"] == "2"
    assert "n = 12 samples" in result.finding


def test_the_smallest_ensemble_that_helps_is_named(tmp_path):
    def by(two: float) -> Callable[[Labels, int], float]:
        return lambda label, at: 0.5 + 0.001 * at + (two if label.members == 2 else 0.1)

    found = [
        Ensemble().compare(plant(tmp_path / str(two), score=by(two), few=True)).summary()["smallest_that_helps"]
        for two in (0.1, 0.0)
    ]
    assert found == [2, 3]


def test_where_nothing_can_be_gained_nothing_is_decided(tmp_path):
    acts = plant(tmp_path / "acts", score=lambda label, at: 1.0, clean=(1.0, 1.0, 1.0), few=True)
    assert Ensemble().compare(acts).verdict == "inconclusive"


def test_planted_gains_come_back_with_their_rivals(tmp_path):
    result = Ensemble().compare(plant(tmp_path / "acts", score=raised(0.1, longer=0.04), samples=3))
    summary = result.summary()
    assert summary["gain"] == pytest.approx(0.101, abs=1e-6)
    assert summary["gain_over_longer_run"] == pytest.approx(0.06)
    data = result.to_dataset()
    assert summary["comparisons"] == int((~data["method"].isin(["one", "best"])).sum())
    at = (data["method"] == "hidden").values
    np.testing.assert_allclose(data["equal"][at], 0.041)
    assert np.isnan(data["equal"][~at & (data["method"] != "latent").values]).all()
