"""The patch experiment: its plan, and its verdict on planted recovery and on its absence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analyses
from analyses import experiments
from analyses.experiments import Patch
from analyses.experiments._exchange import Labels
from analyses.experiments._paired import Interval
from analyses.experiments.patch import Contrasts, decide
from tests.planted_exchange import End, Exchanged

PLANTED = Exchanged(units=8)
FEW = Patch(sites=("resid_post", "mlp_out"), parts=("target", "background"), layer_blocks=3, windows=((0, 1),))
DOCS = Path(__file__).parents[3] / "docs" / "experiments.md"


def middle(labels: dict[str, Any], unit: int) -> End:
    """The target's tokens of the residual stream in the middle block recover the answer."""
    place = labels["part"], labels["site"], labels["first_layer"]
    return "donor" if place == ("target", "resid_post", 2) else "own"


def test_it_is_registered_and_documented():
    assert experiments.get("patch") is Patch
    assert "## `patch`" in DOCS.read_text()


def test_the_plan_is_sites_by_regions_by_blocks():
    arms = [Labels(**arm.labels) for arm in Patch().plan(PLANTED.frame)]
    assert len(set(arms)) == len(arms) == 3 * 3 * 4 * 2
    assert {(arm.first_step, arm.last_step) for arm in arms} == {(0, 0), (1, 3)}
    keeps = FEW.keeps(PLANTED.frame)[0]
    assert {item.site: item.layers for item in keeps.items} == {
        "latent": None,
        "mlp_out": tuple(range(6)),
        "resid_post": tuple(range(6)),
    }
    with pytest.raises(analyses.BadPlan, match="no z to patch; it has resid_post, attn_out"):
        Patch(sites=("z",)).plan(PLANTED.frame)


def test_planted_recovery_comes_back(tmp_path):
    result = FEW.compare(PLANTED.plant(tmp_path / "acts", FEW, middle))
    assert result.verdict == "replicates"
    data = result.to_dataset().compute()
    found = {
        (str(part), str(site), int(layer)): float(value)
        for part, site, layer, value in zip(
            data["part"].values, data["site"].values, data["first_layer"].values, data["recovered"].values, strict=True
        )
    }
    assert found.pop(("target", "resid_post", 2)) == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(list(found.values()), 0, atol=0.01)
    summary = result.summary()
    assert summary["best"]["first_layer"] == 2  # type: ignore[index, call-overload]
    assert summary["target_over_background"] == pytest.approx(1 / 3, abs=0.01)
    assert summary["inner_over_outer"] == pytest.approx(1, abs=0.02)
    assert "comes back from the target tokens of resid_post in layers 2 to 3 at steps 0 to 1" in result.finding


def test_recovery_elsewhere_does_not_replicate(tmp_path):
    def elsewhere(labels: dict[str, Any], unit: int) -> End:
        return "donor" if labels["part"] == "background" else "own"

    assert FEW.compare(PLANTED.plant(tmp_path / "else", FEW, elsewhere)).verdict == "does not replicate"
    few = dataclasses.replace(PLANTED, units=7)
    assert FEW.compare(few.plant(tmp_path / "few", FEW, middle)).verdict == "inconclusive"


def test_the_rule_at_its_edges():
    above, below, around = Interval(0.3, 0.1, 0.5, 9), Interval(-0.3, -0.5, -0.1, 9), Interval(0.1, -0.1, 0.3, 9)
    assert decide(Contrasts(above, above, 3)) == "replicates"
    assert decide(Contrasts(above, above, 2)) == "inconclusive"
    assert decide(Contrasts(above, around, 3)) == "inconclusive"
    assert decide(Contrasts(below, around, 3)) == decide(Contrasts(around, below, 3)) == "does not replicate"
    assert decide(Contrasts(above, above._replace(n=7), 3)) == "inconclusive"
