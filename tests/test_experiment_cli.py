"""`stepscope experiment` from end to end on the bundled model, small: cost first, resumable, one verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import store
from tests import tiny
from tests.test_cli import refused, run

NOISE = ["experiment", "noise", "--n", "2", "--difficulty", "easy", "--guidance", "1"]
WORDS = [*NOISE, "--world", "grounding", "--steps", "4", "--at", "0,2", "--noisy-frames", "3", "--dose", "0.5"]


def test_noise_from_end_to_end(tmp_path: Path, thin_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    acts = tmp_path / "acts"
    words = [*WORDS, "--model", thin_model, "--into", acts]
    assert run(*words, "--batch", "6", "--dry-run") == 0
    # Plain at 0 and 2, matched at 2 twice, half doses of both, frame 3 to the end, three quarters, and matched.
    said = capsys.readouterr().err
    assert "20 runs (2 clean, 9 arms), 0 of them in the store already; 20 to make: 66 steps, 14 more taken" in said
    assert "sampled with FlowMatchEulerDiscreteScheduler" in said
    # 2 clean runs; of the changed ones, 8 begin at step 0, 6 at step 1 and 4 at step 2.
    assert "calls of WanImageToVideoPipeline: 5, of up to 6 runs each" in said
    assert store.open(acts).run_ids() == []
    assert run(*words, "--batch", "6", "--json") == 0
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
    assert run(*words) == 0
    captured = capsys.readouterr()
    assert "20 of them in the store already; 0 to make: 0 steps" in captured.err
    assert captured.out.startswith("inconclusive: Plain noise in all frames")
    assert "Rule: " in captured.out


def test_an_experiment_on_a_model_with_a_lora(tmp_path: Path) -> None:
    tiny.pipeline().save_pretrained(tmp_path / "model")
    parts = {
        f"transformer.blocks.1.attn1.to_q.lora_{side}.weight": shape for side, shape in (("A", (2, 32)), ("B", (32, 2)))
    }
    save_file({name: torch.ones(shape) for name, shape in parts.items()}, tmp_path / "lora.safetensors")
    words = ["experiment", "noise", "--model", tmp_path / "model", "--lora", f"{tmp_path / 'lora.safetensors'}*0.5"]
    words += ["--world", "maze", "--n", "1", "--steps", "4", "--at", "0", "--noisy-frames", "1", "--dtype", "bfloat16"]
    assert run(*words, "--height", "96", "--width", "96", "--frames", "17", "--into", tmp_path / "acts") == 0
    models = [store.open(tmp_path / "acts").run(id).run.model for id in store.open(tmp_path / "acts").run_ids()]
    assert {(one.dtype, *((lora.path, lora.scale) for lora in one.adapters)) for one in models} == {
        ("bfloat16", ("lora.safetensors", 0.5))
    }


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


def test_gradients_foretell_what_patches_recover(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["experiment", "attribution", "--world", "grounding", *EASY[:-1], "2", "--site", "resid_post"]
    words += ["--layer-blocks", "2", "--windows", "0", "--part", "whole", "--into", tmp_path / "acts"]
    assert "in one process, not by dask; ask for" in refused(capsys, *words, "--executor", "dask")
    assert run(*words, "--json") == 0
    captured = capsys.readouterr()
    assert "2 pairs of runs to attribute, 0 of them in the store already; 2 to make: 2 steps with a" in captured.err
    found = json.loads(captured.out)
    assert found["verdict"] == "inconclusive"
    assert found["summary"]["arms"] == 2
    acts = store.open(tmp_path / "acts")
    cells = acts.result(found["result_id"]).data["cell"]
    assert dict(cells.sizes) == {"step": 1, "layer": 12, "cell_site": 1, "cell_part": 3}
    assert (cells != 0).all()
    assert len(acts.result_ids("attribution_tokens")) == 2


def test_what_does_not_fit_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, four = [*NOISE, "--into", tmp_path / "acts"], ["--world", "grounding", "--steps", "4"]
    assert "no step 9 to put noise at: there are 0 to 3" in refused(capsys, *words, *four, "--at", "9")
    assert "latent frame 7 cannot be changed" in refused(capsys, *words, *four, "--noisy-frames", "7")
    assert "no world 'gronding'" in refused(capsys, *words, "--world", "gronding")
    assert "4 denoising steps or more" in refused(capsys, *words, "--world", "grounding", "--steps", "3")
    assert "a batch of 0 runs makes nothing" in refused(capsys, *words, *four, "--batch", "0")
    assert "detour has no twins" in refused(
        capsys, "experiment", "swap", "--into", tmp_path / "acts", "--world", "detour"
    )
    assert "no executor 'slurm'" in refused(capsys, *words, *four, "--executor", "slurm")
    assert not (tmp_path / "acts").exists()


def test_experiments_are_listed_with_claim_and_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("experiment", "ls", "--json") == 0
    rows = {row["experiment"]: row for row in json.loads(capsys.readouterr().out)}
    known = {
        "noise",
        "patch",
        "attribution",
        "propagation",
        "swap",
        "windows",
        "ensemble",
        "frames",
        "steps",
        "early-selection",
    }
    assert known <= set(rows)
    assert all("eplicates" in row["rule"] for row in rows.values())
    assert "one step" in rows["noise"]["claim"]


SMALL = ["--world", "grounding", "--n", "1", "--difficulty", "easy", "--guidance", "1"]
"""One sample, whose answer is there after a step or two."""


def conducted(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[dict[str, Any], str]:
    """The result as JSON, and what was said before."""
    assert run("experiment", *words, "--json") == 0
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


def by_arm(acts: Path, found: dict[str, Any], *labels: str) -> dict[Any, dict[str, float]]:
    """Score and forwards of each arm of a stored result."""
    data = store.open(acts).result(found["result_id"]).data
    keys = zip(*(data[name].values.tolist() for name in labels), strict=True)
    return {
        key if len(key) > 1 else key[0]: {name: float(data[name][at]) for name in ("score", "forwards", "seconds")}
        for at, key in enumerate(keys)
    }


def test_frames_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    acts = tmp_path / "acts"
    found, said = conducted(capsys, "frames", *SMALL, "--into", acts, "--steps", "2", "--counts", "9,17")
    assert "2 runs (1 clean, 1 arms), 0 of them in the store already; 2 to make: 4 steps" in said
    arms = by_arm(acts, found, "frames")
    assert {frames: one["forwards"] for frames, one in arms.items()} == {9: 2, 17: 2}
    assert arms[17]["score"] == 1  # tinywan does this in two steps
    assert arms[9]["score"] >= 0  # scored, though its video is of another length
    shapes = store.open(acts).sql("SELECT shape[1] FROM arrays WHERE site = 'output' ORDER BY ALL").fetchall()
    assert shapes == [(9,), (17,)]
    again = conducted(capsys, "frames", *SMALL, "--into", acts, "--steps", "2", "--counts", "9")[1]
    assert "0 to make: 0 steps" in again


def test_steps_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    acts = tmp_path / "acts"
    words = [
        "steps",
        "--into",
        acts,
        "--world",
        "rotation",
        "--n",
        "1",
        "--difficulty",
        "medium",
        "--guidance",
        "1",
        "--steps",
        "2",
    ]
    words += ["--numbers", "1", "--student-numbers", "1"]
    found, said = conducted(capsys, *words)
    assert "3 runs (1 clean, 2 arms), 0 of them in the store already; 3 to make: 4 steps" in said
    assert set(by_arm(acts, found, "model", "steps")) == {("teacher", 1), ("teacher", 2), ("student", 1)}
    opened = store.open(acts)
    runs = [opened.run(id).run for id in opened.run_ids()]
    assert sum(bool(one.model.adapters) for one in runs) == 1
    assert len({one.model.weight_hash for one in runs}) == 1
    (parent,) = {one.parent_id for one in runs} - {None}
    assert opened.run(str(parent)).run.settings.steps == 2
    first = opened.result(found["result_id"]).data["effective_first"].values
    assert first[0] == pytest.approx(first[1])  # the first x̂0 is the same for any number of steps
    assert "0 to make: 0 steps" in conducted(capsys, *words)[1]


def test_early_selection_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    acts = tmp_path / "acts"
    words = ["early-selection", *SMALL, "--into", acts, "--steps", "3", "--seeds", "0,1"]
    found, said = conducted(capsys, *words)
    assert "3 runs (2 clean, 1 arms), 0 of them in the store already; 3 to make: 11 steps" in said
    arms = by_arm(acts, found, "method")
    assert {name: one["forwards"] for name, one in arms.items() if name in ("any", "settled", "long", "best")} == {
        "any": 3,
        "settled": 5,
        "long": 5,
        "best": 6,
    }
    committed = store.open(acts).result(found["result_id"]).data["committed"]
    assert float(committed[-1]) == 1


def test_ensemble_from_end_to_end(tmp_path: Path, thin_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    acts = tmp_path / "acts"
    words = ["ensemble", *SMALL, "--into", acts, "--steps", "2", "--seeds", "0-2", "--sizes", "3", "--no-baselines"]
    words += ["--model", thin_model]
    found, said = conducted(capsys, *words)
    assert "13 runs (3 clean, 10 arms), 0 of them in the store already; 13 to make: 24 steps, 2 more taken" in said
    assert "donors make 22 steps beside them" in said
    arms = by_arm(acts, found, "method", "layers", "window", "weights")
    assert arms["hidden", "6-8", "0", "uniform"]["forwards"] == 4
    assert arms["hidden", "6-8", "0-1", "uniform"]["forwards"] == 6
    assert arms["one", "", "", ""]["forwards"] == 2
    opened = store.open(acts)
    shares = opened.sql("SELECT count(*) FROM runs WHERE parent_id IS NOT NULL AND seed = 0").fetchall()
    assert shares == [(10,)]
    assert "0 to make: 0 steps" in conducted(capsys, *words)[1]


def test_plans_that_do_not_fit_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*SMALL, "--into", tmp_path / "acts", "--steps", "4"]
    assert "ask for --seeds 0-2 or more" in refused(capsys, "experiment", "ensemble", *words)
    assert "ask for --seeds 0-3" in refused(capsys, "experiment", "early-selection", *words)
    assert "the question alone" in refused(capsys, "experiment", "frames", *words, "--counts", "1")
    assert "is no variant of tinywan" in refused(capsys, "experiment", "steps", *words, "--student", "tinywan-experts")
    assert not (tmp_path / "acts").exists()
