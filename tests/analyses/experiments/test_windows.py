"""The windows experiment: its plan, donors among seeds, and its verdict on planted windows and on their absence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analyses
import store
from analyses import experiments
from analyses.experiments import Windows
from analyses.experiments._exchange import Labels
from analyses.experiments._paired import Interval
from analyses.experiments.windows import Block, decide
from tests.planted_exchange import End, Exchanged

SEEDS = Exchanged(ambiguous=True, seeds=(0, 1), settled=2, units=8)
FEW = Windows(layer_blocks=2, step_blocks=2)
DOCS = Path(__file__).parents[3] / "docs" / "experiments.md"


def early(labels: dict[str, Any], unit: int) -> End:
    """Whole states in the first block of steps flip, a stranger's break."""
    if labels["first_step"] > 0:
        return "own"
    return {"whole": "donor", "stranger": "broken"}.get(labels["part"], "own")  # pyright: ignore[reportReturnType]


def test_it_is_registered_and_documented():
    assert experiments.get("windows") is Windows
    assert "## `windows`" in DOCS.read_text()


def test_the_plan_has_all_layers_and_blocks_of_them():
    frame = SEEDS.frame
    arms = [Labels(**arm.labels) for arm in FEW.plan(frame)]
    assert len(set(arms)) == len(arms) == 2 + 2 + 4
    assert {arm.layers for arm in arms if arm.part in ("whole", "stranger")} == {tuple(range(6))}
    assert {(arm.first_layer, arm.last_layer) for arm in arms if arm.part == "target"} == {(0, 2), (3, 5)}
    twins = [Labels(**arm.labels) for arm in dataclasses.replace(FEW, twins=True).plan(frame)]
    assert {arm.part for arm in set(twins) - set(arms)} == {"whole"}
    (seen,) = (item for item in FEW.keeps(frame)[0].items if item.site == "x0_hat")
    assert seen.steps == (0, 2)
    assert {item.site for item in Windows(keep=False).keeps(frame)[0].items} == {"latent", "x0_hat"}
    with pytest.raises(analyses.BadPlan, match="no window of steps 2 to 4"):
        Windows(windows=((2, 4),)).plan(frame)
    with pytest.raises(analyses.BadPlan, match="no step is named; there are steps 0 to 3"):
        Windows(windows=()).plan(frame)


def test_the_seed_that_donates_ended_otherwise(tmp_path):
    planted = dataclasses.replace(SEEDS, seeds=(0, 2, 3), units=1)  # 0 and 2 end left, 3 right
    acts = planted.plant(tmp_path / "acts", FEW)
    ((_, sample),) = planted.samples
    clean = [(sample, planted.clean(sample, seed, FEW.keeps(planted.frame)[0])) for seed in (0, 2, 3)]
    arm = FEW.plan(planted.frame)[0]
    given = FEW.given(acts, clean, planted.frame)
    assert given is not None
    assert [given(arm, sample, seed) for seed in (0, 2, 3)] == [
        ({"kind": "patch", "donor": {"seed": donor}, "layers": list(range(6)), "steps": [0, 1]},) for donor in (3, 3, 0)
    ]
    ahead = FEW.given(store.open(tmp_path / "empty", mode="a"), clean, planted.frame)
    assert ahead is not None
    assert ahead(arm, sample, 0) is not None  # not known yet, so taken to end otherwise
    same = FEW.given(acts, clean[:2], planted.frame)
    assert same is not None
    assert same(arm, sample, 0) is None


def test_a_planted_window_is_found_and_named(tmp_path):
    result = FEW.compare(SEEDS.plant(tmp_path / "acts", FEW, early))
    assert result.verdict == "replicates"
    summary = result.summary()
    assert summary["decided_in"] == [0, 1]
    assert summary["settled_at"] == 2
    assert "steps 0 to 1 flip 1.00" in result.finding
    assert "n = 8 samples" in result.finding
    data = result.to_dataset().compute()
    whole = data.isel(arm=np.flatnonzero(data["part"] == "whole"))
    np.testing.assert_array_equal(whole.sortby("first_step")["flip"], [1, 0])
    np.testing.assert_array_equal(whole.sortby("first_step")["settled"], [0, 1])
    groups = data.set_index(group="group") if "group" not in data.indexes else data
    assert groups["group"].to_numpy().tolist() == ["planted easy", "planted hard"]
    assert groups["samples_of_group"].to_numpy().tolist() == [4, 4]
    first = int(np.flatnonzero((data["part"] == "whole") & (data["first_step"] == 0)).item())
    assert groups["flip_by_group"][:, first].to_numpy().tolist() == [1, 1]


def test_without_a_window_it_does_not_replicate(tmp_path):
    assert FEW.compare(SEEDS.plant(tmp_path / "none", FEW)).verdict == "does not replicate"


def test_the_rule_at_its_edges():
    most, few, some = Interval(0.9, 0.5, 1, 9), Interval(0.1, 0, 0.49, 9), Interval(0.5, 0.3, 0.7, 9)
    before, after = Block(0, 1, most, most, 0.04, 0.89), Block(2, 3, few, few, 1.0, 0.9)
    assert decide([before, after]) == "replicates"
    assert decide([before, after._replace(flip=some)]) == "inconclusive"
    assert decide([before, after._replace(flip=most)]) == "does not replicate"
    assert decide([before._replace(flip=few), after]) == "does not replicate"
    assert decide([before._replace(gain=Interval(0.1, 0.0, 0.2, 9)), after]) == "inconclusive"
    assert decide([before._replace(p=0.05), after]) == "inconclusive"
    assert decide([before]) == decide([after]) == "inconclusive"
    assert decide([before, after._replace(settled=float("nan"))]) == "inconclusive"
    assert decide([before, after._replace(flip=few._replace(n=2))]) == "inconclusive"
