"""Likeness of representations: 1 under rotation and scaling, 0 for what has nothing in common, whatever the width."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import spatial, stats

import analyses
from analyses._alike import cka, cka_without_each, cosine, grams, jackknife, procrustes
from analyses._alike_rows import compare
from tests.analyses.contract import AnalysisContract
from tests.planted_features import PlantedFeatures

SMALL = PlantedFeatures(
    samples=6, seeds=(0, 1), steps=2, layers=3, channels=8, grid=5, arrays=("resid_post/token_mean", "resid_post/full")
)


class TestSimilarity(AnalysisContract):
    name = "similarity"
    planted = SMALL


@pytest.fixture(scope="module")
def acts(tmp_path_factory):
    return SMALL.plant(tmp_path_factory.mktemp("similarity") / "acts")


def turn(width: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(1).standard_normal((width, width)))[0]


def test_rotation_scale_and_shift_change_nothing():
    one = np.random.default_rng(0).standard_normal((40, 12))
    other = 1000 * one @ turn(12) + 5
    np.testing.assert_allclose(cka(grams([one]), grams([other])), 1, atol=1e-6)
    assert procrustes(one, other) == pytest.approx(1)
    assert cosine(one, 3 * one) == pytest.approx(1)
    assert abs(cosine(one, one @ turn(12))) < 0.5  # it does need the same basis


@pytest.mark.parametrize("width", [10, 400])
def test_what_has_nothing_in_common_is_at_zero_however_wide(width):
    estimates, excluded = [], 0
    for repeat in range(500):
        rng = np.random.default_rng([repeat, width])
        one, other = (grams([rng.standard_normal((24, width))]) for _ in range(2))
        whole = cka(one, other)
        values = jackknife(whole, cka_without_each(one, other))[:, 0, 0]
        half = stats.t.ppf(0.975, 23) * stats.sem(values)
        excluded += abs(whole[0, 0]) > half
        estimates.append(whole[0, 0])
    assert abs(np.mean(estimates)) < 4 * stats.sem(estimates)
    # Under independence the jackknife overstates a degenerate U-statistic: it errs on the safe side of 5 %.
    assert excluded <= stats.binom.ppf(0.999, 500, 0.05)


def test_debiased_cka_is_what_its_definition_says():
    rng = np.random.default_rng(2)
    one, other = rng.standard_normal((15, 6)), rng.standard_normal((15, 40))

    def hsic(first, second):
        k, m = (part @ part.T * (1 - np.eye(15)) for part in (first, second))
        ones = np.ones(15)
        return (np.trace(k @ m) + ones @ k @ ones * (ones @ m @ ones) / (14 * 13) - 2 / 13 * (ones @ k @ m @ ones)) / (
            15 * 12
        )

    expected = hsic(one, other) / np.sqrt(hsic(one, one) * hsic(other, other))
    np.testing.assert_allclose(cka(grams([one]), grams([other])), expected, rtol=1e-4, atol=1e-6)


def test_leaving_out_a_row_is_leaving_it_out():
    rng = np.random.default_rng(3)
    one, other = [rng.standard_normal((12, width)) for width in (4, 30)], [rng.standard_normal((12, 7))]
    without = cka_without_each(grams(one), grams(other))
    for row in range(12):
        kept = np.arange(12) != row
        again = cka(grams([part[kept] for part in one]), grams([part[kept] for part in other]))
        np.testing.assert_allclose(without[row], again, atol=1e-5)


@pytest.mark.parametrize("width", [5, 60])
def test_procrustes_is_scipys(width):
    rng = np.random.default_rng(4)
    one = rng.standard_normal((30, width))
    other = one @ turn(width) + rng.standard_normal((30, width))
    assert procrustes(one, other) == pytest.approx(1 - spatial.procrustes(one, other)[2])


def test_what_does_not_vary_has_no_likeness():
    assert np.isnan(cka(grams([np.ones((9, 3))]), grams([np.ones((9, 3))]))).all()
    assert np.isnan(procrustes(np.ones((9, 3)), np.ones((9, 3))))
    assert np.isnan(cosine(np.ones((9, 3)), np.ones((9, 4))))
    assert np.isnan(compare([np.eye(3)], [np.eye(3)], matched=True, measures=["cka"])["cka"]).all()  # three rows


def test_a_turned_layer_is_found_by_its_tokens(acts):
    data = analyses.similarity(acts, measures=["cka", "cosine", "procrustes"]).to_dataset().load()
    tokens = data["cka_tokens"]
    assert tokens.dims == ("step", "layer", "other_layer")
    np.testing.assert_allclose(tokens.sel(layer=0, other_layer=1), 1, atol=1e-4)
    np.testing.assert_allclose(data["procrustes_tokens"].sel(layer=1, other_layer=0), 1, atol=1e-6)
    np.testing.assert_allclose(tokens.transpose("step", "other_layer", "layer").to_numpy(), tokens, atol=1e-6)
    assert (abs(tokens.sel(layer=0, other_layer=2)) < 0.05).all()
    assert (data["cka_tokens_low"].sel(layer=0, other_layer=2) < 0.02).all()
    np.testing.assert_allclose(np.diagonal(data["cka_samples"], axis1=1, axis2=2), 1, atol=1e-5)
    off = data.sel(layer=0, other_layer=2)
    assert ((off["cka_samples_low"] < 0) & (off["cka_samples_high"] > 0)).all()
    assert "procrustes_samples_low" not in data


def test_between_steps_says_which_expert_ran(tmp_path):
    plan = PlantedFeatures(samples=8, steps=3, layers=2, switch_step=2, fingerprint=10.0, at=None)
    data = analyses.similarity(plan.plant(tmp_path / "acts"), between="steps").to_dataset()
    assert data["cka_samples"].dims == ("layer", "step", "other_step")
    assert data["expert"].to_numpy().tolist() == ["transformer", "transformer", "transformer_2"]


def test_seeds_that_share_what_the_sample_is_are_alike(tmp_path):
    shared = PlantedFeatures(samples=20, seeds=(0, 1), steps=1, layers=1, at=None, fingerprint=5.0)
    apart = PlantedFeatures(samples=20, seeds=(0, 1), steps=1, layers=1, at=None)
    found = [
        analyses.similarity(plan.plant(tmp_path / name), between="seeds").to_dataset().squeeze()
        for name, plan in (("shared", shared), ("apart", apart))
    ]
    assert float(found[0]["cka_samples_low"]) > 0.7
    assert float(found[1]["cka_samples_low"]) < 0 < float(found[1]["cka_samples_high"])


def test_perturbed_runs_are_unlike_clean_ones_where_they_were_perturbed(tmp_path):
    clean = PlantedFeatures(samples=12, steps=3, layers=1, at=None, fingerprint=5.0)
    acts = clean.plant(tmp_path / "acts")
    for step in (0, 1):
        Perturbed(**{**vars(clean), "interventions": ({"kind": "noise", "step": step},)}).plant(tmp_path / "acts")
    result = analyses.similarity(acts, between="runs", against="interventions <> '[]'")
    data = result.to_dataset()
    apart = data["dissimilarity_samples"].squeeze("layer")
    assert apart.dims == ("condition", "step")
    for row, told in zip(apart, data["condition"].to_numpy(), strict=True):
        injected = int(told.rpartition("=")[2])
        np.testing.assert_allclose(row[:injected], 0, atol=1e-5)
        assert (row[injected:] > 0.5).all()
    assert (data["dissimilarity_samples_low"] <= data["dissimilarity_samples_high"]).all()
    assert len(result.record.run_ids) == 36


class Perturbed(PlantedFeatures):
    """From the step of its intervention on, something else."""

    def features(self, position, seed):
        found = super().features(position, seed)
        start = self.interventions[0]["step"]
        found[start:] = np.random.default_rng([position, 11]).standard_normal(found[start:].shape)
        return found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"between": "heads"}, "cannot take between='heads': input should be 'layers', 'steps'"),
        ({"between": "runs"}, "belong together"),
        ({"measures": ["cca"]}, "measures are of cka, cosine, procrustes, not cca"),
    ],
)
def test_wrong_options_are_refused(acts, options, message):
    with pytest.raises(analyses.BadOption, match=message):
        analyses.similarity(acts, **options)


def test_three_samples_without_tokens_cannot_be_compared(tmp_path):
    acts = PlantedFeatures(samples=3).plant(tmp_path / "acts")
    with pytest.raises(analyses.NoRuns, match=r"by samples four samples; there are 3"):
        analyses.similarity(acts)


def test_one_seed_has_no_other(tmp_path):
    with pytest.raises(analyses.NoRuns, match="No sample has two seeds"):
        analyses.similarity(PlantedFeatures(samples=5).plant(tmp_path / "acts"), between="seeds")


def test_neighbours_are_those_among_the_layers_that_were_kept(tmp_path):
    """Tokens of layers 0 and 2 alone, means of all three: no two kept layers lie one apart."""
    planted = replace(SMALL, full_layers=(0, 2))
    summary = analyses.similarity(planted.plant(tmp_path / "acts"), between="layers").record.summary
    assert np.isfinite([float(str(summary[name])) for name in ("neighbours", "farthest")]).all()
