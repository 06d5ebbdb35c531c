"""A planted dictionary comes back up to its order; Gaussian tokens have none; training stops and goes on."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest
from scipy import stats

import analyses
import store
from analyses import _feature_training, _topk
from analyses._feature_scores import EXAMPLES, Watch
from analyses._token_units import Tokens, Unit, pools
from analyses.features import MARGIN
from tests.analyses.contract import AnalysisContract
from tests.planted_dictionary import PlantedDictionary

PLAN = PlantedDictionary()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """A cache folder of the test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


class TestFeatures(AnalysisContract):
    name = "features"
    planted = PLAN
    verdict = "replicates"


@pytest.fixture(scope="module")
def acts(tmp_path_factory):
    return PLAN.plant(tmp_path_factory.mktemp("dictionary") / "acts")


@pytest.fixture(scope="module")
def data(acts):
    return analyses.features(acts, updates=600).to_dataset().load()


def test_the_planted_directions_come_back_up_to_their_order(data):
    found = _topk.likeness(PLAN.directions(), data["direction"].to_numpy())
    assert np.median(found) > 0.97
    assert (found > 0.9).all()
    other = np.random.default_rng(1).standard_normal((20, 16))
    assert np.median(_topk.likeness(other, data["direction"].to_numpy())) < 0.8  # any direction is near one of 32
    assert data.attrs["stable"] > 0.8
    assert data["over_gaussian_low"] > 0.2
    assert data["over_pca_low"] > 0.3
    assert data["active"] <= PLAN.together


def test_massive_channels_weigh_like_any_other(tmp_path, data):
    plan = dataclasses.replace(PLAN, massive=100.0)
    massive = analyses.features(plan.plant(tmp_path / "acts"), updates=600).to_dataset()
    assert float(massive["explained"]) == pytest.approx(float(data["explained"]), abs=1e-3)


def test_gaussian_tokens_have_no_features(tmp_path):
    result = analyses.features(dataclasses.replace(PLAN, gaussian=True).plant(tmp_path / "acts"))
    assert result.verdict == "does not replicate"
    assert (
        result.to_dataset()["over_pca_low"] > 0.1
    )  # which shows nothing: a choice among many axes always explains more
    assert abs(result.to_dataset()["over_gaussian"]) < MARGIN
    assert abs(result.summary()["stable"] - result.summary()["gaussian_stable"]) < 0.25


def test_gaussian_tokens_pass_at_no_more_than_the_nominal_rate():
    """500 times: dictionaries of real and stand-in Gaussian tokens, trained and judged on others, as the rule says."""
    rng = np.random.default_rng(5)
    passed = 0
    for _ in range(500):
        gains = []
        judged = rng.standard_normal((2, 8, 60, 6), np.float32)  # [real or stand-in, sample, token, channel]
        for which in (0, 1):
            tokens = rng.standard_normal((512, 6), np.float32)
            state = _topk.begin(tokens, 8, rng)
            for at in range(24):
                state = _topk.update(state, tokens[64 * (at % 8) : 64 * (at % 8 + 1)], k=1, of=24)
            flat = judged[which].reshape(-1, 6)
            off = flat - _topk.decode(state.learned, _topk.encode(state.learned, flat, 1))
            gains.append(1 - (off**2).reshape(8, -1).sum(axis=1) / (flat**2).reshape(8, -1).sum(axis=1))
        gain = gains[0] - gains[1]
        passed += gain.mean() - stats.t.ppf(0.975, 7) * stats.sem(gain) > MARGIN
    assert passed <= stats.binom.ppf(0.999, 500, 0.025)


def test_a_feature_of_the_first_step_fires_there(tmp_path):
    plan = dataclasses.replace(PLAN, early=3)
    data = analyses.features(plan.plant(tmp_path / "acts")).to_dataset()
    which = int((data["direction"].to_numpy() @ PLAN.directions()[3]).argmax())
    firing = data["firing"].isel(feature=which)
    assert firing.sel(step=0) > 0.05
    assert firing.sel(step=1) < 0.2 * firing.sel(step=0)
    assert (data["example_step"].isel(feature=which) == 0).all()


def test_examples_are_where_the_feature_truly_is_most_active(acts, data):
    """The largest true activation over the samples that the first dictionary never saw, found by its place."""
    which = int((data["direction"].to_numpy() @ PLAN.directions()[5]).argmax())
    best = data.isel(feature=which, example=0)
    run = acts.run(str(best["example_run"].item())).run
    position = next(at for at in range(PLAN.samples) if PLAN.sample(at).id == run.sample_id)
    true = PLAN.activations(position, run.seed)[:, 0, 0, ..., 5]
    place = tuple(int(best[f"example_{axis}"]) for axis in ("step", "frame", "y", "x"))
    assert true[place] > 1.7  # of 1 to 2 where it is active at all
    values = data["example_value"].to_numpy()
    assert (np.diff(values, axis=1) <= 0).all()
    runs = data["example_run"].to_numpy()
    assert all(len({run for run in row if run}) == sum(bool(run) for run in row) for row in runs)
    held_out = sorted({acts.run(run).run.sample_id for run in acts.run_ids()})[1::2]
    assert {acts.run(run).run.sample_id for run in set(runs.ravel()) - {""}} <= set(held_out)


