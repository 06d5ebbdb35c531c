"""The table of `stepscope models ls` is what the contract tests prove; no video pipeline of diffusers is left out."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import diffusers.pipelines
import pytest
from diffusers import DiffusionPipeline, EasyAnimateControlPipeline

import interp
from interp import catalogue
from interp.adapters import REFUSED, adapters
from tests.contracts import adapters as folder
from tests.contracts.adapters.contract import AdapterContract

TABLE = {row.pipeline for row in catalogue.traceable()}


def video_pipelines() -> set[str]:
    """Pipelines of every package of diffusers in which an output has `frames`."""
    found: set[str] = set()
    for package in Path(diffusers.pipelines.__path__[0]).iterdir():
        source = "\n".join(path.read_text() for path in package.glob("*.py"))
        if re.search(r"^    frames: ", source, re.MULTILINE):
            found.update(re.findall(r"^class (\w+Pipeline)\(", source, re.MULTILINE))
    return found


def proven() -> set[str]:
    """Pipelines that a class of contract tests builds."""
    classes: set[type[AdapterContract]] = set()
    for module in pkgutil.iter_modules(folder.__path__):
        if module.name.startswith("test_") and module.name != Path(__file__).stem:
            members = vars(importlib.import_module(f"{folder.__name__}.{module.name}")).values()
            classes |= {member for member in members if inspect.isclass(member) and issubclass(member, AdapterContract)}
    return {type(kind.build()).__name__ for kind in classes if hasattr(kind, "build") and kind.__name__[:4] == "Test"}


def test_every_pipeline_of_the_table_is_proven() -> None:
    assert proven() == TABLE


def test_every_video_pipeline_is_traced_or_refused() -> None:
    found = video_pipelines()
    assert "WanVACEPipeline" in found
    assert not TABLE & set(REFUSED)
    assert TABLE | set(REFUSED) == found


def test_what_is_broken_in_diffusers_still_is() -> None:
    """Once it is not, it wants an adapter."""
    assert "self.decode_latents(" in inspect.getsource(EasyAnimateControlPipeline.__call__)
    assert not hasattr(EasyAnimateControlPipeline, "decode_latents")


def test_a_refusal_is_one_line_with_its_reason() -> None:
    for name, reason in REFUSED.items():
        pipeline = type(name, (DiffusionPipeline,), {})()
        with pytest.raises(interp.UnsupportedModel) as error:
            interp.load(pipeline)
        assert name in str(error.value)
        assert reason in str(error.value)
        assert "\n" not in str(error.value)


def test_the_docs_list_what_is_traced() -> None:
    text = (Path(interp.__file__).parents[1] / "docs" / "models.md").read_text()
    _, _, table = text.partition("\n| family | pipelines | guidance |")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (\w+) \|", table, re.MULTILINE)
    listed = {(name, family, how) for family, names, how in rows for name in re.findall(r"`(\w+)`", names)}
    assert listed == {(row.pipeline, row.family, row.guidance) for row in catalogue.traceable()}


def test_the_docs_list_what_makes_one_video_a_call() -> None:
    text = (Path(interp.__file__).parents[1] / "docs" / "batches.md").read_text()
    rows = re.findall(r"^\| (`.+?`) \| (.+?) \|$", text, re.MULTILINE)
    listed = {name: why for names, why in rows for name in re.findall(r"`(\w+)`", names)}
    assert listed == {name: why for kind in adapters for name, why in kind.singles.items() if name in kind.pipelines}
