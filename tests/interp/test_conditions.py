"""Arms with other settings or another variant: whose children their runs are, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import interp
import store
from interp import bundled, conditions, experimenting
from interp.conditions import Condition
from store import CaptureItem, CaptureSpec
from tests import tiny

CLEAN = CaptureSpec(items=(CaptureItem(site="latent", reduction="full"),))
NOTHING = CaptureSpec(items=())
ENSEMBLE: dict[str, Any] = {"kind": "ensemble", "seeds": [0, 1], "layers": [1], "steps": [0]}


@pytest.fixture(scope="module")
def model() -> interp.Model:
    return interp.load(tiny.pipeline())


def planned(model: interp.Model, acts: store.ActivationStore, *arms: Condition, **more: Any):
    return experimenting.programme(
        model,
        [tiny.sample()],
        arms,
        clean=CLEAN,
        child=NOTHING,
        into=acts,
        seeds=(0, 1),
        settings=model.settings(**{**tiny.SIZE, "steps": 3, "guidance": 1.0}),
        **more,
    )


def test_runs_of_other_settings_are_children_of_the_clean_ones(model: interp.Model, tmp_path: Path) -> None:
    acts = store.open(tmp_path / "acts", mode="a")
    whole = planned(model, acts, Condition(settings={"steps": 2}), Condition(settings={"frames": 5}, seeds=(1,)))
    clean = {run.seed: run.id for _, run in whole.clean.runs}
    steps, frames = whole.arms
    assert [(run.seed, run.settings.steps, run.parent_id) for _, run in steps.runs] == [
        (0, 2, clean[0]),
        (1, 2, clean[1]),
    ]
    assert [(run.seed, run.settings.frames, run.parent_id) for _, run in frames.runs] == [(1, 5, clean[1])]
    assert whole.steps == 2 * 3 + 2 * 2 + 3
    assert experimenting.conduct(model, whole, into=acts) == 5
    assert planned(model, acts, Condition(settings={"steps": 2})).steps == 0
    stored = acts.run(frames.runs[0][1].id)
    assert stored.run.parent_id == clean[1]
    assert next(one for one in stored.arrays if one.site == "output").shape[0] == 5


def test_the_clean_runs_themselves_are_nobodys_children(model: interp.Model, tmp_path: Path) -> None:
    acts = store.open(tmp_path / "acts", mode="a")
    whole = experimenting.programme(
        model,
        [tiny.sample()],
        [Condition(settings={"steps": 3})],
        clean=NOTHING,
        child=NOTHING,
        into=acts,
        settings=model.settings(**{**tiny.SIZE, "steps": 3}),
    )
    assert [run.parent_id for _, run in whole.arms[0].runs] == [None]
    assert len(whole.run_ids) == 1


def test_steps_of_donors_are_counted_where_their_values_are_not_stored(model: interp.Model, tmp_path: Path) -> None:
    acts = store.open(tmp_path / "acts", mode="a")
    latent = {"kind": "ensemble", "seeds": [0, 1], "site": "latent", "steps": [2]}  # clean runs keep it
    later = {**ENSEMBLE, "steps": [0, 1]}
    assert planned(model, acts, Condition([latent])).donated == 0
    whole = planned(model, acts, Condition([later], seeds=(0,)), Condition([ENSEMBLE]))
    assert whole.donated == 2 + 1 + 1
    assert "donors make 4 steps beside them" in str(whole)


def test_an_arm_is_of_one_kind(model: interp.Model, tmp_path: Path) -> None:
    acts = store.open(tmp_path / "acts", mode="a")
    with pytest.raises(interp.BadInput, match="interventions, or other settings or another variant, not both"):
        planned(model, acts, Condition([ENSEMBLE], {"steps": 2}))


def test_a_pipeline_of_ones_own_has_no_variants(model: interp.Model) -> None:
    with pytest.raises(interp.BadInput, match="has no variant 'few'; give its name or folder"):
        conditions.variant_of(model, "few")


def test_a_lora_on_the_model_is_a_variant_with_its_settings() -> None:
    model = interp.load("tinywan", scheduler="euler", device="cpu")
    file = bundled.VARIANTS["tinywan-few-step"].path / "pytorch_lora_weights.safetensors"
    variant = conditions.variant_of(model, f"lora:{file}")
    assert variant.ref.weight_hash == model.ref.weight_hash
    assert len(variant.ref.adapters) == 1
    base = model.settings(steps=7, guidance=3.0, frames=9)
    found = conditions.settings_of(variant, base, Condition(settings={"steps": 2}, variant="x"))
    assert (found.steps, found.frames) == (2, 9)
    assert found.guidance == variant.settings().guidance != 3.0  # the variant's own
    same = conditions.settings_of(model, base, Condition(settings={"frames": 5}))
    assert (same.steps, same.frames, same.guidance) == (7, 5, 3.0)
