"""Linear probes on planted truth: read where it was written and nowhere else, and nothing read off noise."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr
from scipy import special, stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge

import analyses
import store
from analyses import _features, _probe_fit, _probe_scores
from analyses._probe_fit import Design, Task, fit
from analyses._probe_labels import Label, Samples, controls, input_classes
from tests.analyses.contract import AnalysisContract
from tests.planted_features import PlantedFeatures

LABELS = ["colour", "side", "speed"]


class TestProbes(AnalysisContract):
    name = "probes"
    planted = PlantedFeatures(samples=20, seeds=(0, 1), steps=2, layers=2, at=(1, 1), strength=6.0)
    verdict = "replicates"

    def test_one_sample_has_no_interval_and_says_so(self, tmp_path):
        acts = PlantedFeatures(samples=1).plant(tmp_path / "one")
        with pytest.raises(analyses.UnknownProbeLabel, match="side is the same in all samples"):
            analyses.probes(acts, labels="side")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Sixty samples with labels in one of nine cells, under a massive channel."""
    plan = PlantedFeatures(massive=500.0, strength=4.0, arrays=("resid_post/token_mean", "latent/full"))
    return plan, plan.plant(tmp_path_factory.mktemp("probes") / "acts")


@pytest.fixture(scope="module")
def found(planted):
    return analyses.probes(planted[1]).to_dataset().load()


def design(values: np.ndarray, folds: int = 5) -> Design:
    """One task; rows as they come, in even folds."""
    edges = tuple(np.linspace(0, len(values), folds + 1).astype(int).tolist())
    if values.dtype.kind == "f":
        return Design(
            ((values - values.mean()) / values.std()).astype(np.float32)[:, None], (Task("t", 0, 1, False),), edges
        )
    classes = int(values.max()) + 1
    return Design(np.eye(classes, dtype=np.float32)[values], (Task("t", 0, classes, True),), edges)


def test_each_label_is_found_where_it_was_planted_and_nowhere_else(found):
    expected = np.zeros((3, 3), int)
    expected[1, 2] = 1
    assert found["label"].to_numpy().tolist() == LABELS
    for label in LABELS:
        np.testing.assert_array_equal(found["decodable"].sel(label=label), expected)
    there = found.sel(step=1, layer=2)
    assert (there["selectivity_low"] > 0).all()
    assert (there["over_latent_low"] > 0).all()
    assert (there["over_prompt_low"] > 0).all()
    assert (there["score_low"] < there["score"]).all()
    assert float(there["score"].sel(label="speed")) > 0.8
    np.testing.assert_allclose(found["chance"], [1 / 3, 1 / 2, 0])


def test_directions_are_those_that_were_planted(planted, found):
    plan, _ = planted
    there = found.sel(step=1, layer=2)
    for label, target in (("side", "side=right"), ("speed", "speed")):
        direction = there["direction"].sel(target=target).to_numpy()
        np.testing.assert_allclose(np.linalg.norm(direction), 1, rtol=1e-5)
        assert abs(float(direction[0])) < 0.01  # the massive channel
        assert float(direction @ plan.direction(label)) > 0.8
    features = np.array([plan.features(at, 0)[1, 0, 2] for at in range(plan.samples)])
    along = features @ there["direction"].sel(target="side=right").to_numpy()
    right = np.arange(plan.samples) % 2 == 1
    np.testing.assert_allclose(there["direction_scale"].sel(target="side=right"), along.std(), rtol=1e-4)
    shift = along[right].mean() - along[~right].mean()
    np.testing.assert_allclose(there["direction_shift"].sel(target="side=right"), shift, rtol=1e-4)


def test_a_label_that_only_gives_samples_away_is_not_found(tmp_path):
    """With rows of one sample on both sides it would be: the fingerprint is all that a probe then needs."""
    plan = PlantedFeatures(samples=40, seeds=(0, 1, 2), steps=1, layers=1, at=None, fingerprint=5.0, channels=80)
    acts = plan.plant(tmp_path / "acts")
    result = analyses.probes(acts, labels="side", directions=False)
    assert not result.to_dataset()["decodable"].any()
    assert result.verdict != "replicates"
    rows = np.concatenate([[plan.features(at, seed)[0, 0, 0] for at in range(40)] for seed in plan.seeds])
    sides = np.tile(np.arange(40) % 2, 3)
    ungrouped = Design(np.eye(2, dtype=np.float32)[sides], (Task("t", 0, 2, True),), (0, 40, 80, 120))
    assert (fit(rows, ungrouped).held_out[0] == sides).mean() > 0.9


