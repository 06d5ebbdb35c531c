"""`stepscope store …`: what it prints, what it exits with, on a disk and on S3."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import store
from tests.store import small
from tests.test_cli import refused, run


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What verify notes stays within the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def acts(tmp_path: Path) -> Path:
    """A store with three runs of one sample."""
    acts = store.open(tmp_path / "acts", mode="a")
    id = acts.put_sample(small.sample())
    for seed in range(3):
        small.commit(acts, seed, sample_id=id)
    return tmp_path / "acts"


def printed(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """Standard output of a command that succeeds."""
    capsys.readouterr()
    assert run(*words) == 0
    return capsys.readouterr().out


def test_verify_names_each_damage_and_fails(acts, capsys):
    assert "4 runs, samples and results checked: " in printed(capsys, "store", "verify", acts)
    shard = next((acts / "runs").glob("*/resid_post/energy/energy/c.0*"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    assert run("store", "verify", acts) == 1
    out, err = capsys.readouterr()
    assert [line for line in out.splitlines() if "checksum is wrong" in line] == [
        f"{shard}: its checksum is wrong; restore it from a copy, or make it again"
    ]
    assert err.splitlines()[-1] == "stepscope: 1 files are damaged"
    assert run("store", "verify", acts, "--json") == 1
    assert json.loads(capsys.readouterr().out)["damages"][0]["path"] == str(shard)


def test_gc_tells_first_and_removes_when_told(acts, capsys):
    left = acts / "runs" / "0123456789abcdef"
    left.mkdir()
    assert "1 more were written to within 24 h and may be at work" in printed(capsys, "store", "gc", acts)
    told = printed(capsys, "store", "gc", acts, "--grace-hours", "0")
    assert f"{left}: 0 files" in told
    assert "add --yes" in told
    assert left.exists()
    assert json.loads(printed(capsys, "store", "gc", acts, "--grace-hours", "0", "--yes", "--json"))["removed"] is True
    assert not left.exists()
    assert len(store.open(acts).run_ids()) == 3


def test_gc_makes_no_store(tmp_path, capsys):
    assert "no store at" in refused(capsys, "store", "gc", tmp_path / "none", "--yes")
    assert not (tmp_path / "none").exists()


def test_copy_there_and_back(acts, s3_url, tmp_path, capsys):
    told = printed(capsys, "store", "copy", acts, s3_url, "--where", "seed < 2")
    assert told.startswith("2 runs, 1 samples, 0 results copied, 0 were there: ")
    assert len(json.loads(printed(capsys, "store", "ls", s3_url, "--json"))) == 2
    back = json.loads(printed(capsys, "store", "copy", s3_url, tmp_path / "back", "--json"))
    assert (back["runs"], back["samples"]) == (2, 1)
    original, copied = store.open(acts), store.open(tmp_path / "back")
    for id in copied.run_ids():
        one, other = (each.load("resid_post", "energy", runs=[id]).values for each in (original, copied))
        np.testing.assert_array_equal(one, other)
    assert "checked" in printed(capsys, "store", "verify", s3_url)


def test_export_selects_and_does_not_overwrite(acts, tmp_path, capsys):
    out = tmp_path / "energy.npy"
    words = ["store", "export", acts, "resid_post/energy", "-o", out, "--where", "seed = 1"]
    told = printed(capsys, *words, "--step", "1", "--layer", "0", "--layer", "1")
    assert told.startswith(f"{out}: float32, 1 run × 1 step × 1 branch × 2 layer × 3 frame × 4 y × 4 x, ")
    np.testing.assert_array_equal(np.load(out), small.energy(1)[None, 1:])
    assert "is there already" in refused(capsys, *words)
    assert printed(capsys, *words, "--overwrite")
    assert np.load(out).shape[1] == 2
    assert "there is resid_post/energy" in refused(capsys, "store", "export", acts, "q/full", "-o", tmp_path / "q.npy")
    assert "use one of .npy" in refused(capsys, "store", "export", acts, "resid_post/energy", "-o", tmp_path / "q.mat")


def test_info_says_what_a_full_read_costs(acts, capsys):
    told = json.loads(printed(capsys, "store", "info", acts, "--json"))
    stored = sum(array["stored"] for array in told["arrays"])
    assert told["full_read"]["bytes"] == stored > 0
    assert told["full_read"]["seconds"] > 0
    assert told["compression"] == round(3 * small.energy(0).nbytes / stored, 2)
    assert "a full read takes 0.0 MB, about" in printed(capsys, "store", "info", acts)


def test_reindex_makes_the_index_anew(acts, capsys):
    store.open(acts).sql("FROM runs")
    (acts / "index.duckdb").write_bytes(b"no index")
    assert "3 runs, 1 samples" in printed(capsys, "store", "reindex", acts)
    assert (acts / "index.duckdb").stat().st_size > 1000


def test_s3_without_a_server_is_one_line(s3_url, monkeypatch, capsys):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert "cannot be reached at http://127.0.0.1:9" in refused(capsys, "store", "ls", s3_url)