def test_a_killed_training_goes_on_and_gives_the_same(tmp_path, monkeypatch, own_cache):
    options = {"updates": 60, "memory": 1 << 20, "progress": False}
    acts = PLAN.plant(tmp_path / "acts")
    whole = analyses.features(store.open(acts.path), **options).to_dataset()
    assert not list(own_cache.rglob("*.safetensors"))
    updates: list[int] = []

    def counted(state, tokens, **how):
        updates.append(state.updates)
        if len(updates) == 150:
            raise KeyboardInterrupt
        return _topk_update(state, tokens, **how)

    _topk_update = _topk.update
    with monkeypatch.context() as patched:
        patched.setattr(_topk, "update", counted)
        with pytest.raises(KeyboardInterrupt):
            analyses.features(acts, **options)
        assert list(own_cache.rglob("*.safetensors"))
        again = analyses.features(acts, **options)
    assert len(updates) < 150 + 240 - 60  # at least the first dictionary was not trained again
    assert not list(own_cache.rglob("*.safetensors"))
    np.testing.assert_array_equal(again.to_dataset()["direction"], whole["direction"])
    np.testing.assert_array_equal(again.to_dataset()["explained"], whole["explained"])


def test_a_state_is_kept_to_the_bit(tmp_path):
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((100, 5), np.float32)
    state = _topk.update(_topk.begin(tokens, 7, rng), tokens, k=2, of=9)
    _feature_training._save(tmp_path / "state", state)
    kept = _feature_training._load(tmp_path / "state")
    assert kept is not None
    for one, other in zip(_topk.State(*kept), state, strict=True):
        np.testing.assert_equal(one, other)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_memory_stays_within_what_was_given(tmp_path):
    plan = PlantedDictionary(samples=4, seeds=(0,), steps=3, frames=8, grid=24, channels=64, parts=80)
    acts = plan.plant(tmp_path / "acts")
    stored = 4 * 3 * 8 * 24 * 24 * 64 * 4
    memory = 8 << 20
    assert stored > memory
    analyses.features(acts, features=64, updates=3, memory=1 << 30, progress=False)  # what is imported and cached
    tracemalloc.start()
    try:
        analyses.features(acts, features=64, updates=40, memory=memory, progress=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.25 * memory, f"{peak / 2**20:.1f} MiB"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer": 7}, analyses.BadPlan, "holds no layer 7, but 0"),
        ({"site": "attn_out"}, analyses.NoRuns, "holds attn_out/full"),
        ({"features": 4, "active": 5}, analyses.BadPlan, "active=5 of features=4"),
        ({"memory": 1000}, analyses.BadPlan, "ask for fewer features=, or more memory="),
    ],
)
def test_what_cannot_be_done_is_said(acts, options, error, message):
    with pytest.raises(error, match=message):
        analyses.features(acts, **options)


def test_features_that_nothing_uses_are_pointed_at_what_is_lacking():
    rng = np.random.default_rng(2)
    tokens = rng.standard_normal((256, 6), np.float32)
    state = _topk.begin(tokens, 8, rng)
    state.learned.encoder_bias[3] = -1e3  # it can never fire
    for _ in range(_topk.REVIVE_EVERY):
        state = _topk.update(state, tokens, k=2, of=1000)
    codes = _topk.encode(state.learned, tokens, 2)
    assert (codes.features[codes.values > 0] == 3).any()


def test_every_token_is_used_once_a_round_whatever_the_pool():
    units = [Unit("run", 0, step, (0,)) for step in range(7)]
    numbered = pools(units, nbytes=300, unit_nbytes=100, seed=3, start=0)
    first = [next(numbered) for _ in range(6)]
    assert [len(chosen) for _, chosen in first] == [3, 3, 1, 3, 3, 1]
    assert {unit.step for _, chosen in first[:3] for unit in chosen} == set(range(7))
    later = pools(units, nbytes=300, unit_nbytes=100, seed=3, start=4)
    assert next(later) == first[4]


def test_the_largest_of_each_run_is_kept():
    watch = Watch(Tokens("resid_post", "cond", 0, (0, 5), (2, 2, 3), 4), ["a", "b"], 2)
    for run, value in (("a", 1.0), ("a", 3.0), ("b", 2.0), ("a", 2.5)):
        codes = _topk.Codes(np.array([[1]]), np.array([[value]], np.float32))
        watch(Unit(run, 0, 5, (1,)), codes, np.array([4]))
    firing = watch.firing()
    assert firing.value[1, :3].tolist() == [3, 2, 0]
    assert firing.place[1, 0].tolist() == [0, 5, 1, 1, 1]
    assert firing.value.shape == (2, EXAMPLES)
    assert firing.by_step.tolist() == [[0, 0], [0, 1]]
