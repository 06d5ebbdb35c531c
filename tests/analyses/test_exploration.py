"""Candidates by step on mixtures whose recipe is planted: apart, at one place, alone, and none at all."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

import analyses
from analyses._components import components
from analyses._evidence import SHIFTS, SHOWN, Candidates, second_largest
from analyses._kinds import KINDS, _auroc, _drawn, held_out
from analyses._paths import ALPHA, by_chance, elsewhere
from analyses._places import overlaps
from tests.analyses.contract import AnalysisContract
from tests.planted import Planted
from tests.planted_kinds import FAMILIES, PlantedKinds

KINDED = PlantedKinds(samples=24)
REPEATS = 500


class TestExploration(AnalysisContract):
    name = "exploration"
    planted = Planted(arrays=("x0_hat/pixels",), samples=3)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """A store with all six families, four samples each."""
    return KINDED.plant(tmp_path_factory.mktemp("kinds") / "acts")


@pytest.fixture(scope="module")
def found(worlds):
    """What is found there."""
    return analyses.exploration(worlds)


def of_family(found, family: str):
    data = found.to_dataset().load()
    positions = {
        store_id: position
        for position in range(KINDED.samples)
        if (store_id := KINDED.sample(position).id) and KINDED.family(position) == family
    }
    runs = [run for run in data["run"].to_numpy() if str(data["sample_id"].sel(run=run).item()) in positions]
    return data.sel(run=runs), [positions[str(data["sample_id"].sel(run=run).item())] for run in runs]


@pytest.mark.parametrize("family", ["corners", "lanes", "colours", "sizes"])
def test_planted_evidence_comes_back(found, family):
    data, positions = of_family(found, family)
    left = np.linspace(1, 0, KINDED.steps)[:, None]
    for run, position in enumerate(positions):
        planted = KINDED.weights(position, 0) * (1 - 0.2 * left)
        evidence = data["evidence_by_run"].isel(run=run).to_numpy()[:, : planted.shape[1]]
        np.testing.assert_allclose(evidence, planted, atol=0.03)
        effective = np.exp(-(planted * np.log(planted, where=planted > 0, out=np.zeros_like(planted))).sum(axis=1))
        assert data["effective_by_run"].isel(run=run)[0] == pytest.approx(planted.shape[1], abs=0.05)
        assert data["effective_by_run"].isel(run=run)[-1] == pytest.approx(effective[-1], abs=0.05)


def test_pruning_and_commitment_are_where_they_were_planted(found):
    data, _ = of_family(found, "lanes")  # 0.5, 0.33, 0.17 (0.15 through the grey), 0 of the other lane
    planted = KINDED.weights(1, 0) * (1 - 0.2 * np.linspace(1, 0, KINDED.steps)[:, None])
    gone = int(np.flatnonzero(planted[:, 1] >= SHOWN).max()) + 1
    assert (data["pruned_by_run"].sel(answer=1) == gone).all()
    assert np.isnan(data["pruned_by_run"].sel(answer=0)).all()
    assert (data["commit_by_run"] == gone).all()


def test_overlap_tells_places_apart(found):
    apart, _ = of_family(found, "corners")
    together, _ = of_family(found, "colours")
    assert float(apart["overlap_by_run"].isel(step=0).max()) < 0.4
    assert float(together["overlap_by_run"].isel(step=0).min()) > 0.95


def test_two_candidates_are_claimed_where_they_are(found):
    data = found.to_dataset().load()
    several = data["answers_by_sample"] > 1
    assert data["two_by_sample"].where(several, drop=True).all()
    assert not data["two_by_sample"].where(~several, drop=True).any()
    assert found.verdict == "replicates"
    assert found.summary()["samples_several_then_one"] == int(several.sum()) == 16
    assert found.summary()["false_claims"] == 0


def test_a_model_that_never_explores_does_not_replicate(tmp_path):
    acts = dataclasses.replace(KINDED, early=0.0).plant(tmp_path / "acts")
    result = analyses.exploration(acts)
    assert result.verdict == "does not replicate"
    assert result.summary()["samples_several_then_one"] == 0
    assert result.to_dataset()["effective"].to_numpy() == pytest.approx(1, abs=0.15)


def test_few_samples_are_inconclusive(tmp_path):
    result = analyses.exploration(dataclasses.replace(KINDED, samples=6).plant(tmp_path / "acts"))
    assert result.verdict == "inconclusive"


def test_kinds_are_told_in_families_never_seen(found):
    data = found.to_dataset().load()
    assert found.summary()["auroc_masks"] > 0.95
    assert found.summary()["auroc_components"] > 0.8
    confusion = data["confusion"].sel(basis="masks")
    assert (confusion.sum("called") == 1).all()
    assert float(sum(confusion.sel(kind=kind, called=kind) for kind in KINDS)) > 2.5
    assert set(data["kind_of_world"].to_numpy()) == set(FAMILIES.values())


def test_shuffled_kinds_are_told_by_chance(found):
    data = found.to_dataset().load()
    values, families = data["features_by_sample"].to_numpy(), np.array([str(one) for one in data["family"].to_numpy()])
    kinds = np.array([str(one) for one in data["kind_of_world"].to_numpy()])
    rng = np.random.default_rng(3)
    drawn = [held_out(values, rng.permutation(kinds), families, seed=i).mean_auroc for i in range(40)]
    # A family that is held out takes its kinds from the training set, which draws the mean a little below a half.
    assert 0.35 < np.mean([one.value for one in drawn]) < 0.55
    assert np.mean([one.low > 0.5 for one in drawn]) <= 0.1


def test_auroc_and_its_interval_are_those_of_the_library():
    rng = np.random.default_rng(5)
    truth = rng.integers(3, size=60)
    probability = (rng.random((60, 3)) + np.eye(3)[truth]).round(1)  # with ties
    drawn = _drawn(truth, np.random.default_rng(0))
    expected = roc_auc_score(np.eye(3)[truth], probability, average=None)
    np.testing.assert_allclose(_auroc(truth, probability, drawn)[0], expected)
    again = np.repeat(np.arange(60), drawn[7].astype(int))
    expected = roc_auc_score(np.eye(3)[truth[again]], probability[again], average=None)
    np.testing.assert_allclose(_auroc(truth, probability, drawn)[7], expected)


def test_components_find_two_and_keep_where(found):
    data = found.to_dataset().load()
    for family in ("lanes", "corners"):
        chosen = data.isel(sample=[str(one) == family for one in data["family"].to_numpy()])
        assert (chosen["component_step_by_sample"].isel(component=0) == KINDED.steps - 1).all()
        assert chosen["component_step_by_sample"].isel(component=1).notnull().all()
        maps = chosen["component_map_by_sample"].isel(component=slice(2)).to_numpy()
        assert all(float(overlaps(one[:, None])[0, 1]) < 0.45 for one in maps)
    walk, _ = of_family(found, "walk")
    assert float(walk["component_second_by_run"].max()) < SHOWN


def test_seeds_that_end_differently_are_components(tmp_path):
    planted = dataclasses.replace(KINDED, families=("lanes",), samples=1, seeds=(0, 1), early=0.0)
    data = analyses.exploration(planted.plant(tmp_path / "acts")).to_dataset()
    assert data["component_step_by_sample"].notnull().sum() == 2
    assert sorted(data["component_run_by_sample"].isel(sample=0, component=slice(2)).to_numpy()) == [0, 1]


def test_a_calibration_judges_samples_without_answers(found, tmp_path):
    acts = PlantedKinds(samples=6).plant(tmp_path / "acts")
    result = analyses.exploration(acts, calibration=found)
    data = result.to_dataset().load()
    told = data["kind_by_sample"]
    assert told.sum("kind").to_numpy() == pytest.approx(1)
    walk = told.isel(sample=data["family"].to_numpy().tolist().index("walk"))
    assert KINDS[walk.to_numpy().argmax()] == "single"
    assert result.id != analyses.exploration(acts).id
    with pytest.raises(analyses.NoRuns, match="no classifier"):
        analyses.exploration(acts, calibration=analyses.exploration(acts, where="family = 'walk'"))


def test_a_calibration_can_be_named(worlds, found, tmp_path):
    analyses.exploration(worlds, where="family = 'walk' AND seed = 0")  # later, without a classifier
    acts = dataclasses.replace(KINDED, families=("walk",), samples=2).plant(tmp_path / "acts")
    given = analyses.exploration(acts, calibration=found)
    assert given.summary()["called_single"] == 2
    assert "judged by the given calibration: 0 multi-path, 0 superposition, 2 single; n = 2" in given.finding
    for name in (str(worlds.path), f"{worlds.path}#{found.id}"):
        assert analyses.run("exploration", acts, calibration=name).id == given.id
    own = analyses.exploration(worlds, where="family = 'walk'", calibration=found.id)
    assert own.summary()["called_single"] == 4
    for name, why in (
        ("0123456789abcdef", "is no result of this store"),
        (f"{worlds.path}#0123456789abcdef", "is no result of this store"),
        (str(acts.path), "none with a classifier"),
    ):
        with pytest.raises(analyses.NoRuns, match=why):
            analyses.exploration(acts, calibration=name)


def test_latents_give_components_alone(tmp_path):
    result = analyses.exploration(Planted(arrays=("x0_hat/full",)).plant(tmp_path / "acts"))
    data = result.to_dataset()
    assert result.verdict == "descriptive"
    assert "effective" not in data
    assert np.isfinite(data["component_effective"]).all()


def test_pure_noise_has_neither_candidates_nor_components(tmp_path):
    acts = dataclasses.replace(KINDED, samples=12, only_noise=True).plant(tmp_path / "acts")
    result = analyses.exploration(acts)
    assert result.verdict != "replicates"
    assert result.summary()["samples_several_then_one"] == 0
    assert float(result.to_dataset()["component_second"].max()) < SHOWN


def noise(repeat: int, shape: tuple[int, ...], *, sigma: float) -> NDArray[np.float64]:
    """Noise of unit variance that is blurred in a circle, so that all its places are alike."""
    rng = np.random.default_rng([repeat, 11])
    blurred = gaussian_filter(rng.standard_normal(shape), (0, 1, sigma, sigma, 0), mode="wrap")
    return blurred / blurred.std()


@pytest.mark.parametrize("position", [0, 2], ids=["apart", "together"])
def test_noise_makes_the_claim_at_its_nominal_rate(position):
    planted = PlantedKinds(size=32, video_frames=4) if position == 2 else PlantedKinds(video_frames=3)
    candidates = Candidates(planted.first(position), planted.answers(position))
    p, strong = np.empty(REPEATS), np.empty(REPEATS, bool)
    for repeat in range(REPEATS):
        shape = (2, planted.video_frames, planted.size, planted.size, 3)
        x0 = (128 + 60 * noise(repeat, shape, sigma=2.5)).clip(0, 255).astype(np.uint8)
        mixtures = [candidates.mixture(one) for one in x0]
        p[repeat] = by_chance([np.max([elsewhere(candidates, mixture.change) for mixture in mixtures], axis=0)])
        strong[repeat] = second_largest(np.array([mixture.evidence for mixture in mixtures])).max() >= SHOWN
    nominal = int(ALPHA * SHIFTS**2) / SHIFTS**2
    low, high = stats.binom.interval(0.999, REPEATS, nominal)
    assert low <= (p <= ALPHA).sum() <= high
    assert ((p <= ALPHA) & strong).sum() <= high


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_noise_gives_up_no_components(sigma):
    several = 0
    for repeat in range(REPEATS):
        changes = (0.2 * noise(repeat, (5, 4, 12, 12, 3), sigma=sigma)).astype(np.float32)[None]
        several += len(components(changes).found) > 1  # noise ends in noise, which is one
    assert several <= ALPHA * REPEATS


def test_grey_and_what_all_answers_share_are_no_evidence():
    planted = PlantedKinds()
    candidates = Candidates(planted.first(0), planted.answers(0))
    grey = np.full(planted.answers(0).shape[1:], 120, np.uint8)
    assert candidates.mixture(grey).evidence == pytest.approx(0, abs=0.02)
    with_hole = planted.answers(0).copy()
    with_hole[:, 1:, 4:5, 8:40] = 236  # every answer takes the same piece out of the bar
    shared = np.repeat(planted.first(0)[None], planted.video_frames, axis=0)
    shared[1:, 4:5, 8:40] = 236
    told = Candidates(planted.first(0), with_hole)
    assert told.mixture(shared).evidence == pytest.approx(0, abs=0.02)
    np.testing.assert_allclose(told.mixture(with_hole[1]).evidence, [0, 1, 0], atol=0.02)


def test_answers_must_differ():
    planted = PlantedKinds()
    with pytest.raises(ValueError, match="same as another one"):
        Candidates(planted.first(0), planted.answers(0)[[0, 0]])
    with pytest.raises(ValueError, match="still first frame"):
        Candidates(planted.first(0), np.repeat(planted.first(0)[None, None], 6, axis=1))


def test_what_cannot_be_read_together_is_refused(tmp_path):
    acts = PlantedKinds(samples=1).plant(tmp_path / "acts")
    dataclasses.replace(KINDED, samples=1, seeds=(1,), arrays=("x0_hat/full",)).plant(tmp_path / "acts")
    with pytest.raises(analyses.NoRuns, match="no array of x̂0 in common"):
        analyses.exploration(acts)