def test_a_label_in_the_prompt_is_read_off_the_prompt(tmp_path):
    acts = PlantedFeatures(steps=1, layers=1, at=(0, 0), told=True).plant(tmp_path / "acts")
    data = analyses.probes(acts, labels="side").to_dataset()
    assert float(data["prompt_score"].squeeze()) > 0.95
    assert float(data["over_prompt_low"].squeeze()) < 0


def test_groups_hold_whole_labels(tmp_path):
    acts = PlantedFeatures(steps=1, layers=1, at=(0, 0)).plant(tmp_path / "acts")
    # Held out by colour, a probe of colour has never seen the colour that it is asked for.
    data = analyses.probes(acts, labels="colour", group="colour", folds=3).to_dataset()
    assert float(data["score"].squeeze()) == 0.0


@pytest.mark.parametrize(("channels", "labels"), [(12, ["side"]), (150, ["side"]), (40, ["speed"])])
def test_noise_is_decodable_at_the_nominal_rate(channels, labels):
    false = 0
    for repeat in range(500):
        rng = np.random.default_rng([repeat, channels])
        values = rng.permutation(60) % 2 if labels == ["side"] else rng.normal(size=60)
        values = (
            values[np.argsort(values % 2, kind="stable").reshape(2, 5, 6).swapaxes(0, 1).ravel()]
            if labels == ["side"]
            else values
        )  # even folds, as the analysis makes them: uneven ones err on the safe side
        label = Label("t", values, ("a", "b") if labels == ["side"] else ())
        told = fit(rng.standard_normal((60, channels)).astype(np.float32), design(values)).held_out[0]
        score = _probe_scores.score(told, label, np.arange(60))
        false += _probe_scores.above_chance(np.array(score.value), score.influence, label) < 0.05
    assert false <= stats.binom.ppf(0.999, 500, 0.05)
    assert false >= 1  # a test that never rejects would pass too


def test_a_store_of_noise_is_reported_as_null(tmp_path):
    acts = PlantedFeatures(samples=150, at=None).plant(tmp_path / "acts")
    result = analyses.probes(acts, labels=["side", "speed"], directions=False)
    assert not result.to_dataset()["decodable"].any()
    assert result.verdict in ("does not replicate", "inconclusive")


def test_without_penalty_it_is_linear_discriminant_analysis(monkeypatch):
    monkeypatch.setattr(_probe_fit, "PENALTIES", (1e-7,))
    rng = np.random.default_rng(0)
    values = rng.integers(4, size=200)
    features = (rng.standard_normal((200, 10)) + 2 * values[:, None] * np.eye(1, 10)).astype(np.float32)
    told = fit(features, design(values)).held_out[0]
    for start in range(0, 200, 40):
        test = np.arange(start, start + 40)
        train = np.setdiff1d(np.arange(200), test)
        peer = LinearDiscriminantAnalysis().fit(features[train], values[train])
        np.testing.assert_array_equal(told[test], peer.predict(features[test]))
    assert set(told) == {0, 1, 2, 3}  # classes in a row do not mask each other


@pytest.mark.parametrize("channels", [20, 300])
def test_a_number_is_told_by_ridge_regression_with_nested_folds(channels):
    rng = np.random.default_rng(1)
    features = rng.standard_normal((80, channels)).astype(np.float32)
    values = features[:, :5].sum(axis=1) + rng.normal(size=80)
    made = design(values.astype(np.float64), folds=4)
    told = fit(features, made).held_out[0]
    scaled, _ = _probe_fit.standardised(features)
    truth, parts = made.targets[:, 0], np.split(np.arange(80), 4)
    for outer in range(4):
        inner = [fold for fold in range(4) if fold != outer]
        loss = [
            sum(
                (
                    (
                        _ridge(scaled, truth, [parts[f] for f in inner if f != fold], parts[fold], penalty)
                        - truth[parts[fold]]
                    )
                    ** 2
                ).sum()
                for fold in inner
            )
            for penalty in _probe_fit.PENALTIES
        ]
        expected = _ridge(
            scaled, truth, [parts[f] for f in inner], parts[outer], _probe_fit.PENALTIES[int(np.argmin(loss))]
        )
        np.testing.assert_allclose(told[parts[outer]], expected, atol=2e-3)


