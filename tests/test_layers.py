"""The arrows of the house: interp → store ← analyses ← reports, and what may never be imported where."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
LAYERS = ("interp", "store", "analyses", "reports")
MODEL_SIDE = ("torch", "diffusers", "nnsight", "transformers")
QUERY_ENGINES = ("duckdb", "zarr", "xarray", "dask", "polars")
RUNS_A_MODEL = ("diffusers", "transformers", "peft", "nnsight", "accelerate", "torch._dynamo")


def loaded_after(statement: str, names: tuple[str, ...]) -> list[str]:
    """Which of `names` are in sys.modules of a fresh interpreter after `statement`."""
    code = f"{statement}\nimport sys\nprint(*[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


def command(*words: str) -> str:
    """The statement that runs `stepscope WORDS`."""
    return f"import contextlib, stepscope\nwith contextlib.suppress(SystemExit):\n    stepscope.main({list(words)!r})"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the repository's import contracts on the packages in `folder`."""
    command = [BIN / "lint-imports", "--no-logo", "--no-cache", "--config", ROOT / "pyproject.toml"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_offline_layers_leave_the_model_side_alone():
    assert loaded_after("import store, analyses, reports", MODEL_SIDE) == []


def test_importing_the_store_loads_no_query_engine():
    assert loaded_after("import store", QUERY_ENGINES) == []


def test_importing_every_command_loads_neither_them_nor_a_layer():
    statement = "import stepscope\nfor name in stepscope.app:\n    stepscope.app[name]"
    assert loaded_after(statement, ("stepscope_commands.worlds",)) == ["stepscope_commands.worlds"]
    assert loaded_after(statement, (*LAYERS, *MODEL_SIDE, *QUERY_ENGINES, "av", "PIL")) == []


def test_help_leaves_the_families_alone():
    families = tuple(f"stepscope_commands.{name}" for name in ("store", "worlds", "experiment", "models", "vbvr"))
    assert loaded_after(command("--help"), families) == []


def test_samples_and_scores_do_without_what_runs_a_model():
    assert loaded_after("import interp.worlds", ("torch", *RUNS_A_MODEL)) == ["torch"]
    assert loaded_after("import interp, interp.scoring, interp.vbvr", ("joblib", *RUNS_A_MODEL)) == ["joblib"]


def test_commands_that_need_no_model_load_nothing_that_runs_one(tmp_path):
    assert loaded_after(command("--help"), (*LAYERS, *MODEL_SIDE, *RUNS_A_MODEL)) == []
    render = command("worlds", "render", "grounding", "--n", "1", "--out", str(tmp_path / "out"))
    both = f"{command('worlds', 'ls')}\n{render}"
    assert loaded_after(both, ("torch", "av", *RUNS_A_MODEL)) == ["torch", "av"]


def test_every_public_name_of_interp_is_there_when_it_is_asked_for():
    statement = (
        "import interp\n"
        "from interp import *\n"
        "assert set(interp.__all__) <= set(dir(interp))\n"
        "assert interp._RUNS_A_MODEL.keys() <= set(interp.__all__)\n"
        "assert all(globals()[name] is getattr(interp, name) for name in interp.__all__)\n"
        "assert not hasattr(interp, 'nothing')\n"
        "import interp.worlds, interp.sites, interp.reductions\n"  # modules of the names of registries
        "assert 'maze' in interp.worlds and 'q' in interp.sites and 'full' in interp.reductions"
    )
    assert loaded_after(statement, ("diffusers", "nnsight")) == ["diffusers", "nnsight"]


def test_a_loaded_package_is_noticed():
    assert loaded_after("import zarr", QUERY_ENGINES) == ["zarr"]


def test_help_takes_less_than_a_second():
    """Of a processor's time, which other tests beside it do not take."""
    seconds: list[float] = []
    for _ in range(3):
        before = os.times()
        done = subprocess.run([BIN / "stepscope", "--help"], capture_output=True, text=True, check=True)
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert "demo" in done.stdout
    assert min(seconds) < 1.0, f"stepscope --help took {min(seconds):.2f} s at best"


def test_imports_follow_the_arrows():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("package", "statement", "contract"),
    [
        ("store", "import analyses", "analyses reads the store"),
        ("analyses", "import reports", "reports draws what analyses returns"),
        ("interp", "import analyses", "interp meets the other layers in the store only"),
        ("interp", "import zarr", "a GPU node writes without the query engines"),
        ("store", "import interp", "nothing offline knows the model side"),
        ("store", "def lazily():\n    import torch", "nothing offline knows the model side"),
        ("analyses", "from diffusers import DiffusionPipeline", "nothing offline knows the model side"),
        ("reports", "import nnsight", "nothing offline knows the model side"),
        ("analyses", "import matplotlib.pyplot", "drawing belongs to reports"),
        ("reports", "import stepscope_commands", "nothing below knows the command line"),
        ("interp", "import stepscope", "nothing knows stepscope.py"),
        ("stepscope_commands", "import stepscope", "nothing knows stepscope.py"),
    ],
)
def test_a_planted_import_breaks_its_contract(tmp_path, package, statement, contract):
    for name in (*LAYERS, "stepscope_commands"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    assert lint(tmp_path).returncode == 0
    (tmp_path / package / "__init__.py").write_text(statement + "\n")
    done = lint(tmp_path)
    broken = [line for line in done.stdout.splitlines() if line.endswith("BROKEN")]
    assert done.returncode == 1
    assert [contract in line for line in broken] == [True], done.stdout + done.stderr
