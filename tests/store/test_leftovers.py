"""What no manifest names is cleared up, once nobody can be at work on it; nothing else is touched."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

import store
from store import files, maintenance
from tests.store import small

DAY = 24 * 3600


def age(path: Path, seconds: float) -> None:
    """Make a folder and all in it look old."""
    then = time.time() - seconds
    for each in [path, *path.rglob("*")]:
        os.utime(each, (then, then))


@pytest.fixture
def crashed(acts):
    """A complete run and the folder of a writer that is gone, two days old."""
    small.commit(acts)
    writer = acts.begin_run(small.run(1), small.PROVENANCE)
    small.write_energy(writer, 1)
    age(writer.path, 2 * DAY)
    return writer.path


def test_telling_changes_nothing(acts, crashed):
    before = files.tree(acts.path)
    found = maintenance.collect(acts)
    assert [one.path for one in found.leftovers] == [str(crashed)]
    assert (found.removed, found.young) == (False, ())
    assert found.nbytes == sum(one.nbytes for one in files.tree(crashed).values()) > 0
    assert 2 * DAY <= found.leftovers[0].age_s < 2 * DAY + 600
    assert files.tree(acts.path).keys() == before.keys()


def test_removing_removes_that_and_nothing_else(acts, crashed):
    id = acts.run_ids()[0]
    assert maintenance.collect(acts, remove=True).removed
    assert not crashed.exists()
    assert acts.incomplete() == []
    np.testing.assert_array_equal(acts.load("resid_post", "energy", runs=[id]).values[0], small.energy(0))
    assert maintenance.verify(acts).damages == ()


def test_a_writer_at_work_is_left_alone(acts, crashed):
    """Its folder is old, but one file of it is new."""
    writer = acts.begin_run(small.run(2), small.PROVENANCE)
    small.add_energy(writer)
    age(writer.path, 2 * DAY)
    cell = {"step": 0, "branch": 0, "layer": 0}
    writer.write("resid_post", "energy", cell, small.energy(2)[0, 0, 0])
    found = maintenance.collect(acts, remove=True)
    assert [one.path for one in found.leftovers] == [str(crashed)]
    assert [one.path for one in found.young] == [str(writer.path)]
    for step, layer in ((0, 1), (1, 0), (1, 1)):
        cell = {"step": step, "branch": 0, "layer": layer}
        writer.write("resid_post", "energy", cell, small.energy(2)[step, 0, layer])
    writer.set_steps(small.infos(2))
    assert writer.commit(1.0) in acts.run_ids()


def test_a_run_whose_folder_was_taken_is_not_committed(acts):
    """A writer that slept longer than the grace period learns it, instead of publishing a run without files."""
    writer = acts.begin_run(small.run(), small.PROVENANCE)
    small.write_energy(writer, 0)
    writer.set_steps(small.infos(2))
    maintenance.collect(acts, grace_s=-1, remove=True)
    with pytest.raises((store.DamagedArray, FileNotFoundError)):
        writer.commit(1.0)
    assert acts.run_ids() == []


def test_what_a_damaged_manifest_may_name_is_kept(acts, crashed):
    id = small.commit(acts, 3)
    folder = acts.run(id).path
    age(folder, 2 * DAY)
    os.truncate(acts.path / "manifests" / "runs" / f"{id}.parquet", 50)
    found = maintenance.collect(acts, remove=True)
    assert [one.path for one in found.leftovers] == [str(crashed)]
    assert folder.exists()


def test_temporary_files_go_and_others_stay(acts):
    names = {
        "manifests/runs/.x.parquet.0123456789ab.tmp": True,
        ".index.0123456789ab.duckdb": True,
        ".stepscope.json.0123456789ab.tmp": True,
        ".gitignore": False,
        "notes.txt": False,
        "manifests/runs/readme": False,
    }
    for name in names:
        (acts.path / name).write_bytes(b"1234")
        os.utime(acts.path / name, (0, 0))
    found = maintenance.collect(acts, remove=True)
    assert {one.path for one in found.leftovers} == {str(acts.path / name) for name, goes in names.items() if goes}
    assert {name: not (acts.path / name).exists() for name in names} == names


def test_a_reader_may_look_but_not_remove(acts, crashed):
    reader = store.open(acts.path)
    assert len(maintenance.collect(reader).leftovers) == 1
    with pytest.raises(store.ReadOnlyStore, match="mode='a'"):
        maintenance.collect(reader, remove=True)
    assert crashed.exists()


def test_on_s3_as_on_a_disk(s3_url):
    acts = store.open(s3_url, mode="a")
    id = small.commit(acts)
    writer = acts.begin_run(small.run(1), small.PROVENANCE)
    small.write_energy(writer, 1)
    found = maintenance.collect(acts, remove=True)
    assert ([one.path for one in found.young], found.leftovers) == ([str(writer.path)], ())
    found = maintenance.collect(acts, grace_s=-60, remove=True)
    assert [one.path for one in found.leftovers] == [str(writer.path)]
    assert acts.incomplete() == []
    np.testing.assert_array_equal(acts.load("resid_post", "energy", runs=[id]).values[0], small.energy(0))