def _ridge(features, truth, train, test, penalty):
    rows = np.concatenate(train)
    return Ridge(alpha=penalty).fit(features[rows].astype(np.float64), truth[rows]).predict(features[test])


@pytest.mark.parametrize("edges", [(0, 66, 132, 198, 264, 330), (0, 100, 101, 230, 300)])
def test_classes_are_told_by_penalised_discriminant_analysis_with_nested_folds(edges):
    """Of a loop that fits each training set anew, in the space of features: folds are even, or one is a single row."""
    rng = np.random.default_rng(5)
    values = rng.integers(3, size=edges[-1])
    spread = np.exp(-3 * np.arange(350) / 350)
    features = (rng.standard_normal((len(values), 350)) + 0.2 * rng.standard_normal((3, 350))[values]) * spread
    made = design(values)._replace(edges=edges)
    found = fit(features.astype(np.float32), made)
    scaled = _probe_fit.standardised(features.astype(np.float32))[0].astype(np.float64)
    parts = np.split(np.arange(len(values)), edges[1:-1])
    losses = np.zeros((len(parts), len(_probe_fit.PENALTIES)))
    told = np.empty((len(_probe_fit.PENALTIES), len(values)), int)
    for place, penalty in enumerate(_probe_fit.PENALTIES):
        for outer, test in enumerate(parts):
            train = np.setdiff1d(np.arange(len(values)), test)
            told[place, test] = _discriminants(scaled, values, train, test, penalty).argmax(axis=1)
            for inner in parts[:outer] + parts[outer + 1 :]:
                scores = _discriminants(scaled, values, np.setdiff1d(train, inner), inner, penalty)
                losses[outer, place] -= special.log_softmax(scores, axis=1)[range(len(inner)), values[inner]].sum()
    own = _probe_fit._judged(_probe_fit._Dual(scaled.astype(np.float32), made), made)[0][..., 0]
    np.testing.assert_allclose(own, np.where(np.isfinite(own), losses, np.inf), rtol=1e-3)
    best = losses.argmin(axis=1)
    assert np.isfinite(own).sum(axis=1).min() > 3
    assert found.penalty == np.float32(_probe_fit.PENALTIES[losses.sum(axis=0).argmin()])
    assert 0 < losses.sum(axis=0).argmin() < len(_probe_fit.PENALTIES) - 1
    for outer, test in enumerate(parts):
        np.testing.assert_array_equal(found.held_out[0][test], told[best[outer], test])


def _discriminants(features, values, train, test, penalty):
    """Scores of the classes `[test, k]`: Gaussians with a common covariance, to which the penalty is added."""
    own, mean = features[train], features[train].mean(axis=0)
    means = np.stack([own[values[train] == one].mean(axis=0) for one in range(3)])
    apart = own - means[values[train]]
    within = (apart.T @ apart + penalty * np.eye(features.shape[1])) / len(train)
    slopes = np.linalg.solve(within, (means - mean).T)
    prior = np.log(np.bincount(values[train]) / len(train))
    return (features[test] - mean) @ slopes - np.einsum("kd,dk->k", means - mean, slopes) / 2 + prior


def test_it_is_as_right_as_logistic_regression():
    rng = np.random.default_rng(2)
    values = rng.integers(3, size=300)
    features = (rng.standard_normal((300, 400)) + 0.17 * rng.standard_normal((3, 400))[values]).astype(np.float32)
    ours = (fit(features, design(values)).held_out[0] == values).mean()
    peers = []
    for strength in (1e-4, 1e-3, 1e-2, 1e-1):
        hits = []
        for test in np.split(np.arange(300), 5):
            train = np.setdiff1d(np.arange(300), test)
            hits.append(
                LogisticRegression(C=strength, max_iter=500)
                .fit(features[train], values[train])
                .score(features[test], values[test])
            )
        peers.append(np.mean(hits))
    assert ours > max(peers) - 0.02
    assert 0.6 < max(peers) < 0.98


