"""Every damage is named, whatever it hit; a store that is whole has none."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import store
from store import files, maintenance, seal
from store.errors import StoreUnreachable
from tests.store import small, test_results


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pass notes stays within the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def fill(acts: store.ActivationStore) -> None:
    """Two runs, a sample and a result."""
    for seed in (0, 1):
        small.commit(acts, seed)
    acts.put_sample(small.sample())
    acts.save_result(test_results.RECORD, test_results.data(), small.PROVENANCE)


@pytest.fixture
def full(acts):
    fill(acts)
    return acts


def all_files(acts: store.ActivationStore) -> list[Path]:
    """Every file of the store that is its own, the index left out."""
    assert isinstance(acts.path, Path)
    folders = [acts.path / name for name in ("runs", "samples", "results", "manifests")]
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


def named(found: maintenance.Verified) -> set[str]:
    return {damage.path for damage in found.damages}


def test_a_whole_store_has_no_damage(full):
    found = maintenance.verify(full, progress=True)
    assert (found.checked, found.earlier, found.damages) == (4, 0, ())
    assert found.nbytes == sum(path.stat().st_size for path in all_files(full))


def test_a_flipped_bit_is_named_in_every_file(full):
    """One bit of each file in turn, in a place that changes from file to file."""
    chance = random.Random(0)
    paths = all_files(full)
    assert len({path.suffix for path in paths}) >= 3
    for path in paths:
        data = path.read_bytes()
        damaged = bytearray(data)
        place = chance.randrange(8 * len(damaged))
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert named(maintenance.verify(full)) == {str(path)}, f"bit {place}"
        path.write_bytes(data)
    assert maintenance.verify(full).damages == ()


def test_every_bit_of_a_manifest_counts(full):
    (path,) = (full.path / "manifests" / "results").iterdir()
    data = path.read_bytes()
    assert seal.is_sound(data)
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        assert not seal.is_sound(bytes(damaged)), place


@pytest.mark.parametrize("harm", ["remove", "shorten", "empty", "lengthen"])
def test_what_is_lost_is_named(full, harm):
    for path in all_files(full)[::7]:
        data = path.read_bytes()
        if harm == "remove":
            path.unlink()
        else:
            path.write_bytes({"shorten": data[:-1], "empty": b"", "lengthen": data + b"\0"}[harm])
        lost = harm == "remove" and "manifests" in path.parts
        assert named(maintenance.verify(full)) == (set() if lost else {str(path)})
        path.write_bytes(data)


def test_each_damage_is_one_line_that_says_what(full):
    shard = full.run(full.run_ids()[0]).path / "resid_post" / "energy" / "energy" / "c.0.0.0.0.0.0"
    shard.unlink()
    manifest = full.path / "manifests" / "runs" / f"{full.run_ids()[1]}.parquet"
    os.truncate(manifest, 100)
    lines = [str(damage) for damage in maintenance.verify(full).damages]
    assert len(lines) == 2
    assert all("\n" not in line for line in lines)
    assert f"{shard}: it is missing; restore it from a copy, or make it again" in lines
    assert any(line.startswith(f"{manifest}: ") and "cannot be read" in line for line in lines)


def test_a_manifest_of_a_newer_format_is_named(full):
    path = full.path / "manifests" / "runs" / f"{full.run_ids()[0]}.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("format")
    pq.write_table(table.set_column(place, "format", pa.array([2], pa.int32())), path)
    (damage,) = maintenance.verify(full).damages
    assert damage.path == str(path)
    assert "has format 2" in damage.problem


def test_a_manifest_under_another_id_is_named(full):
    runs = full.path / "manifests" / "runs"
    ids = full.run_ids()
    (runs / f"{ids[0]}.parquet").write_bytes((runs / f"{ids[1]}.parquet").read_bytes())
    (damage,) = maintenance.verify(full).damages
    assert f"it is that of {ids[1]}" in damage.problem


def test_manifests_from_before_there_were_seals(full):
    """Their metadata is not listed: what can be checked of it by itself is."""
    path = full.path / "manifests" / "runs" / f"{full.run_ids()[0]}.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["metadata"]), path)
    entry = full.run(full.run_ids()[0])
    assert entry.metadata is None
    assert maintenance.verify(full).damages == ()
    for name in ("resid_post/energy/step/c.0", "resid_post/energy/zarr.json", "zarr.json"):
        harmed = entry.path / name
        data = harmed.read_bytes()
        harmed.write_bytes(b"?" + data[1:])
        assert len(maintenance.verify(full).damages) == 1, name
        harmed.write_bytes(data)


def test_a_stopped_pass_goes_on(full, monkeypatch):
    checksum, calls = files.checksum, list[str]()

    def failing(path):
        calls.append(str(path))
        if "samples" in str(path):
            raise StoreUnreachable("gone")
        return checksum(path)

    monkeypatch.setattr(files, "checksum", failing)
    with pytest.raises(StoreUnreachable):
        maintenance.verify(full)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(full.path.parent / "cache"))
    found = maintenance.verify(full)
    assert (found.checked, found.earlier, found.damages) == (2, 2, ())
    assert maintenance.verify(full).earlier == 0  # a pass that is complete leaves nothing


def test_what_was_noted_may_be_forgotten(full, tmp_path):
    state = tmp_path / "notes"
    version = full.layout.listing("runs")[full.run_ids()[0]].version
    state.write_text(f'["runs", "{full.run_ids()[0]}", "{version}"]\n["runs", "')
    assert maintenance.verify(full, state=state).earlier == 1
    assert not state.exists()
    state.write_text(f'["runs", "{full.run_ids()[0]}", "{version}"]\n')
    assert maintenance.verify(full, state=state, fresh=True).earlier == 0


def test_leftovers_are_not_damage(full):
    (full.path / "runs" / "0123456789abcdef").mkdir()
    assert maintenance.verify(full).damages == ()


def test_on_s3_as_on_a_disk(s3_url):
    acts = store.open(s3_url, mode="a")
    fill(acts)
    assert maintenance.verify(acts).damages == ()
    names = [name for name in files.tree(acts.path) if name != "stepscope.json"]
    for name in names[:: max(1, len(names) // 12)]:
        data = files.read(acts.path / name)
        files.remove(acts.path / name)
        files.write_new(acts.path / name, [bytes([data[0] ^ 1]) + data[1:]])
        assert named(maintenance.verify(acts)) == {str(acts.path / name)}
        files.remove(acts.path / name)
        if "manifests" not in name:
            assert named(maintenance.verify(acts)) == {str(acts.path / name)}
        files.write_new(acts.path / name, [data])
    assert maintenance.verify(acts).damages == ()
