"""The command line sets what it says, and examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from interp.worlds import worlds
from training import __main__ as command
from training import checkpoint, loop, ship
from training.config import Config
from training.session import Session


def configured(*arguments: str) -> Config:
    return command.configure(command.arguments().parse_args(["--out", "somewhere", "--device", "cpu", *arguments]))


def test_every_family_takes_part_unless_some_are_named() -> None:
    assert configured().families == tuple(worlds.names())
    assert configured("--families", "maze").families == ("maze",)
    assert len(configured("--preset", "dry").families) >= 2


def test_minutes_alone_take_the_place_of_steps() -> None:
    plain, timed = configured(), configured("--minutes", "7", "--vae-minutes", "2", "--few-step-minutes", "1")
    assert plain.transformer.minutes is None
    assert (timed.transformer.steps, timed.transformer.minutes) == (None, 7)
    assert (timed.vae.steps, timed.vae.minutes) == (None, 2)
    assert (timed.few_step.steps, timed.few_step.minutes) == (None, 1)
    assert timed.experts == plain.experts
    both = configured("--minutes", "7", "--steps", "10").transformer
    assert (both.steps, both.minutes) == (10, 7)


def test_a_model_brings_its_own_choices() -> None:
    second = configured("--model", "tinycog")
    assert (second.model.family, second.model.cell, configured().model.family) == ("cogvideox", 4, "wan")
    assert second.transformer.pool < configured().transformer.pool
    small = configured("--model", "tinycog", "--preset", "dry")
    assert (small.model.name, small.model.layers) == ("tinycog", 2)
    with pytest.raises(SystemExit):
        configured("--model", "tinycat")


def test_options_reach_their_place() -> None:
    config = configured("--batch", "3", "--rate", "0.1", "--pool", "77", "--n", "5", "--eval-dtype", "bfloat16")
    assert (config.transformer.batch, config.transformer.rate, config.transformer.pool) == (3, 0.1, 77)
    assert (config.evaluation.n, config.evaluation.dtype) == (5, "bfloat16")
    assert (configured().evaluation.dtype, configured().evaluation.workers) == ("float32", 0)


def test_an_unknown_stage_names_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["training", "dance", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        command.main()
    assert "there are unship, adopt, restore, vae, transformer" in capsys.readouterr().err


def test_installing_replaces_the_whole_folder(finished: Session, tmp_path: Path) -> None:
    stale = tmp_path / "interp" / "models" / "tinywan" / "stale.json"
    stale.parent.mkdir(parents=True)
    stale.touch()
    ship.install(finished.config, stale.parent)
    names = {file.name for file in stale.parent.iterdir()}
    assert "stale.json" not in names
    assert {"model_index.json", "stepscope.json", "few_step", "experts", "transformer", "training.json"} <= names


def test_an_installed_model_is_trained_on(finished: Session, tmp_path: Path) -> None:
    """What was installed is all that it takes: another machine restores from it what it was trained from."""
    ship.install(finished.config, tmp_path / "there")
    here = replace(finished.config, out=tmp_path / "here")
    here.out.mkdir()
    ship.adopt(here, tmp_path / "there")
    ship.restore(here)
    assert ship.records(here).keys() == ship.records(finished.config).keys()
    for stage in ("vae", "transformer"):
        (before, after) = (checkpoint.record(one.checkpoint(stage)) for one in (finished.config, here))
        assert loop.legs(before) == loop.legs(after)
    (tmp_path / "there" / ship.INSTALLED).unlink()
    with pytest.raises(ship.ShipError, match="how it was trained"):
        ship.adopt(here, tmp_path / "there")


@pytest.mark.parametrize(
    "name", sorted(file.stem for file in Path(command.__file__).parent.glob("*.py") if file.stem != "__main__")
)
def test_examples_in_docstrings_run(name: str) -> None:
    module: ModuleType = importlib.import_module(f"training.{name}")
    assert doctest.testmod(module).failed == 0
