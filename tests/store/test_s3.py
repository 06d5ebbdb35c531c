"""A store on a real server of S3 does what one on a disk does."""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import xarray as xr

import store
from store import files
from store.places import locate
from tests.store import small, test_results
from tests.store.test_crash import run_script

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def acts(s3_url: str) -> store.ActivationStore:
    """An empty store on S3."""
    return store.open(s3_url, mode="a")


def test_a_run_comes_back(acts, s3_url):
    ids = [small.commit(acts, seed) for seed in (0, 1)]
    assert str(acts.path) == s3_url
    assert acts.run_ids() == sorted(ids)
    assert acts.incomplete() == []
    entry = acts.run(ids[1])
    assert (entry.run, entry.steps) == (small.run(1), tuple(small.infos(2)))
    assert str(entry.path).startswith(f"{s3_url}/runs/{ids[1]}.")
    np.testing.assert_array_equal(
        acts.load("resid_post", "energy", runs=ids).values, np.stack([small.energy(0), small.energy(1)])
    )
    one = acts.load("resid_post", "energy", runs=ids[:1], step=1, layer=0, frame=2)
    np.testing.assert_array_equal(one.values[0, 0], small.energy(0)[1, 0, 0, 2])


@pytest.mark.parametrize(
    "options", [{}, {"profile": "compact"}, {"encoding": "int8"}, {"encoding": "float8", "profile": "compact"}]
)
def test_every_way_of_reading_gives_the_same_as_on_a_disk(acts, tmp_path, options):
    values = np.random.default_rng(0).standard_normal((2, 3, 4, 4, 8), np.float32)
    local = store.open(tmp_path / "local", mode="a")
    for each in (acts, local):
        with each.begin_run(small.run(), small.PROVENANCE) as writer:
            axes, labels = ("step", "frame", "y", "x", "channel"), {"step": [0, 1]}
            writer.add_array(
                "q",
                "full",
                dims=axes,
                shape=values.shape,
                dtype="float32",
                coords=labels,
                files_along=["step"],
                **options,
            )
            for step in range(2):
                writer.write("q", "full", {"step": step}, values[step])
            writer.set_steps(small.infos(2))
            writer.commit(1.0)
    id = acts.run_ids()[0]
    tokens = {"run_id": [id] * 3, "step": [1, 0, 1], "frame": [2, 0, 1], "y": [3, 1, 0], "x": [0, 2, 3]}
    ways = [
        lambda one: one.load("q", "full").values,
        lambda one: one.load("q", "full", lazy=False, frame=[0, 2]).values,
        lambda one: one.load("q", "full", step=1, frame=1, channel=[3, 5]).values,
        lambda one: one.gather("q", "full", tokens).values,
        lambda one: one.tokens("q", "full").filter(pl.col("frame") == 1).collect().to_dicts(),
    ]
    for way in ways:
        np.testing.assert_equal(way(acts), way(local))


def test_sql_sees_what_was_committed(acts, s3_url):
    reader = store.open(s3_url)
    assert reader.sql("SELECT count(*) FROM runs").fetchall() == [(0,)]
    id = small.commit(acts)
    assert reader.sql("SELECT run_id, path FROM runs").fetchall()[0][0] == id
    assert reader.sql("SELECT count(*) FROM token_stats").fetchall() == [(12,)]
    assert store.open(s3_url).info().arrays[0].nbytes == small.energy(0).nbytes


def test_manifests_are_fetched_once(acts, s3_url, proxy):
    def fetched() -> int:
        return sum(request.startswith("GET") and "/manifests/runs/" in request for request in proxy.seen)

    for seed in range(5):
        small.commit(acts, seed)
    reader = store.open(s3_url)
    reader.sql("FROM runs")
    assert fetched() == 5
    small.commit(acts, 5)
    reader.sql("FROM runs")
    assert fetched() == 6
    assert store.open(s3_url).sql("SELECT count(*) FROM runs").fetchall() == [(6,)]
    assert fetched() == 6
    reader.reindex()
    assert fetched() == 12


def test_a_removed_run_is_gone(acts):
    ids = [small.commit(acts, seed) for seed in (0, 1)]
    assert acts.sql("SELECT count(*) FROM runs").fetchall() == [(2,)]
    files.remove(acts.path / "manifests" / "runs" / f"{ids[0]}.parquet")
    assert acts.sql("SELECT run_id FROM runs").fetchall() == [(ids[1],)]
    assert acts.run_ids() == [ids[1]]


def test_of_two_writers_one_wins(acts):
    writers = [acts.begin_run(small.run(), small.PROVENANCE) for _ in range(2)]
    for writer in writers:
        small.write_energy(writer, 0)
        writer.set_steps(small.infos(2))
    id = writers[1].commit(1.0)
    with pytest.raises(store.RunExists):
        writers[0].commit(1.0)
    assert acts.run(id).path == writers[1].path
    assert acts.incomplete() == []
    np.testing.assert_array_equal(acts.load("resid_post", "energy").values[0], small.energy(0))
    with pytest.raises(store.RunExists, match=id):
        acts.begin_run(small.run(), small.PROVENANCE)


def test_many_may_create_the_same_store(s3_url):
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: store.open(s3_url, mode="a"), range(4)))
    assert {str(acts.path) for acts in opened} == {s3_url}
    assert sorted(files.tree(locate(s3_url))) == ["stepscope.json"]


