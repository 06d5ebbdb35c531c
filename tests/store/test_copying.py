"""Runs travel between stores, checked on arrival, and a copy that was stopped goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import store
from store import files, maintenance
from store.maintenance import copying
from tests.store import small, test_results


def fill(acts: store.ActivationStore) -> None:
    """A sample with two runs, a run of another sample, a result about the first two."""
    id = acts.put_sample(small.sample())
    runs = [small.commit(acts, seed, sample_id=id) for seed in (0, 1)]
    small.commit(acts, 2)
    record = test_results.RECORD.replaced(run_ids=tuple(runs))
    acts.save_result(record, test_results.data(), small.PROVENANCE)


def check(copied: store.ActivationStore, original: store.ActivationStore) -> None:
    """Everything that is in `copied` is as in `original`."""
    assert maintenance.verify(copied).damages == ()
    for id in copied.run_ids():
        old, new = original.run(id), copied.run(id)
        assert old._replace(path=new.path) == new
        one, other = (acts.load("resid_post", "energy", runs=[id]) for acts in (original, copied))
        xr.testing.assert_identical(one.load(), other.load())
    for id in copied.sample_ids():
        assert copied.sample(id).id == original.sample(id).id
    for id in copied.result_ids():
        xr.testing.assert_identical(copied.result(id).data.load(), original.result(id).data.load())
    for view in ("runs", "token_stats", "arrays", "results"):
        count = f"SELECT count(*) FROM {view}"
        assert copied.sql(count).fetchall()[0][0] <= original.sql(count).fetchall()[0][0]


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str, str], str]:
    """Where a new store may be: on a disk or on S3."""

    def place(kind: str, name: str) -> str:
        return str(tmp_path / name) if kind == "disk" else f"{request.getfixturevalue('s3_url')}/{name}"

    return place


@pytest.mark.parametrize(("source", "target"), [("disk", "disk"), ("disk", "s3"), ("s3", "disk"), ("s3", "s3")])
def test_a_store_is_copied(place, source, target, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    one = store.open(place(source, "one"), mode="a")
    other = store.open(place(target, "other"), mode="a")
    fill(one)
    found = maintenance.copy(one, other, progress=True)
    assert (found.runs, found.samples, found.results, found.already) == (3, 1, 1, 0)
    folders = [name for name in files.tree(one.path) if name.split("/")[0] in ("runs", "samples", "results")]
    assert found.nbytes == sum(files.tree(one.path)[name].nbytes for name in folders)
    assert (other.run_ids(), other.sample_ids(), other.result_ids()) == (
        one.run_ids(),
        one.sample_ids(),
        one.result_ids(),
    )
    check(other, one)
    again = maintenance.copy(one, other)
    assert (again.runs, again.already, again.nbytes) == (0, 5, 0)


def test_runs_are_chosen(acts, tmp_path):
    fill(acts)
    other = store.open(tmp_path / "other", mode="a")
    maintenance.copy(acts, other, where="seed = $seed", params={"seed": 1})
    assert [other.run(id).run.seed for id in other.run_ids()] == [1]
    assert len(other.sample_ids()) == 1
    assert other.result_ids() == []  # it is about two runs, of which one is here
    maintenance.copy(acts, other, where="family = 'maze'")
    assert sorted(other.run(id).run.seed for id in other.run_ids()) == [0, 1]
    assert other.result_ids() == acts.result_ids()
    check(other, acts)


def test_a_stopped_copy_goes_on_with_what_is_missing(acts, tmp_path, monkeypatch):
    small.commit(acts)
    other = store.open(tmp_path / "other", mode="a")
    write_new, written = files.write_new, list[str]()

    def failing(path, parts):
        if "/other/" in str(path) and len(written) == 9:
            raise KeyboardInterrupt
        written.append(str(path))
        return write_new(path, parts)

    monkeypatch.setattr(files, "write_new", failing)
    monkeypatch.setattr(copying, "_THREADS", 1)
    with pytest.raises(KeyboardInterrupt):
        maintenance.copy(acts, other)
    assert other.run_ids() == []
    monkeypatch.undo()
    begun = {name: found.nbytes for name, found in files.tree(other.path / "runs").items()}
    assert len(begun) == 9
    whole = sum(found.nbytes for found in files.tree(acts.path / "runs").values())
    found = maintenance.copy(acts, other)
    assert found.nbytes == whole - sum(begun.values())
    check(other, acts)


@pytest.mark.parametrize("harm", [b"", b"something else"])
def test_what_arrived_in_part_is_sent_again(acts, tmp_path, harm):
    id = small.commit(acts)
    other = store.open(tmp_path / "other", mode="a")
    maintenance.copy(acts, other)
    files.remove(other.path / "manifests" / "runs" / f"{id}.parquet")
    (folder,) = (other.path / "runs").iterdir()
    (folder / "resid_post" / "energy" / "energy" / "c.0.0.0.0.0.0").write_bytes(harm)
    assert maintenance.copy(acts, other).runs == 1
    check(other, acts)


def test_damage_does_not_travel(acts, tmp_path):
    id = small.commit(acts)
    path = acts.run(id).path / "resid_post" / "energy" / "energy" / "c.0.0.0.0.0.0"
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    other = store.open(tmp_path / "other", mode="a")
    with pytest.raises(store.DamagedArray, match=r"c\.0\.0\.0\.0\.0\.0 is not what its manifest says"):
        maintenance.copy(acts, other)
    assert other.run_ids() == []


def test_a_damaged_manifest_does_not_travel(acts, tmp_path):
    path = acts.path / "manifests" / "runs" / f"{small.commit(acts)}.parquet"
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    other = store.open(tmp_path / "other", mode="a")
    with pytest.raises(store.CorruptManifest):
        maintenance.copy(acts, other)
    assert other.run_ids() == []


def test_what_does_not_arrive_as_it_was_sent_is_no_copy(acts, tmp_path, monkeypatch):
    small.commit(acts)
    other = store.open(tmp_path / "other", mode="a")
    checksum = files.checksum
    monkeypatch.setattr(files, "checksum", lambda path: "0" * 8 if "/other/" in str(path) else checksum(path))
    with pytest.raises(store.DamagedArray, match="did not arrive"):
        maintenance.copy(acts, other)
    assert other.run_ids() == []


def test_a_copy_needs_a_store_to_write_to(acts, tmp_path):
    small.commit(acts)
    store.open(tmp_path / "other", mode="a")
    with pytest.raises(store.ReadOnlyStore, match="mode='a'"):
        maintenance.copy(acts, store.open(tmp_path / "other"))


def test_a_run_that_somebody_else_committed_meanwhile_stays(acts, tmp_path, monkeypatch):
    id = small.commit(acts)
    other = store.open(tmp_path / "other", mode="a")
    sync_tree = files.sync_tree

    def late(folder):
        monkeypatch.setattr(files, "sync_tree", sync_tree)
        small.commit(other)
        sync_tree(folder)

    monkeypatch.setattr(files, "sync_tree", late)
    found = maintenance.copy(acts, other)
    assert (found.runs, found.already) == (0, 1)
    assert other.run(id).path.name == id
    assert other.incomplete() == []
    np.testing.assert_array_equal(other.load("resid_post", "energy").values[0], small.energy(0))
