"""`stepscope vbvr` from end to end on the bundled model: samples in, runs, videos out, scores in again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import store
from interp import vbvr
from interp.worlds import worlds
from tests import planted_vbvr as planted
from tests.test_cli import refused, run

SHORT = ["--steps", "1", "--frames", "5", "--guidance", "1"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two samples of a world, in the layout."""
    out = tmp_path_factory.mktemp("vbvr") / "bench"
    vbvr.export(out, samples=worlds["grounding"].generate(2))
    return out / "gt"


def test_from_samples_to_scores(bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    acts, out = tmp_path / "acts", tmp_path / "out"
    assert run("vbvr", "import", bench, "--into", acts) == 0
    assert "2 samples, 2 of them new" in capsys.readouterr().out
    capture = ["capture", "--samples", bench, "--n", "2", "--into", acts, *SHORT, "--keep", "resid_post/energy"]
    assert run(*capture) == 0
    opened = store.open(acts)
    assert len(opened.run_ids()) == len(opened.sample_ids()) == 2  # those that were imported
    assert opened.sql("SELECT DISTINCT family, split FROM samples").fetchall() == [("grounding", "in_domain")]
    capsys.readouterr()
    assert run("vbvr", "export", "--store", acts, "--samples", bench, "-o", out) == 0
    said = capsys.readouterr().out
    assert f"{out}: 2 videos of runs, 8 of floors and truth; 18 files written now" in said
    assert f"--gt_base {out / 'gt'}" in said
    assert "without truth" not in said
    planted.kit(out)
    assert run("vbvr", "scores", out, "--store", acts) == 0
    table = capsys.readouterr().out
    assert "tinywan-seed0-" in table
    assert "2 runs have got scores" in table
    assert run("vbvr", "scores", out, "--store", acts, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["new"], found["known"], found["rows"][0]["truth"]["mean"]) == (0, 2, 1.0)
    query = "SELECT count(*) FROM scores JOIN runs USING (run_id) WHERE scorer = 'vbvr' AND metric = 'score'"
    assert opened.sql(query).fetchall() == [(2,)]


def test_worlds_are_exported_without_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["vbvr", "export", "--world", "grounding", "--n", "1", "-o", tmp_path / "out"]
    assert run(*words, "--show", "still", "--json") == 0
    assert json.loads(capsys.readouterr().out)["models"] == ["floor-still"]
    assert run(*words) == 0
    assert "4 of floors and truth; 3 files written now" in capsys.readouterr().out


def test_experiments_take_a_folder(bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--samples", bench, "--n", "2", *SHORT[2:], "--steps", "4", "--into", tmp_path / "acts", "--dry-run"]
    assert run("experiment", "noise", *words, "--at", "0", "--noisy-frames", "1") == 0
    assert "(2 clean" in capsys.readouterr().err
    assert "compares twins, which a folder of samples does not have" in refused(capsys, "experiment", "swap", *words)


def test_what_is_asked_wrongly_is_one_line(bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    acts = tmp_path / "acts"
    assert "no folder" in refused(capsys, "vbvr", "import", tmp_path / "nowhere", "--into", acts)
    assert not acts.exists()
    assert "give --store with runs" in refused(capsys, "vbvr", "export", "-o", tmp_path / "out")
    assert "no store" in refused(capsys, "vbvr", "scores", tmp_path, "--store", acts)
    assert not acts.exists()
    both = ["--samples", bench, "--world", "maze", "--into", acts]
    assert "capture needs samples" in refused(capsys, "capture", *both)
    assert "an experiment needs samples" in refused(capsys, "experiment", "noise", *both)
    assert "2 such samples" in refused(capsys, "capture", "--samples", bench, "--n", "3", "--into", acts)
