"""The attribution experiment: its plan, what it seeks, and its verdict on planted attributions, right and wrong."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import analyses
import store
from analyses import experiments
from analyses.experiments import Attribution
from analyses.experiments._answers import Question
from analyses.experiments._paired import Interval
from analyses.experiments._token_cells import token_cells
from analyses.experiments.attribution import TOKENS, Agreement, decide
from store import ResultRecord
from tests.planted import PROVENANCE
from tests.planted_exchange import End, Exchanged

PLANTED = Exchanged(units=8)
FEW = Attribution(sites=("resid_post", "mlp_out"), layer_blocks=3, windows=((0, 1),))
DOCS = Path(__file__).parents[3] / "docs" / "experiments.md"


def middle(labels: dict[str, Any], unit: int) -> End:
    """The target's tokens of the residual stream in the middle block of layers recover the answer."""
    here = labels["part"] != "background" and (labels["site"], labels["first_layer"]) == ("resid_post", 2)
    return "donor" if here else "own"


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of patched runs without attributions."""
    return PLANTED.plant(tmp_path_factory.mktemp("patched") / "acts", FEW, middle).path


def plant(patched: Any, path: Path, *, layer: int = 3, site: str = "resid_post", sign: float = 1.0) -> Any:
    """A copy of that store with attributions that name the target's tokens at one layer and site, and no others."""
    shutil.copytree(patched, path)
    acts, planted = store.open(path, mode="a"), PLANTED
    clean = [(sample, planted.clean(sample, 0, FEW.keeps(planted.frame)[0])) for _, sample in planted.samples]
    samples = {sample.id: sample for sample, _ in clean}
    sites = ["resid_post", "mlp_out"]
    for one in FEW.sought(clean, planted.frame):
        question = Question(samples[one.run.sample_id], samples[one.donor.sample_id])
        target = token_cells(question.where(question.of_receiver[0], question.of_donor[0]), planted.frame.tokens)
        shape = (2, 1, planted.layers, 2, *planted.frame.tokens)
        attribution, difference = np.zeros(shape, np.float32), np.ones(shape, np.float32)
        attribution[:, 0, layer, sites.index(site)] = sign * target / target.sum()
        axes = ("step", "branch", "layer", "site", "frame", "y", "x")
        data = xr.Dataset(
            {"attribution": (axes, attribution), "difference": (axes, difference)},
            coords={"step": [0, 1], "branch": ["cond"], "layer": np.arange(planted.layers), "site": sites},
        )
        params: Any = {"receiver": one.run.id, "donor": one.donor.id, "sites": sites, "steps": list(one.steps)}
        record = ResultRecord(
            analysis=TOKENS,
            params=params,
            run_ids=(one.run.id, one.donor.id),
            verdict="descriptive",
            finding="planted",
            n=1,
            summary={"seconds": 2.0},
        )
        acts.save_result(record, data, PROVENANCE)
    return acts


def test_it_is_registered_and_documented():
    assert experiments.get("attribution") is Attribution
    assert "## `attribution`" in DOCS.read_text()


def test_the_plan_is_that_of_patch():
    assert Attribution().plan(PLANTED.frame) == experiments.Patch().plan(PLANTED.frame)
    assert Attribution().keeps(PLANTED.frame) == experiments.Patch().keeps(PLANTED.frame)
    with pytest.raises(analyses.BadPlan, match="nothing is attributed to the part 'text'; there are whole"):
        Attribution(parts=("whole", "text")).plan(PLANTED.frame)


def test_it_seeks_each_twin_in_the_other_at_the_steps_of_its_windows():
    clean = [(sample, PLANTED.clean(sample, 0, FEW.clean)) for _, sample in PLANTED.samples]
    found = FEW.sought(clean, PLANTED.frame)
    assert len(found) == 16
    assert {(one.sites, one.steps) for one in found} == {(("resid_post", "mlp_out"), (0, 1))}
    assert {(one.run.id, one.donor.id) for one in found} == {(one.donor.id, one.run.id) for one in found}
    assert all(one.run.sample_id != one.donor.sample_id for one in found)


