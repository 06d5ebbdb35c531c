"""Writing a run: what is refused, and that nothing is visible before everything is there."""

from __future__ import annotations

import errno
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import store
from tests.store import small


@pytest.fixture
def writer(acts):
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        yield writer


def test_a_run_is_visible_once_committed(acts):
    with acts.begin_run(small.run(3), small.PROVENANCE) as writer:
        small.write_energy(writer, 3)
        writer.set_steps(small.infos(2))
        writer.add_scores([store.Score(scorer="maze", metric="answer", value=1.0)])
        assert acts.run_ids() == []
        assert acts.incomplete() == [writer.path.name]
        id = writer.commit(2.5)
    assert (acts.run_ids(), acts.incomplete()) == ([id], [])
    entry = acts.run(id)
    assert entry.run == small.run(3)
    assert entry.provenance == small.PROVENANCE
    assert entry.steps == tuple(small.infos(2))
    assert entry.scores == (store.Score(scorer="maze", metric="answer", value=1.0),)
    assert entry.seconds == 2.5
    assert entry.nbytes == small.energy(3).nbytes
    assert entry.stored == sum(path.stat().st_size for path in entry.path.glob("resid_post/energy/energy/c.*"))
    assert entry.path == acts.path / "runs" / id


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_is_not_committed_is_removed(acts, error):
    def interrupted() -> None:
        with acts.begin_run(small.run(), small.PROVENANCE) as writer:
            begun.append(writer)
            small.write_energy(writer, 0)
            raise error

    begun: list[store.RunWriter] = []
    with pytest.raises(error):
        interrupted()
    (writer,) = begun
    assert not writer.path.exists()
    assert acts.run_ids() == []
    with pytest.raises(store.IncompleteRun):
        writer.commit(1.0)
    assert small.commit(acts) in acts.run_ids()


