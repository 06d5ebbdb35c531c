"""Results of analyses are stored once and come back as they were."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import xarray as xr

import store
from tests.store import small

RECORD = store.ResultRecord(
    analysis="energy",
    params={"site": "resid_post"},
    run_ids=("bb" * 8, "aa" * 8),
    verdict="descriptive",
    finding="Energy rises (n = 2).",
    n=2,
    summary={"rise": 1.5},
)


def data() -> xr.Dataset:
    return xr.Dataset(
        {
            "energy": (("layer", "expert"), np.arange(6.0).reshape(3, 2), {"units": "1"}),
            "empty": ("layer", np.zeros(3)),
        },
        coords={"layer": [0, 1, 2], "expert": ["transformer", "transformer_2"], "name": ("layer", ["a", "b", "ü"])},
        attrs={"title": "small"},
    )


def test_a_result_comes_back_as_it_was(acts):
    id = acts.save_result(RECORD, data(), small.PROVENANCE)
    assert id == store.ResultRecord.make_id("energy", 1, {"site": "resid_post"}, ["aa" * 8, "bb" * 8])
    assert acts.has_result(id)
    entry = acts.result(id)
    assert (entry.record, entry.provenance) == (RECORD, small.PROVENANCE)
    xr.testing.assert_identical(entry.data.load(), data())
    assert acts.result_ids() == acts.result_ids("energy") == [id]
    assert acts.result_ids("trajectory") == []
    assert acts.sql("SELECT verdict, n, run_ids, summary->>'rise' FROM results").fetchall() == [
        ("descriptive", 2, ["aa" * 8, "bb" * 8], "1.5")
    ]


def test_results_are_chosen_by_what_they_are(acts):
    first = acts.save_result(RECORD, data(), small.PROVENANCE)
    later = small.PROVENANCE.model_copy(update={"started": "2027-01-02T03:04:05+00:00"})
    second = acts.save_result(RECORD.replaced(analysis="trajectory", n=3), data() + 1, later)
    assert list(acts.results()) == [first, second]
    assert [entry.record.n for entry in acts.results().values()] == [2, 3]
    (entry,) = acts.results("analysis = ? AND n > 2", ["trajectory"]).values()
    xr.testing.assert_equal(entry.data.load(), data() + 1)
    assert acts.results("analysis = 'none' -- of them") == {}
    with pytest.raises(store.QueryError):
        acts.results("no such column")


def test_a_result_is_stored_once(acts):
    first = acts.save_result(RECORD, data(), small.PROVENANCE)
    assert acts.save_result(RECORD, data() + 1, small.PROVENANCE) == first
    xr.testing.assert_equal(acts.result(first).data.load(), data())


def test_what_cannot_be_saved_leaves_nothing(acts):
    with pytest.raises((TypeError, ValueError)):
        acts.save_result(RECORD, data().assign_attrs(bad=object()), small.PROVENANCE)
    assert acts.result_ids() == []
    assert list((acts.path / "results").iterdir()) == []


def test_a_missing_file_is_an_error(acts):
    id = acts.save_result(RECORD, data(), small.PROVENANCE)
    next(
        path for path in (acts.path / "results" / id / "energy").rglob("*") if path.name == "0" and path.is_file()
    ).unlink()
    with pytest.raises(store.DamagedArray, match="missing"):
        acts.result(id)


def test_an_unknown_result_is_named(acts):
    with pytest.raises(store.ResultNotFound, match="no result"):
        acts.result("0" * 16)


# ---- scores that come later


def test_scores_of_a_result_stand_beside_those_of_the_run(acts):
    with acts.begin_run(small.run(1), small.PROVENANCE) as writer:
        small.write_energy(writer, 1)
        writer.set_steps(small.infos(2))
        writer.add_scores([store.Score(scorer="maze", metric="answer", value=1.0)])
        run_id = writer.commit(1.0)
    asked = "SELECT scorer, metric, value, step, result_id FROM scores WHERE run_id = ? ORDER BY scorer"
    own = ("maze", "answer", 1.0, None, None)
    assert acts.sql(asked, [run_id]).fetchall() == [own]
    given = {run_id: [store.Score(scorer="outside", metric="score", value=0.25)]}
    id = acts.save_result(RECORD.replaced(run_ids=(run_id,)), data(), small.PROVENANCE, scores=given)
    both = [own, ("outside", "score", 0.25, None, id)]
    assert acts.sql(asked, [run_id]).fetchall() == both
    assert store.open(acts.path).sql(asked, [run_id]).fetchall() == both
    acts.reindex()
    assert acts.sql(asked, [run_id]).fetchall() == both
    assert acts.run(run_id).scores == (store.Score(scorer="maze", metric="answer", value=1.0),)


def test_scores_go_with_the_manifest_that_brought_them(acts):
    run_id = small.commit(acts, 1)
    given = {run_id: [store.Score(scorer="outside", metric="score", value=0.25)]}
    id = acts.save_result(RECORD.replaced(run_ids=(run_id,)), data(), small.PROVENANCE, scores=given)
    acts.reindex()
    assert acts.sql("SELECT value FROM scores").fetchall() == [(0.25,)]
    (acts.path / "manifests" / "runs" / f"{run_id}.parquet").unlink()
    assert acts.sql("SELECT value FROM scores").fetchall() == [(0.25,)]
    assert acts.sql("SELECT value FROM scores JOIN runs USING (run_id)").fetchall() == []
    (acts.path / "manifests" / "results" / f"{id}.parquet").unlink()
    assert acts.sql("SELECT value FROM scores").fetchall() == []


def test_results_of_before_there_were_scores_are_read(acts):
    """A manifest without the column, as an older stepscope wrote it, among newer ones."""
    run_id = small.commit(acts, 1)
    old = acts.save_result(RECORD, data(), small.PROVENANCE)
    path = acts.path / "manifests" / "results" / f"{old}.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["scores"]), path)
    given = {run_id: [store.Score(scorer="outside", metric="score", value=0.25)]}
    new = acts.save_result(RECORD.replaced(run_ids=(run_id,)), data(), small.PROVENANCE, scores=given)
    assert acts.sql("SELECT result_id FROM scores").fetchall() == [(new,)]
    assert set(acts.results()) == {old, new}
