"""The command line: what it prints, and one clear line for whatever is asked wrongly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from cyclopts import App

import reports
import stepscope
import store

ROOT = Path(stepscope.__file__).parent
FEW = ["--world", "maze", "--steps", "2", "--guidance", "1"]


def run(*words: str | Path) -> int:
    """Exit code of a command, run in this process."""
    try:
        stepscope.main([str(word) for word in words])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line on standard error of a command that must fail."""
    capsys.readouterr()
    assert run(*words) == 2
    lines = capsys.readouterr().err.splitlines()
    complaints = [line for line in lines if line.startswith("stepscope: ")]
    assert len(complaints) == 1
    assert lines[-1] == complaints[0]
    assert "Traceback" not in "\n".join(lines)
    return complaints[0]


@pytest.fixture(scope="module")
def acts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two short runs."""
    path = tmp_path_factory.mktemp("cli") / "acts"
    assert (
        run("capture", "--into", path, *FEW, "--seeds", "0,1", "--keep", "resid_post/energy", "--keep", "x0_hat/full")
        == 0
    )
    return path


def test_capture_says_what_it_costs_and_goes_on_where_it_stopped(
    acts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["capture", "--into", acts, *FEW, "--seeds", "0-2", "--keep", "resid_post/energy", "--keep", "x0_hat/full"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interp.load", None)  # no weights are loaded
        assert run(*words, "--batch", "8", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "3 runs, 2 of them in the store already; 1 to make: 2 steps" in said
    assert "MB a run" in said
    assert "calls of WanImageToVideoPipeline: 1, of up to 8 runs each" in said
    assert "tinywan: WanImageToVideoPipeline" in said
    assert "resid_post/energy" in said
    assert "GB" in next(line for line in said.splitlines() if line.startswith("free at"))
    assert "an estimate" in next(line for line in said.splitlines() if line.startswith("time: about"))
    assert len(store.open(acts).run_ids()) == 2


def test_sql_prints_a_table_or_json(acts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = "SELECT seed, steps FROM runs ORDER BY seed"
    assert run("sql", query, "--store", acts, "--json") == 0
    assert json.loads(capsys.readouterr().out) == [{"seed": 0, "steps": 2}, {"seed": 1, "steps": 2}]
    assert run("sql", query, "--store", acts) == 0
    assert "seed" in capsys.readouterr().out


def test_the_demos_questions_are_those_of_the_docs_and_have_answers(
    acts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = " ".join((ROOT / "docs" / "how-to" / "sql.md").read_text().split())
    for question, query in reports.QUERIES:
        assert question in page
        assert " ".join(query.split()) in page
        assert run("sql", query, "--store", acts, "--json") == 0
        assert isinstance(json.loads(capsys.readouterr().out), list)


def test_store_ls_and_info(acts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("store", "ls", acts, "--json") == 0
    assert [row["family"] for row in json.loads(capsys.readouterr().out)] == ["maze", "maze"]
    assert run("store", "info", acts, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["runs"], found["incomplete"]) == (2, [])
    assert {(row["site"], row["reduction"]) for row in found["arrays"]} >= {
        ("resid_post", "energy"),
        ("x0_hat", "full"),
    }
    assert run("store", "info", acts) == 0
    assert "resid_post" in capsys.readouterr().out


def test_analyze_and_report(acts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("analyze", "energy", "--store", acts, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["analysis"] == "energy"
    assert store.open(acts).result_ids("energy") == [result["result_id"]]
    out = tmp_path / "report.html"
    assert run("report", "--store", acts, "-o", out, "--where", "seed = 0") == 0
    assert "</html>" in out.read_text()
    assert "probes: left out. No run" in capsys.readouterr().out  # the default capture keeps no mean tokens


def test_options_of_an_analysis(acts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run("analyze", "energy", "--store", acts, "--set", "branch=cond", "--set", 'site="resid_post"', "--json") == 0
    )
    assert json.loads(capsys.readouterr().out)["params"] == {"branch": "cond", "kinds": None, "site": "resid_post"}
    assert run("analyze", "energy", "--store", acts, "--set", "colour=red") == 2
    assert "energy has no option colour; it has where, runs, site, branch, kinds." in capsys.readouterr().err
    assert run("analyze", "energy", "--store", acts, "--set", "branch") == 2
    assert "--set branch has no value" in capsys.readouterr().err


def test_doctor_finds_nothing_wrong_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "--json") == 0
    assert json.loads(capsys.readouterr().out)["shadowed"] == ""


def test_doctor_names_what_shadows_our_packages(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, ROOT / "stepscope.py", "doctor"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    # The script's own folder comes first on the path, so only another entry point is shadowed.
    assert done.returncode == 0
    code = f"import sys; sys.path.append({str(ROOT)!r}); import stepscope; stepscope.main(['doctor'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "shadowed packages: store is" in done.stderr


def commands(app: App) -> dict[str, App]:
    """Every command at or below an app, by its words."""
    found: dict[str, App] = {}
    for name in app:
        if not name.startswith("-"):
            found[name] = app[name]
            found |= {f"{name} {word}": command for word, command in commands(app[name]).items()}
    return found


def test_every_command_has_help_and_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    found = commands(stepscope.app)
    assert {"demo", "store ls", "worlds check", "models info", "experiment early-selection"} <= found.keys()
    for words, command in found.items():
        assert command.help, words
        assert run(*words.split(), "--version") == 0
        assert capsys.readouterr().out == metadata.version("stepscope") + "\n", words


def test_an_unknown_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "capture", "--into", tmp_path / "acts", *FEW, "--model", "tinywam")
    assert "no model 'tinywam': bundled are tinycog, tinywan" in line
    line = refused(capsys, "capture", "--into", tmp_path / "acts", *FEW, "--model", tmp_path)
    assert "model_index.json" in line
    line = refused(capsys, "capture", "--into", tmp_path / "acts", *FEW, "--model", "nobody/nothing")
    assert "cannot read the configuration of 'nobody/nothing'" in line
    assert not (tmp_path / "acts").exists()


def test_a_missing_first_frame(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "capture", "--into", tmp_path / "acts", "--image", tmp_path / "no.png")
    assert "no first frame at" in line
    (tmp_path / "no.png").write_text("not a picture")
    assert "cannot read the first frame" in refused(
        capsys, "capture", "--into", tmp_path / "acts", "--image", tmp_path / "no.png"
    )
    assert "--image FILE" in refused(capsys, "capture", "--into", tmp_path / "acts")


def test_a_picture_and_prompt_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "first.png"
    PIL.Image.fromarray(np.full((50, 70, 3), 200, np.uint8)).save(picture)
    words = ["--image", picture, "--prompt", "<b>go</b>", "--steps", "1", "--keep", "resid_post/energy@layers=3"]
    assert run("capture", "--into", tmp_path / "acts", *words) == 0
    capsys.readouterr()
    assert run("sql", "SELECT prompt, family FROM samples", "--store", tmp_path / "acts", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [{"prompt": "<b>go</b>", "family": "custom"}]


def test_a_layer_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["capture", "--into", tmp_path / "acts", *FEW, "--keep", "resid_post/energy@layers=99"]
    assert "layer 99, but there are 12: 0 to 11" in refused(capsys, *words)


def test_a_store_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "acts"
    file.write_text("precious")
    assert str(file) in refused(capsys, "capture", "--into", file, *FEW)
    assert str(file) in refused(capsys, "sql", "SELECT 1", "--store", file)
    assert file.read_text() == "precious"


def test_a_store_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["sql", "SELECT 1"], ["analyze", "energy"], ["report", "-o", tmp_path / "r.html"]):
        assert "nowhere" in refused(capsys, *words, "--store", tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "query",
    [
        "SELEC 1",
        "SELECT CAST(model AS INTEGER) FROM runs",
        "COPY runs TO 'x.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT 1; SELECT 2",
    ],
)
def test_sql_that_is_refused(acts: Path, capsys: pytest.CaptureFixture[str], query: str) -> None:
    refused(capsys, "sql", query, "--store", acts)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 400 kB, where this machine lets us mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_fills_up(
    small_disk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["capture", "--into", small_disk / "acts", *FEW, "--keep", "resid_post/full"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interp.load", None)  # refused before weights are loaded
        assert "are free" in refused(capsys, *words)
    assert list(small_disk.iterdir()) == []
    # Another process takes the space after the check.
    usage = type("Usage", (), {"free": 1 << 40})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    refused(capsys, *words)
    monkeypatch.undo()
    assert store.open(small_disk / "acts").run_ids() == []
    assert store.open(small_disk / "acts").incomplete() == []


def test_a_read_only_folder(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    refused(capsys, "capture", "--into", small_disk / "acts", *FEW)


def test_ctrl_c_keeps_finished_runs_and_nothing_else(tmp_path: Path, thin_model: Path) -> None:
    acts = tmp_path / "acts"
    words = [sys.executable, "-m", "stepscope", "capture", "--model", str(thin_model), "--into", str(acts), *FEW]
    words += ["--seeds", "0-99"]
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    ) as process:
        deadline = time.monotonic() + 300
        while not list(acts.glob("manifests/runs/*.parquet")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=240)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("stepscope: interrupted")
    assert "Traceback" not in errors
    opened = store.open(acts)
    finished = opened.run_ids()
    assert 1 <= len(finished) < 100
    assert opened.incomplete() == []
    for run_id in finished:
        assert opened.load("resid_post", "energy", runs=[run_id]).compute().notnull().all()


def test_a_capture_spread_over_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["capture", "--into", tmp_path / "acts", "--world", "grounding", "--seeds", "0,1", "--steps", "1"]
    words += ["--guidance", "1", "--keep", "resid_post/energy@layers=0", "--executor"]
    assert run(*words, "dask") == 0
    assert len(store.open(tmp_path / "acts").run_ids()) == 2
    assert "no executor 'slurm'; there are local, gpus, dask" in refused(capsys, *words, "slurm")


def test_interventions_by_words_and_by_file(
    tmp_path: Path, thin_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clean runs come first, children name them; what has no place is refused before anything runs."""
    (tmp_path / "changes.toml").write_text('[[intervention]]\nkind = "block_noise"\nalpha = 0.1\nlayers = [3]\n')
    words = ["capture", "--into", tmp_path / "acts", *FEW, "--keep", "latent/full", "--scheduler", "euler"]
    words += ["--model", thin_model]
    assert "step 2, but there are 2" in refused(capsys, *words, "--intervene", "noise_at_step@steps=2")
    assert "no intervention 'noise'" in refused(capsys, *words, "--intervene", "noise@steps=1")
    assert "its fields are" in refused(capsys, *words, "--intervene", "noise_at_step@steps=1@doze=1")
    assert "cannot read the numbers 'x'" in refused(capsys, *words, "--intervene", "noise_at_step@steps=x")
    assert "cannot read the interventions" in refused(capsys, *words, "--intervene", tmp_path / "no.toml")
    assert store.open(tmp_path / "acts").run_ids() == []
    changes = ["--intervene", "noise_at_step@steps=1@matched", "--intervene", tmp_path / "changes.toml"]
    assert run(*words, *changes) == 0
    capsys.readouterr()
    query = "SELECT run_id, parent_id, interventions FROM runs ORDER BY parent_id NULLS FIRST"
    assert run("sql", query, "--store", tmp_path / "acts", "--json") == 0
    clean, child = json.loads(capsys.readouterr().out)
    assert (clean["parent_id"], child["parent_id"]) == (None, clean["run_id"])
    assert json.loads(child["interventions"]) == [
        {"kind": "noise_at_step", "matched": True, "steps": [1]},
        {"kind": "block_noise", "alpha": 0.1, "layers": [3]},
    ]
    assert run(*words, *changes, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "with noise_at_step, block_noise: 1 runs, 1 of them in the store already; 0 to make" in said
