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


def loaded_after(statement: str, names: tuple[str, ...]) -> list[str]:
    """Which of `names` are in sys.modules of a fresh interpreter after `statement`."""
    code = f"{statement}\nimport sys\nprint(*[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


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
    statement = "import contextlib, stepscope\nwith contextlib.suppress(SystemExit):\n    stepscope.main(['--help'])"
    families = tuple(f"stepscope_commands.{name}" for name in ("store", "worlds", "experiment", "models", "vbvr"))
    assert not set(families).intersection(loaded_after(statement, families))


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
