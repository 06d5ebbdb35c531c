"""The propagation experiment: its plan, planted dissimilarities, and the verdict at the edges of its rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analyses
import store
from analyses import experiments
from analyses.experiments import Propagation
from analyses.experiments._base import Frame
from analyses.experiments._paired import Interval
from analyses.experiments.noise import Labels
from analyses.experiments.propagation import Peak, decide, sensitivity
from store import CaptureSpec, Run, Sample
from tests.planted import PROVENANCE, Planted, _write

FRAME = Frame(steps=6, layers=4, latent_frames=2, held=0)
FEW = Propagation(at=(0, 3, 5), layers=(1, 3))
CHANNELS = 8
DOCS = Path(__file__).parents[3] / "docs" / "experiments.md"


def plant(path: Path, mixed: Any, *, samples: int = 5, switch_step: int | None = None) -> store.ActivationStore:
    """Clean runs and all arms; the states of an arm are `mixed(labels, step)` parts noise, the rest the clean ones."""
    like = Planted(samples=samples, seeds=(0,), steps=6, switch_step=switch_step)
    acts = store.open(path, mode="a")
    clean_spec, child_spec = FEW.keeps(FRAME)
    for position in range(samples):
        sample = like.sample(position)
        acts.put_sample(sample)
        clean = _record(like, sample, clean_spec, ())
        states = _states(position, 0)
        _put(acts, clean, states, like)
        for number, arm in enumerate(FEW.plan(FRAME), start=1):
            labels, other = Labels(**arm.labels), _states(position, number)  # pyright: ignore[reportArgumentType]
            share = np.array([mixed(labels, step) if step >= labels.step else 0.0 for step in range(6)])
            share = share[:, None, None, None, None, None, None]
            changed = (np.sqrt(1 - share**2) * states + share * other).astype(np.float32)
            record = _record(like, sample, child_spec, arm.interventions).model_copy(update={"parent_id": clean.id})
            _put(acts, record, changed, like)
    return acts


def _record(like: Planted, sample: Sample, spec: CaptureSpec, changes: Any) -> Run:
    return like.run(sample.id, 0).model_copy(update={"capture": spec, "interventions": tuple(changes)})


def _states(position: int, number: int) -> np.ndarray:
    """float32 `[step, branch, layer, frame, y, x, channel]`, with a mean of each sample's own."""
    rng = np.random.default_rng([position, number])
    return (rng.standard_normal((6, 1, 2, 2, 8, 8, CHANNELS)) + rng.standard_normal(CHANNELS)).astype(np.float32)


def _put(acts: store.ActivationStore, run: Run, states: np.ndarray, like: Planted) -> None:
    cells = {"step": np.arange(6), "branch": np.array(["cond"]), "layer": np.array([1, 3])}
    with acts.begin_run(run, PROVENANCE) as writer:
        _write(writer, "resid_post", "project", states, cells)
        writer.set_steps(like.infos())
        writer.commit(1.0)


def test_it_is_registered_and_documented():
    assert experiments.get("propagation") is Propagation
    assert "## `propagation`" in DOCS.read_text()


def test_the_plan_has_both_noises_and_keeps_tokens():
    arms = [Labels(**arm.labels) for arm in FEW.plan(FRAME)]  # pyright: ignore[reportArgumentType]
    assert [(arm.matched, arm.step) for arm in arms] == [(False, 0), (False, 3), (False, 5), (True, 3), (True, 5)]
    clean, child = Propagation().keeps(FRAME)
    assert [(item.site, item.reduction) for item in clean.items] == [("latent", "full"), ("resid_post", "project")]
    assert child.items == clean.items[1:]
    assert child.items[0].layers == (1, 2, 3)
    with pytest.raises(analyses.BadPlan, match="no step 6"):
        Propagation(at=(6,)).plan(FRAME)


def test_planted_dissimilarities_come_back(tmp_path):
    """Independent noise of share a leaves a CKA over tokens of 1 - a², nearly."""
    result = FEW.compare(plant(tmp_path / "acts", lambda labels, step: 0.6 if labels.matched else 1.0))
    data = result.to_dataset().compute()
    plain, matched = (data["dissimilarity_tokens"].sel(noise=noise) for noise in ("plain", "matched"))
    np.testing.assert_allclose(plain.sel(injected=0), 1, atol=0.1)
    np.testing.assert_allclose(matched.sel(injected=3, step=[3, 4, 5]), 1 - 0.64, atol=0.1)
    assert plain.sel(injected=3, step=[0, 1, 2]).isnull().all()
    assert matched.sel(injected=0).isnull().all()
    assert (data["dissimilarity_tokens_low"] <= data["dissimilarity_tokens"]).sel(noise="plain", injected=0).all()
    assert data["dissimilarity_samples"].sel(noise="plain", injected=0, step=0).notnull().all()
    assert float(data["sensitivity"].sel(noise="matched", injected=5)) == pytest.approx(1 - 0.64, abs=0.1)
    assert result.summary()["not_healed"] == pytest.approx(0.5, abs=0.1)
    assert "n = 5 samples" in result.finding


def test_the_verdict_follows_what_was_planted(tmp_path):
    def middle(labels: Labels, step: int) -> float:
        return 1.0 if labels.step == 3 else 0.8

    def heals(labels: Labels, step: int) -> float:
        return 0.1 if labels.step == 0 and step == 5 else middle(labels, step)

    def late(labels: Labels, step: int) -> float:
        return 1.0 if labels.step == 5 else 0.5

    # With matched noise there is nothing at step 0, so that its peak needs a step between two others.
    assert FEW.compare(plant(tmp_path / "heals", heals, samples=8)).verdict == "does not replicate"
    result = FEW.compare(plant(tmp_path / "late", late, samples=8, switch_step=5))
    assert result.verdict == "does not replicate"
    assert result.summary()["peak_plain"] == result.summary()["peak_matched"] == 5
    assert "another expert takes over at step 5, where plain and matched noise peaks" in result.finding


def test_the_rule_at_its_edges():
    above, below, around = Interval(0.2, 0.0, 0.3, 9), Interval(-0.2, -0.3, -0.1, 9), Interval(0.1, -0.1, 0.2, 9)
    peak = Peak(Interval(0.2, 0.1, 0.3, 9), 0.04, inner=True)
    assert decide(above, [peak, peak]) == "replicates"
    assert decide(around, [peak, peak]) == "inconclusive"
    assert decide(below, [peak, peak]) == "does not replicate"
    assert decide(above, [peak, peak._replace(inner=False)]) == "does not replicate"
    assert decide(above, [peak, Peak(around, 0.04, inner=False)]) == "inconclusive"
    assert decide(above, [peak, peak._replace(p=0.05)]) == "inconclusive"
    assert decide(above._replace(n=7), [peak, peak]) == "inconclusive"


def test_sensitivity_is_the_mean_from_the_injected_step_on():
    apart = np.full((1, 2, 1, 3, 2), np.nan)
    apart[0, 0, 0, 1:] = [[0.2, 0.4], [0.6, 0.8]]
    np.testing.assert_allclose(sensitivity(apart)[0, :, 0], [0.5, np.nan])


def test_noise_that_kept_no_states_is_not_compared(tmp_path):
    with pytest.raises(analyses.NoRuns, match="make them with `stepscope experiment"):
        FEW.compare(Planted(arrays=()).plant(tmp_path / "acts"))
