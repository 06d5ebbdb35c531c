"""What came since the index was made is held in memory, until it is worth a new file; nothing is missed on the way."""

from __future__ import annotations

import os
import time

import pytest

import store
from store import files, index
from store.places import local
from tests.store import small


@pytest.fixture
def patient(monkeypatch):
    """Small stores behave as large ones: a few runs are little beside the file."""
    monkeypatch.setattr(index, "FRESH_SHARE", 100.0)


def seeds(acts: store.ActivationStore) -> list[int]:
    rows = acts.sql(
        "SELECT seed, (SELECT count(*) FROM token_stats t WHERE t.run_id = r.run_id) FROM runs r"
    ).fetchall()
    assert {count for _, count in rows} <= {12}
    return sorted(seed for seed, _ in rows)


def written(acts: store.ActivationStore) -> int:
    return (acts.path / "index.duckdb").stat().st_ino


def test_one_more_run_does_not_touch_the_file(acts, patient):
    small.commit(acts, 0)
    assert seeds(acts) == [0]
    before = written(acts)
    for seed in (1, 2, 3):
        small.commit(acts, seed)
        assert seeds(acts) == list(range(seed + 1))
        assert seeds(store.open(acts.path)) == list(range(seed + 1))
    acts.put_sample(small.sample())
    assert acts.sql("SELECT family FROM samples").fetchall() == [("maze",)]
    assert written(acts) == before


def test_many_runs_are_worth_a_new_file(acts, patient, monkeypatch):
    monkeypatch.setattr(index, "FRESH_RUNS", 3)
    small.commit(acts, 0)
    assert seeds(acts) == [0]
    before = written(acts)
    for seed in range(1, 4):
        small.commit(acts, seed)
        assert seeds(acts) == list(range(seed + 1))
    assert written(acts) == before
    small.commit(acts, 4)
    assert seeds(acts) == list(range(5))
    assert written(acts) != before
    small.commit(acts, 5)
    assert seeds(acts) == list(range(6))


def test_bytes_are_worth_a_new_file(acts, monkeypatch):
    monkeypatch.setattr(index, "FRESH_SHARE", 1e-9)
    small.commit(acts, 0)
    assert seeds(acts) == [0]
    before = written(acts)
    small.commit(acts, 1)
    assert seeds(acts) == [0, 1]
    assert written(acts) != before


@pytest.mark.parametrize("which", [0, 1])
def test_a_run_that_goes_is_gone(acts, patient, which):
    ids = [small.commit(acts, 0)]
    assert seeds(acts) == [0]
    ids.append(small.commit(acts, 1))  # in memory
    assert seeds(acts) == [0, 1]
    (acts.path / "manifests" / "runs" / f"{ids[which]}.parquet").unlink()
    assert seeds(acts) == [1 - which]
    assert seeds(store.open(acts.path)) == [1 - which]


def test_an_answer_keeps_its_snapshot(acts, patient):
    small.commit(acts, 0)
    first = acts.sql("SELECT seed FROM runs")
    small.commit(acts, 1)
    second = acts.sql("SELECT seed FROM runs")
    small.commit(acts, 2)
    assert seeds(acts) == [0, 1, 2]
    assert sorted(first.fetchall()) == [(0,)]
    assert sorted(second.fetchall()) == [(0,), (1,)]


def test_a_bad_manifest_is_named_and_forgotten_when_it_goes(acts, patient):
    small.commit(acts, 0)
    assert seeds(acts) == [0]
    bad = acts.path / "manifests" / "runs" / f"{'0' * 16}.parquet"
    bad.write_bytes(b"no parquet")
    with pytest.raises(store.CorruptManifest, match="0000000000000000"):
        seeds(acts)
    bad.unlink()
    assert seeds(acts) == [0]


def test_an_unchanged_folder_is_not_listed_again(acts, monkeypatch):
    small.commit(acts, 0)
    monkeypatch.setattr(local, "_TICK", 0)
    listed: list[str] = []
    listing = files.listing

    def counted(folder, suffix):
        listed.append(folder.name)
        return listing(folder, suffix)

    monkeypatch.setattr(files, "listing", counted)
    assert seeds(acts) == seeds(acts) == [0]
    assert sorted(listed) == ["results", "runs", "samples"]
    listed.clear()
    small.commit(acts, 1)
    assert seeds(acts) == [0, 1]
    assert listed == ["runs"]


def test_a_folder_that_changed_just_now_is_listed_again(acts, monkeypatch):
    """Two changes within one tick of the file system's clock bear the same time."""
    small.commit(acts, 0)
    folder = acts.path / "manifests" / "runs"
    now = time.time_ns()
    os.utime(folder, ns=(now, now))
    assert seeds(acts) == [0]
    small.commit(acts, 1)
    os.utime(folder, ns=(now, now))
    assert seeds(acts) == [0, 1]


def test_rows_of_one_run_lie_together(acts):
    """A look for one run skips the blocks of all others, because rows are in the order of ids."""
    for seed in range(8):
        small.commit(acts, seed)
    ids = [row[0] for row in acts.sql("SELECT run_id FROM token_stats").fetchall()]
    assert ids == sorted(ids)