def test_rows_and_features_give_the_same_probe(monkeypatch):
    rng = np.random.default_rng(3)
    values = rng.integers(3, size=100)
    low_rank = rng.standard_normal((100, 8)) @ rng.standard_normal((8, 60))
    features = (low_rank + 2 * rng.standard_normal((3, 60))[values]).astype(np.float32)
    made = design(values)
    primal = fit(features, made, weights_of=made.tasks)
    monkeypatch.setattr(_probe_fit, "_Primal", _probe_fit._Dual)
    dual = fit(features, made, weights_of=made.tasks)
    np.testing.assert_array_equal(primal.held_out[0], dual.held_out[0])
    np.testing.assert_allclose(primal.weights, dual.weights, rtol=1e-2, atol=1e-3 * np.abs(primal.weights).max())


def test_controls_share_a_label_within_a_class_of_input():
    prompts = tuple(f"prompt {at % 10}" for at in range(100))
    samples = Samples(tuple(map(str, range(100))), {"prompt": prompts, "family": ("one",) * 100}, ({},) * 100)
    label = Label("side", np.arange(100) % 2, ("left", "right"))
    drawn = controls(samples, label, "prompt")
    assert len({one.values.tobytes() for one in drawn}) > 1
    for one in drawn:
        assert (one.values.reshape(10, 10) == one.values[:10]).all()
        assert 0.3 <= one.values.mean() <= 0.7
    assert input_classes(samples, "family") == list(samples.ids)  # one class would draw one label for all


def test_a_probe_that_memorises_inputs_has_no_selectivity(tmp_path):
    """Ten prompts, each with its own vector: a probe tells any labels of prompts, the true one and those drawn."""
    samples = Samples(tuple(map(str, range(100))), {"prompt": tuple(f"p{at % 10}" for at in range(100))}, ({},) * 100)
    label = Label("side", np.arange(100) % 10 % 2, ("left", "right"))
    rng = np.random.default_rng(4)
    features = (5 * rng.standard_normal((10, 30))[np.arange(100) % 10] + rng.standard_normal((100, 30))).astype(
        np.float32
    )
    rights = [
        (fit(features, design(one.values)).held_out[0] == one.values).mean()
        for one in (label, *controls(samples, label, "prompt"))
    ]
    assert min(rights) > 0.95


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_blocks_and_schedulers_do_not_matter(planted, found, monkeypatch, scheduler):
    acts = store.open(planted[1].path)  # to read only: each scheduler computes anew
    monkeypatch.setattr(_features, "BLOCK", 4 * 24 * 60 * 2)  # two cells of 60 runs: layers of a step are parted
    with dask.config.set(scheduler=scheduler):
        again = analyses.probes(acts, layers=[0, 1, 2]).to_dataset()
    xr.testing.assert_allclose(again.load(), found)


def test_pooled_frames_and_whole_tokens_agree(tmp_path):
    plan = PlantedFeatures(arrays=("latent/full",), samples=20)
    acts = plan.plant(tmp_path / "acts")
    grid = _features.describe(acts, acts.run_ids()[0], site="latent", reduction="full", branch="cond", by_frame=True)
    assert list(grid.labels) == ["step", "frame"]
    values = _features.read(acts, grid, _features.blocks(grid, runs=20)[0], acts.run_ids())
    expected = acts.load("latent", "full", runs=acts.run_ids(), lazy=False).mean(("y", "x"))
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    assert _features.latents(acts, 1, acts.run_ids()[:2], limit=48).shape == (2, 3 * 2 * 2 * 4)  # squares of 3 × 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "size"}, r"60 of 60 samples have no size\. There are answers\.0, .*speed"),
        ({"labels": "side", "group": "taste"}, "not told apart by 'taste'"),
        ({"labels": "side", "group": "family"}, "5 folds need as many groups by family, and there are 1"),
        ({"labels": "side", "folds": 31}, "side is left in 30 samples, fewer than 31 folds"),
    ],
)
def test_what_cannot_be_probed_is_refused_in_one_line(planted, options, message):
    with pytest.raises(analyses.UnknownProbeLabel, match=message):
        analyses.probes(planted[1], **options)


def test_an_overflow_is_refused_with_its_run(tmp_path):
    acts = PlantedFeatures(samples=12, massive=np.inf).plant(tmp_path / "acts")
    with pytest.raises(analyses.NonFinite, match="in 12 runs"):
        analyses.probes(acts, labels="side", folds=3)