def test_points_are_asked_for_and_told_apart(patched, tmp_path):
    few = dataclasses.replace(FEW, points=8)
    clean = [(sample, PLANTED.clean(sample, 0, FEW.clean)) for _, sample in PLANTED.samples]
    assert {one.points for one in few.sought(clean, PLANTED.frame)} == {8}
    acts = plant(patched, tmp_path / "acts")
    with pytest.raises(analyses.NoRuns, match=r"with 8 points between states; make"):
        few.compare(acts)
    assert FEW.compare(acts).summary()["points"] == 0
    with pytest.raises(analyses.BadPlan, match="no -1 points between two states"):
        dataclasses.replace(FEW, points=-1).plan(PLANTED.frame)


def test_right_attributions_rank_as_the_patches_do(patched, tmp_path):
    result = FEW.compare(plant(patched, tmp_path / "acts"))
    assert result.verdict == "replicates"
    assert result.summary()["rho"] == pytest.approx(1)
    assert float(str(result.summary()["rho_above_size"])) > 0.1
    assert result.summary()["seconds_a_pair"] == 2
    assert "ranks 18 arms of real patches with rho 1.00" in result.finding
    data = result.to_dataset().compute()
    cells = data["cell"]
    assert cells.dims == ("step", "layer", "cell_site", "cell_part")
    assert cells.sel(layer=3, cell_site="resid_post", cell_part=["whole", "target"]).values == pytest.approx(1)
    assert float(abs(cells).sum()) == pytest.approx(4)  # two steps, two parts that hold the target, and no others
    assert data["attributed"].values == pytest.approx(data["recovered"].values, abs=0.01)
    assert set(data["part"].values) == {"whole", "target", "background"}
    assert data["part"].dims == data["site"].dims == ("arm",)
    assert data["group"].values.tolist()[0] == "all"


def test_of_the_residual_stream_the_last_layer_counts_and_of_other_sites_all(patched, tmp_path):
    result = FEW.compare(plant(patched, tmp_path / "first", layer=2))
    assert result.to_dataset()["attributed_by_sample"].values == pytest.approx(0)
    assert result.summary()["rho"] is None
    assert result.verdict == "inconclusive"
    data = FEW.compare(plant(patched, tmp_path / "mlp", layer=2, site="mlp_out")).to_dataset().compute()
    block = (data["site"] == "mlp_out") & (data["first_layer"] == 2) & (data["part"] != "background")
    assert data["attributed"].values == pytest.approx(block.values.astype(float))


def test_wrong_attributions_do_not_replicate(patched, tmp_path):
    assert FEW.compare(plant(patched, tmp_path / "signs", sign=-1)).verdict == "does not replicate"
    assert FEW.compare(plant(patched, tmp_path / "site", layer=1)).verdict == "does not replicate"


def test_without_attributions_it_says_how_to_make_them(patched):
    with pytest.raises(
        analyses.NoRuns, match=r"None of the 16 pairs of runs has attributions .* `stepscope experiment"
    ):
        FEW.compare(store.open(patched))


def test_the_rule_at_its_edges():
    good, low, around = Interval(0.7, 0.5, 0.9, 9), Interval(0.3, 0.1, 0.49, 9), Interval(0.5, 0.3, 0.7, 9)
    above, below, none = Interval(0.2, 0.01, 0.4, 9), Interval(-0.2, -0.4, -0.01, 9), Interval(0.0, -0.1, 0.1, 9)
    assert decide(Agreement(good, above, 6)) == "replicates"
    assert decide(Agreement(good, above, 5)) == "inconclusive"
    assert decide(Agreement(good._replace(n=7), above, 6)) == "inconclusive"
    assert decide(Agreement(good, none, 6)) == decide(Agreement(around, above, 6)) == "inconclusive"
    assert decide(Agreement(low, above, 6)) == decide(Agreement(good, below, 6)) == "does not replicate"
