"""Which runs are averaged: one condition, clean runs by default, each generation once."""

from __future__ import annotations

import pytest

import analyses
from analyses._select import select
from tests.planted import Planted

ENERGY = ["resid_post/energy"]
SMALL = {"samples": 2, "steps": 3, "layers": 2}


@pytest.fixture
def acts(tmp_path):
    return Planted(**SMALL).plant(tmp_path / "acts")


def test_default_takes_the_clean_runs(acts, tmp_path):
    clean = acts.run_ids()
    Planted(**SMALL, interventions=({"kind": "NoiseAtStep", "step": 1},)).plant(tmp_path / "acts")
    chosen = select(acts, arrays=ENERGY)
    assert list(chosen.run_ids) == clean
    assert sorted(chosen.seeds) == [0, 0, 1, 1]


def test_conditions_are_not_mixed(acts, tmp_path):
    Planted(**SMALL, interventions=({"kind": "NoiseAtStep", "step": 1},)).plant(tmp_path / "acts")
    with pytest.raises(analyses.MixedRuns, match="interventions is"):
        select(acts, arrays=ENERGY, where="true")
    noisy = select(acts, arrays=ENERGY, where="interventions <> '[]'")
    assert len(noisy.run_ids) == 4


def test_models_are_not_mixed(acts, tmp_path):
    Planted(**SMALL, weight_hash="0" * 64).plant(tmp_path / "acts")
    with pytest.raises(analyses.MixedRuns, match=r"weight_hash is .* where="):
        select(acts, arrays=ENERGY)


def test_a_generation_that_was_captured_twice_counts_once(acts, tmp_path):
    Planted(**SMALL, arrays=("resid_post/energy",)).plant(tmp_path / "acts")
    assert len(acts.run_ids()) == 8
    chosen = select(acts, arrays=ENERGY)
    assert len(chosen.run_ids) == 4
    assert len(set(zip(chosen.sample_ids, chosen.seeds, strict=True))) == 4


def test_where_sees_samples_and_may_end_in_a_comment(acts):
    chosen = select(acts, arrays=ENERGY, where="prompt LIKE '%wall 1%' AND seed = 1 -- the second")
    assert (len(chosen.run_ids), chosen.seeds) == (1, (1,))


def test_order_of_named_runs_does_not_matter(acts):
    ids = acts.run_ids()
    assert select(acts, arrays=ENERGY, runs=ids) == select(acts, arrays=ENERGY, runs=ids[::-1])


def test_nothing_found_says_what_there_is(acts):
    with pytest.raises(analyses.NoRuns, match=r"where seed = 9 holds resid_post/energy: the store has 4 runs"):
        select(acts, arrays=ENERGY, where="seed = 9")
    with pytest.raises(analyses.NoRuns, match="No run beef"):
        select(acts, arrays=ENERGY, runs=["beef"])


def test_unknown_analysis_names_the_known(acts):
    with pytest.raises(analyses.UnknownAnalysis, match=r"energy, .*trajectory") as caught:
        analyses.run("enregy", acts)
    assert isinstance(caught.value, KeyError)


def test_every_file_of_an_analysis_is_registered():
    from pathlib import Path

    files = {path.stem for path in Path(analyses.__file__).parent.glob("*.py") if not path.stem.startswith("_")}
    assert files - {"errors"} == set(analyses.names())