def test_an_interrupt_after_publishing_keeps_the_run(acts, monkeypatch):
    link = os.link

    def interrupted(*args, **options):
        link(*args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small.commit(acts)
    monkeypatch.undo()
    assert acts.load("resid_post", "energy").values.shape == (1, *small.energy(0).shape)


def test_a_missing_cell_is_named(writer):
    small.add_energy(writer)
    for step, layer in ((0, 0), (0, 1), (1, 1)):
        writer.write(
            "resid_post", "energy", {"step": step, "branch": 0, "layer": layer}, small.energy(0)[step, 0, layer]
        )
    with pytest.raises(store.IncompleteRun, match=r"1 of 4 cells .* step=1, branch=cond, layer=0"):
        writer.commit(1.0)


def test_steps_of_arrays_must_have_run(writer):
    small.write_energy(writer, 0)
    writer.set_steps(small.infos(1))
    with pytest.raises(store.IncompleteRun, match=r"keeps steps \[1\]"):
        writer.commit(1.0)


def test_a_run_is_never_overwritten(acts):
    id = small.commit(acts)
    with pytest.raises(store.RunExists, match=id):
        acts.begin_run(small.run(), small.PROVENANCE)


def test_of_two_writers_one_wins(acts):
    writers = [acts.begin_run(small.run(), small.PROVENANCE) for _ in range(2)]
    for writer in writers:
        small.write_energy(writer, 0)
        writer.set_steps(small.infos(2))
    assert len({writer.path for writer in writers}) == 2
    id = writers[1].commit(1.0)
    with pytest.raises(store.RunExists):
        writers[0].commit(1.0)
    assert not writers[0].path.exists()
    assert acts.run(id).path == writers[1].path
    np.testing.assert_array_equal(acts.load("resid_post", "energy").values[0], small.energy(0))


def test_threads_write_different_cells(acts):
    values = small.energy(1, steps=8, layers=8)
    with acts.begin_run(small.run(1, steps=8), small.PROVENANCE) as writer, ThreadPoolExecutor(8) as pool:
        small.add_energy(writer, steps=8, layers=8)
        cells = list(np.ndindex(8, 1, 8))
        names = ("step", "branch", "layer")
        list(
            pool.map(lambda c: writer.write("resid_post", "energy", dict(zip(names, c, strict=True)), values[c]), cells)
        )
        writer.set_steps(small.infos(8))
        writer.commit(1.0)
    np.testing.assert_array_equal(acts.load("resid_post", "energy").values[0], values)
    assert acts.sql("SELECT count(*), count(DISTINCT (step, layer, frame)) FROM token_stats").fetchall() == [(192, 192)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dims": ("layer", "step")}, "not a subsequence"),
        ({"dims": ("run", "step")}, "not a subsequence"),
        ({"shape": (2, 0)}, "length of at least 1"),
        ({"shape": (2,)}, "length of at least 1"),
        ({"dtype": "complex64"}, "cannot be stored"),
        ({"profile": "tiny"}, "does not exist"),
        ({"files_along": ("frame",)}, "files can be split along"),
        ({"coords": {"step": [0, 1]}}, "labels of layer"),
        ({"coords": {"step": [0, 0], "layer": [0, 1, 2]}}, "not unique"),
        ({"coords": {"step": [0], "layer": [0, 1, 2]}}, "does not fit"),
        ({"coords": {"step": [0, 1], "layer": [0, 1, 2], "note": ("x", [1])}}, "does not fit"),
        ({"coords": {"step": [0, 1], "layer": [0, 1, 2j]}}, "numbers, booleans or text"),
        ({"coords": {"step": [0, 1], "layer": [0, 1, 2], "mean": ("layer", [1, 2, 3])}}, "cannot name a coordinate"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(writer, change, message):
    good = {"dims": ("step", "layer"), "shape": (2, 3), "dtype": "float32"}
    labels = {"coords": {"step": [0, 1], "layer": [0, 1, 2]}}
    with pytest.raises(store.InvalidArray, match=message):
        writer.add_array("resid_post", "mean", **good | labels | change)
    writer.add_array("resid_post", "mean", **good | labels)


@pytest.mark.parametrize("name", ["../up", "a/b", "", "step", "sigma", "9lives"])
def test_a_name_that_leads_elsewhere_is_refused(writer, name):
    for site, reduction in ((name, "energy"), ("resid_post", name)):
        with pytest.raises(store.InvalidArray, match="cannot name"):
            writer.add_array(site, reduction, dims=("frame",), shape=(1,), dtype="float32", coords={})


def test_a_block_that_does_not_fit_is_refused(writer):
    small.add_energy(writer)
    block, cell = small.energy(0)[0, 0, 0], {"step": 0, "branch": 0, "layer": 0}
    for index, values, message in (
        ({"step": 0, "layer": 0}, block, "no file of it; give step in 0…1, branch in 0…0, layer in 0…1"),
        (cell | {"layer": 2}, block, "no file"),
        (cell, block[:2], r"of shape \(3, 4, 4\), not float32 of \(2, 4, 4\)"),
        (cell, block.astype(np.float64), "float32 .* not float64"),
    ):
        with pytest.raises(store.InvalidArray, match=message):
            writer.write("resid_post", "energy", index, values)
    writer.write("resid_post", "energy", cell, block)
    with pytest.raises(store.InvalidArray, match="each cell once"):
        writer.write("resid_post", "energy", cell, block)
    with pytest.raises(store.InvalidArray, match=r"never added; .* resid_post/energy"):
        writer.write("resid_pre", "energy", cell, block)
    with pytest.raises(store.InvalidArray, match="each site and reduction once"):
        small.add_energy(writer)


def test_a_seed_that_no_column_holds_is_refused_before_the_run(acts):
    with pytest.raises(store.InvalidRecord, match="seed"):
        acts.begin_run(small.run(2**64), small.PROVENANCE)
    assert acts.incomplete() == []


def test_token_stats_are_those_of_the_maps(acts):
    small.commit(acts, 5)
    found = acts.sql("SELECT * FROM token_stats ORDER BY step, layer, frame").df()
    tokens = small.energy(5).astype(np.float64).reshape(2 * 2 * 3, -1)
    assert found[["branch", "site"]].drop_duplicates().to_numpy().tolist() == [["cond", "resid_post"]]
    np.testing.assert_allclose(found["mean"], tokens.mean(1))
    np.testing.assert_allclose(found["std"], tokens.std(1))
    np.testing.assert_array_equal(found["max"], tokens.max(1))
    np.testing.assert_allclose(found["p99"], np.percentile(tokens, 99, axis=1))


def test_a_diverged_model_is_kept_as_it_is(acts):
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        writer.add_array("latent", "energy", dims=("y", "x"), shape=(1, 3), dtype="float32", coords={})
        writer.write("latent", "energy", {}, np.array([[np.nan, np.inf, 1]], np.float32))
        writer.commit(1.0)
    assert acts.sql("SELECT branch, step, layer, frame, isnan(mean) FROM token_stats").fetchall() == [
        (None, None, None, None, True)
    ]


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 8 MB, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(acts: store.ActivationStore) -> None:
    with acts.begin_run(small.run(1), small.PROVENANCE) as writer:
        writer.add_array("latent", "full", dims=("frame",), shape=(3 * 10**6,), dtype="float32", coords={})
        writer.write("latent", "full", {}, np.ones(3 * 10**6, np.float32))


def test_a_full_disk_is_one_clear_line(tiny_disk):
    acts = store.open(tiny_disk / "acts", mode="a")
    id = small.commit(acts)
    with pytest.raises(store.StoreFull, match=r"^no space left to write .*c\.0: free some[^\n]*$"):
        fill(acts)
    assert (acts.run_ids(), acts.incomplete()) == ([id], [])
    filler = tiny_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(10**7))
    with pytest.raises(store.StoreFull):
        small.commit(acts, 2)
    acts.reindex()  # the index then lives elsewhere
    assert acts.sql("SELECT run_id FROM runs").fetchall() == [(id,)]
    filler.unlink()
    assert small.commit(acts, 2) in acts.run_ids()


def test_a_write_that_fails_once_can_be_repeated(writer, monkeypatch):
    small.add_energy(writer)
    cell, block = {"step": 0, "branch": 0, "layer": 0}, small.energy(0)[0, 0, 0]

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(store.StoreFull):
        writer.write("resid_post", "energy", cell, block)
    monkeypatch.undo()
    writer.write("resid_post", "energy", cell, block)


def test_every_file_is_synced_once(acts, monkeypatch):
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}")))
    id = small.commit(acts)
    run = acts.path / "runs" / id
    below = [str(path) for path in (run, *run.rglob("*"))]
    assert sorted(path for path in synced if path in below) == sorted(below)
    manifests = acts.path / "manifests" / "runs"
    assert synced[-2].startswith(f"{manifests}/.{id}.parquet.")  # after all arrays, under another name
    assert synced[-1] == str(manifests)
