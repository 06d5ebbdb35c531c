"""Manifests that are damaged, or from another time, are named and never guessed at."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import store
from tests.store import small


@pytest.fixture
def manifest(acts):
    """The path of one run's manifest; another run is there too."""
    small.commit(acts, 1)
    return acts.path / "manifests" / "runs" / f"{small.commit(acts)}.parquet"


def replace(manifest, **columns):
    table = pq.read_table(manifest)
    for name, value in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array([value], table.schema.field(at).type))
    pq.write_table(table, manifest)


def every_way(acts, id):
    """The ways in which a manifest is read."""
    return [lambda: acts.run(id), lambda: acts.sql("FROM runs"), lambda: acts.load("resid_post", "energy", runs=[id])]


@pytest.mark.parametrize("nbytes", [0, 3, 100, -1])
def test_a_manifest_cut_short_is_named(acts, manifest, nbytes):
    os.truncate(manifest, nbytes if nbytes >= 0 else manifest.stat().st_size - 1)
    for read in every_way(acts, manifest.stem):
        with pytest.raises(store.CorruptManifest, match=f"{manifest.name} cannot be read .*; restore it"):
            read()
    assert "cannot be read" in repr(acts)
    manifest.unlink()
    assert acts.sql("SELECT count(*) FROM runs").fetchall() == [(1,)]


def test_a_manifest_of_a_newer_format_is_named(acts, manifest):
    replace(manifest, format=2)
    for read in every_way(acts, manifest.stem):
        with pytest.raises(store.NewerFormat, match=f"{manifest.name} has format 2.* upgrade"):
            read()


@pytest.mark.parametrize(
    "columns",
    [{"record": "{}"}, {"record": '{"no": 1}'}, {"provenance": "["}, {"path": "../outside"}, {"path": "/etc"}],
)
def test_a_manifest_that_makes_no_sense_is_named(acts, manifest, columns):
    replace(manifest, **columns)
    with pytest.raises(store.CorruptManifest, match=manifest.name):
        acts.run(manifest.stem)


def test_another_parquet_file_is_no_manifest(acts, manifest):
    pq.write_table(pa.table({"a": [1]}), manifest)
    for read in every_way(acts, manifest.stem):
        with pytest.raises(store.CorruptManifest, match=manifest.name):
            read()


def test_a_stranger_reads_a_manifest(acts, manifest):
    row = pq.read_table(manifest).to_pylist()[0]
    assert row["format"] == store.FORMAT
    assert store.Run.model_validate_json(row["record"]) == small.run()
    assert [array["site"] for array in row["arrays"]] == ["resid_post"]
    assert len(row["token_stats"]) == 12