def test_samples_and_results_come_back(acts):
    sample = small.sample()
    assert acts.put_sample(sample) == acts.put_sample(sample) == sample.id
    found = acts.sample(sample.id)
    assert found.id == sample.id
    id = acts.save_result(test_results.RECORD, test_results.data(), small.PROVENANCE)
    entry = acts.result(id)
    assert (entry.record, entry.provenance) == (test_results.RECORD, small.PROVENANCE)
    xr.testing.assert_identical(entry.data.load(), test_results.data())
    assert acts.result_ids("energy") == [id]


def test_a_damaged_result_is_named(acts):
    id = acts.save_result(test_results.RECORD, test_results.data(), small.PROVENANCE)
    (folder,) = files.names(acts.path / "results")
    place = acts.path / "results" / folder / "energy" / "zarr.json"
    text = files.read(place)
    files.remove(place)
    files.write_new(place, [text.replace(b"3", b"4", 1)])
    with pytest.raises(store.DamagedArray, match=r"energy/zarr\.json is damaged"):
        acts.result(id)


@pytest.mark.parametrize("change", ["missing", "short"])
def test_a_damaged_array_is_named(acts, change):
    entry = acts.run(small.commit(acts))
    shard = entry.path / "resid_post" / "energy" / "energy" / "c.1.0.0.0.0.0"
    files.remove(shard)
    if change == "short":
        files.write_new(shard, [b"short"])
    with pytest.raises(store.DamagedArray, match=f"{shard.name} (is missing|has 5 bytes)"):
        acts.load("resid_post", "energy")
    assert acts.load("resid_post", "energy", step=0).values.any()


def test_a_manifest_cut_short_is_named(acts):
    small.commit(acts, 1)
    manifest = acts.path / "manifests" / "runs" / f"{small.commit(acts)}.parquet"
    data = files.read(manifest)
    files.remove(manifest)
    files.write_new(manifest, [data[:-1]])
    for read in (lambda: acts.run(manifest.name[:16]), lambda: acts.sql("FROM runs")):
        with pytest.raises(store.CorruptManifest, match=f"^the manifest {manifest} cannot be read"):
            read()


def test_a_lazy_array_travels_without_keys(acts):
    small.commit(acts)
    sent = pickle.dumps(acts.load("resid_post", "energy"))
    assert b"secret" not in sent
    np.testing.assert_array_equal(pickle.loads(sent).values[0], small.energy(0))


def test_what_is_not_committed_is_removed(acts):
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        small.write_energy(writer, 0)
        assert acts.incomplete() == [writer.path.name]
    assert acts.incomplete() == []
    assert list(files.tree(acts.path)) == ["stepscope.json"]


def test_large_files_are_sent_in_parts(acts):
    values = np.random.default_rng(0).integers(0, 2**16, (5, 1000, 1000), dtype=np.uint16)
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        writer.add_array("latent", "full", dims=("frame", "y", "x"), shape=values.shape, dtype="uint16", coords={})
        writer.write("latent", "full", {}, values)
        writer.commit(1.0)
    np.testing.assert_array_equal(acts.load("latent", "full").values[0], values)
    np.testing.assert_array_equal(acts.load("latent", "full", frame=3).values[0], values[3])


def test_a_killed_writer_leaves_only_complete_runs(acts, s3_url):
    """A process is killed at once as it writes; only a client of its own can be, so each attempt starts one."""
    script = f"""
for attempt in range(4):
    committed, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        acts = store.open({s3_url!r}, mode="a")
        for number in range(100):
            small.commit(acts, 1000 * attempt + number, steps=4)
            os.write(told, b".")
    os.read(committed, 1)
    time.sleep(0.02 + 0.013 * attempt)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""
    run_script(script)
    ids = acts.run_ids()
    assert len(ids) >= 4
    assert acts.incomplete(), "no writer was killed while it wrote"
    loaded = acts.load("resid_post", "energy")
    assert sorted(loaded.run.values.tolist()) == ids
    np.testing.assert_array_equal(
        loaded.values, np.stack([small.energy(seed, steps=4) for seed in loaded.seed.values.tolist()])
    )


def test_writing_needs_no_reader_library(s3_url):
    code = f"""
import sys
absent = ["duckdb", "zarr", "xarray", "dask", "polars", "torch"]
sys.modules.update(dict.fromkeys(absent))
import store
from tests.store import small
acts = store.open({s3_url!r}, mode="a")
acts.put_sample(small.sample())
print(acts.run(small.commit(acts)).nbytes, acts.sample(acts.sample_ids()[0]).id == small.sample().id)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, f"{small.energy(0).nbytes} True\n"), done.stderr


def test_a_folder_needs_no_obstore(tmp_path):
    code = f"""
import sys
sys.modules["obstore"] = None
import store
print(store.open({str(tmp_path / "acts")!r}, mode="a").run_ids())
try:
    store.open("s3://bucket/acts")
except store.StoreError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout == (
        "[]\nstores on S3 need the package obstore; install it with: pip install 'stepscope[s3]'\n"
    ), done.stderr


def test_what_is_no_store_is_left_alone(s3_url):
    with pytest.raises(store.StoreNotFound, match=f"no store at {s3_url}; .*mode='a'"):
        store.open(s3_url)
    files.write_new(locate(s3_url) / "thesis.tex", [b"hello"])
    for mode in ("r", "a"):
        with pytest.raises(store.NotAStore, match=r"without stepscope\.json"):
            store.open(s3_url, mode=mode)
    assert list(files.tree(locate(s3_url))) == ["thesis.tex"]
