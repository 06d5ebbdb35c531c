"""`stepscope experiment` from end to end on the bundled model, small: cost first, resumable, one verdict."""

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
    assert run(*WORDS, "--into", acts, "--dry-run") == 0
    # Plain at 0 and 2, matched at 2 twice, half doses of both, frame 3 to the end, three quarters, and matched.
    said = capsys.readouterr().err
    assert "20 runs (2 clean, 9 arms), 0 of them in the store already; 20 to make: 66 steps, 14 more taken" in said
    assert "sampled with FlowMatchEulerDiscreteScheduler" in said
    assert store.open(acts).run_ids() == []
    assert run(*WORDS, "--into", acts, "--json") == 0
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


EASY = ["--n", "1", "--difficulty", "easy", "--guidance", "1", "--steps", "4"]


def test_a_swap_of_a_layer_at_every_step_gives_the_donors_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both ways, from states that the store holds: no donor is run again."""
    from interp import donors

    words = ["experiment", "swap", "--world", "grounding", *EASY, "--layers", "6", "--windows", "0-3"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(donors, "_captured", None)
        assert run(*words, "--part", "whole", "--part", "target", "--into", tmp_path / "acts", "--json") == 0
    said = capsys.readouterr()
    assert "6 runs (2 clean, 2 arms), 0 of them in the store already; 6 to make" in said.err
    found = json.loads(said.out)
    assert found["verdict"] == "inconclusive"
    assert found["summary"]["flip_of_all_arms"] == 1
    assert found["summary"]["reading_agreement"] == 1
    data = store.open(tmp_path / "acts").result(found["result_id"]).data.compute()
    assert data["flip_forth"].to_numpy().tolist() == data["flip_back"].to_numpy().tolist() == [1, 1]


def test_who_donates_is_known_when_clean_runs_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run counts every seed; then only those that ended otherwise receive."""
    words = ["experiment", "windows", "--world", "match_shape", "--seeds", "0,1", "--n", "1", "--difficulty", "hard"]
    words += ["--guidance", "1", "--steps", "4", "--layer-blocks", "1", "--windows", "0-1", "--into", tmp_path / "acts"]
    assert run(*words, "--dry-run") == 0
    assert "6 runs (2 clean, 3 arms)" in capsys.readouterr().err
    assert run(*words) == 0
    assert "n = 1 sample" in capsys.readouterr().out
    changed = store.open(tmp_path / "acts").sql("SELECT count(*) FROM runs WHERE parent_id IS NOT NULL").fetchall()
    assert changed[0][0] == 4  # these two end otherwise; a stranger needs another sample


def test_noise_is_followed_through_later_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["experiment", "propagation", "--world", "grounding", *EASY, "--at", "1", "--layers", "11"]
    assert run(*words, "--into", tmp_path / "acts", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "inconclusive"
    data = store.open(tmp_path / "acts").result(found["result_id"]).data.compute()
    apart = data["dissimilarity_tokens"].sel(injected=1, layer=11)
    assert (apart.sel(step=[1, 2, 3]) > 0).all()
    assert apart.sel(step=0).isnull().all()
    assert float(apart.sel(noise="plain", step=1)) > float(apart.sel(noise="matched", step=1))


def test_a_clean_run_is_patched_into_its_twin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["experiment", "patch", "--world", "grounding", *EASY, "--layer-blocks", "1", "--windows", "0-3"]
    words += ["--site", "resid_post", "--part", "target"]
    assert run(*words, "--into", tmp_path / "acts", "--json") == 0
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert summary["recovered"] == pytest.approx(1, abs=0.05)
    refused(capsys, *words, "--site", "nowhere", "--into", tmp_path / "acts")


def test_what_does_not_fit_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, four = [*NOISE, "--into", tmp_path / "acts"], ["--world", "grounding", "--steps", "4"]
    assert "no step 9 to put noise at: there are 0 to 3" in refused(capsys, *words, *four, "--at", "9")
    assert "latent frame 7 cannot be changed" in refused(capsys, *words, *four, "--noisy-frames", "7")
    assert "no world 'gronding'" in refused(capsys, *words, "--world", "gronding")
    assert "4 denoising steps or more" in refused(capsys, *words, "--world", "grounding", "--steps", "3")
    assert "detour has no twins" in refused(
        capsys, "experiment", "swap", "--into", tmp_path / "acts", "--world", "detour"
    )
    assert "no executor 'slurm'" in refused(capsys, *words, *four, "--executor", "slurm")
    assert not (tmp_path / "acts").exists()


def test_experiments_are_listed_with_claim_and_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("experiment", "ls", "--json") == 0
    rows = {row["experiment"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"noise", "patch", "propagation", "swap", "windows"} <= set(rows)
    assert all("eplicates" in row["rule"] for row in rows.values())
    assert "one step" in rows["noise"]["claim"]
