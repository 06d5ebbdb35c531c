"""Results of analyses are stored once and come back as they were."""

from __future__ import annotations

import numpy as np
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
