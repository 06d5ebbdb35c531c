"""Directions from a store: planted differences come back, and the library says which there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import interp
import store
from interp import directions
from interp.interventions import Steer
from store import ResultRecord
from tests import tiny
from tests.planted import PROVENANCE

CELL = {"step": 1, "layer": 2}


@pytest.fixture(scope="module")
def acts(tmp_path_factory: pytest.TempPathFactory) -> store.ActivationStore:
    """Runs of four seeds that kept the mean token of every cell."""
    opened = store.open(tmp_path_factory.mktemp("directions") / "acts", mode="a")
    model = interp.load(tiny.pipeline())
    settings = model.settings(**{**tiny.SIZE, "steps": 2, "guidance": 1.0})
    spec = interp.parse(["resid_post/token_mean", "resid_post/full@steps=1@layers=2"])
    interp.capture(model, [tiny.sample()], spec, into=opened, seeds=[0, 1, 2, 3], settings=settings)
    return opened


def means(acts: store.ActivationStore, runs: list[str]) -> np.ndarray:
    """Mean tokens, worked out from whole ones."""
    tokens = acts.load("resid_post", "full", runs=runs, lazy=False, **CELL).squeeze().to_numpy().astype(np.float64)
    return tokens.reshape(len(runs), -1, tokens.shape[-1]).mean(axis=1)


def test_a_difference_of_means_goes_from_the_ones_to_the_others(acts: store.ActivationStore) -> None:
    a, b, c, d = acts.run_ids()
    found = directions.between(acts, [a, b], [c, d], site="resid_post", **CELL)
    expected = means(acts, [c, d]).mean(axis=0) - means(acts, [a, b]).mean(axis=0)
    np.testing.assert_allclose(np.array(found.unit) * found.length, expected, atol=1e-5)
    assert np.linalg.norm(found.unit) == pytest.approx(1)


def test_a_principal_component_has_the_greatest_deviation(acts: store.ActivationStore) -> None:
    values = means(acts, acts.run_ids())
    found = [directions.principal(acts, acts.run_ids(), site="resid_post", number=at, **CELL) for at in range(3)]
    for one in found:
        along = (values - values.mean(axis=0)) @ np.array(one.unit)
        assert along.std(ddof=1) == pytest.approx(one.length, rel=1e-3)
    assert [one.length for one in found] == sorted((one.length for one in found), reverse=True)
    assert abs(np.dot(found[0].unit, found[1].unit)) < 1e-6
    top = np.array(found[0].unit)
    assert top[np.abs(top).argmax()] > 0


def test_a_stored_probe_gives_its_direction(acts: store.ActivationStore) -> None:
    values = np.arange(24.0).reshape(2, 2, 2, 3) + 1
    axes = ("target", "step", "layer", "channel")
    coords = {"target": ["side=right", "size"], "step": [0, 1], "layer": [2, 3]}
    data = xr.Dataset(
        {"direction": (axes, values), "direction_shift": (axes[:-1], np.full((2, 2, 2), 0.25))},
        coords=coords,
        attrs={"site": "resid_post", "headline": "direction"},
    )
    record = ResultRecord(
        analysis="probes", run_ids=tuple(acts.run_ids()), verdict="descriptive", finding="Found.", n=1
    )
    acts.save_result(record, data, PROVENANCE)
    found = directions.of_result(acts, record.id, target="size", step=1, layer=2)
    np.testing.assert_allclose(found.unit, values[1, 1, 0] / np.linalg.norm(values[1, 1, 0]))
    assert found.length == 0.25
    with pytest.raises(interp.BadIntervention, match=r"no direction for layer 7; it has 2, 3"):
        directions.of_result(acts, record.id, target="size", step=1, layer=7)
    with pytest.raises(interp.BadIntervention, match=r"needs target, step, layer; given: target, step"):
        directions.of_result(acts, record.id, target="size", step=1)


def test_steering_by_the_difference_brings_the_mean_to_the_other_one(acts: store.ActivationStore) -> None:
    a, b = acts.run_ids()[:2]
    found = directions.between(acts, [a], [b], site="resid_post", **CELL)
    change = Steer(direction=found.unit, scale=found.length, layers=(2,), steps=(1,))
    model = interp.load(tiny.pipeline())
    run = acts.run(a).run
    spec = interp.parse(["resid_post/token_mean"])
    done = interp.capture(
        model, [tiny.sample()], spec, into=acts, seeds=[run.seed], settings=run.settings, interventions=[change]
    )
    mean = acts.load("resid_post", "token_mean", runs=list(done.run_ids), lazy=False, **CELL).squeeze().to_numpy()
    np.testing.assert_allclose(mean, means(acts, [b])[0], atol=1e-4)


def test_what_has_no_direction_is_one_line(acts: store.ActivationStore) -> None:
    a, b = acts.run_ids()[:2]
    for say, make in {
        "runs on both sides": lambda: directions.between(acts, [], [a], site="resid_post", **CELL),
        "the difference of these means has no direction": lambda: directions.between(
            acts, [a], [a], site="resid_post", **CELL
        ),
        "give step as well": lambda: directions.between(acts, [a], [b], site="resid_post", layer=2),
        "2 runs have 1 principal components, counted from 0; not 1": lambda: directions.principal(
            acts, [a, b], site="resid_post", number=1, **CELL
        ),
    }.items():
        with pytest.raises(interp.BadIntervention, match=say):
            make()


def test_it_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "interventions.md").read_text()
    assert all(f"directions.{name}(" in text for name in ("of_result", "between", "principal"))
