"""`stepscope experiment noise` from end to end on the bundled model, small: cost first, resumable, one verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import store
from tests.test_cli import refused, run

NOISE = ["experiment", "noise", "--n", "2", "--difficulty", "easy", "--guidance", "1"]
WORDS = [*NOISE, "--world", "grounding", "--steps", "4", "--at", "0,2", "--noisy-frames", "3", "--dose", "0.5"]


def test_noise_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    acts = tmp_path / "acts"
    assert run(*WORDS, "--into", acts, "--batch", "6", "--dry-run") == 0
    # Plain at 0 and 2, matched at 2 twice, half doses of both, frame 3 to the end, three quarters, and matched.
    said = capsys.readouterr().err
    assert "20 runs (2 clean, 9 arms), 0 of them in the store already; 20 to make: 66 steps, 14 more taken" in said
    assert "sampled with FlowMatchEulerDiscreteScheduler" in said
    # 2 clean runs; of the changed ones, 8 begin at step 0, 6 at step 1 and 4 at step 2.
    assert "calls of WanImageToVideoPipeline: 5, of up to 6 runs each" in said
    assert store.open(acts).run_ids() == []
    assert run(*WORDS, "--into", acts, "--batch", "6", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "inconclusive"
    assert "n = 2 samples" in found["finding"]
    assert found["summary"]["comparisons"] == 9
    opened = store.open(acts)
    assert len(opened.run_ids()) == 20
    children = opened.sql("SELECT count(*) FROM runs c JOIN runs p ON c.parent_id = p.run_id").fetchall()[0][0]
    assert children == 18
    data = opened.result(found["result_id"]).data
    assert (data["video_change"] > 0).all()
    assert run(*WORDS, "--into", acts) == 0
    captured = capsys.readouterr()
    assert "20 of them in the store already; 0 to make: 0 steps" in captured.err
    assert captured.out.startswith("inconclusive: Plain noise in all frames")
    assert "Rule: " in captured.out


def test_what_does_not_fit_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, four = [*NOISE, "--into", tmp_path / "acts"], ["--world", "grounding", "--steps", "4"]
    assert "no step 9 to put noise at: there are 0 to 3" in refused(capsys, *words, *four, "--at", "9")
    assert "latent frame 7 cannot be changed" in refused(capsys, *words, *four, "--noisy-frames", "7")
    assert "no world 'gronding'" in refused(capsys, *words, "--world", "gronding")
    assert "4 denoising steps or more" in refused(capsys, *words, "--world", "grounding", "--steps", "3")
    assert "a batch of 0 runs makes nothing" in refused(capsys, *words, *four, "--batch", "0")
    assert "no executor 'slurm'" in refused(capsys, *words, *four, "--executor", "slurm")
    assert not (tmp_path / "acts").exists()


def test_experiments_are_listed_with_claim_and_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("experiment", "ls", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["experiment"] == "noise"
    assert "Replicates" in row["rule"]
    assert "one step" in row["claim"]
