"""What a sweep would take, before any weights are loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import interp
import store
from interp import catalogue, forecast
from tests import tiny

SPEC = interp.parse(["resid_post/energy", "resid_post/full"])


@pytest.fixture(scope="module")
def sketch() -> interp.Model:
    return catalogue.skeleton("tinywan", dtype=torch.float32)


def foresee(model: interp.Model, into: Path, *, seeds: tuple[int, ...] = (0, 1)) -> interp.Forecast:
    samples = interp.worlds["maze"].generate(2, seed=1)
    return interp.foresee(model, samples, SPEC, into=into, seeds=seeds, settings=model.settings(steps=3))


def test_nothing_is_loaded_or_made(sketch: interp.Model, tmp_path: Path) -> None:
    found = foresee(sketch, tmp_path / "deep" / "acts")
    assert (found.runs, found.stored, found.missing) == (4, 0, 4)
    assert found.nbytes == 4 * interp.plan(sketch.adapter, SPEC, sketch.settings(steps=3)).nbytes
    assert found.costs == catalogue.cost(sketch, sketch.settings(steps=3))
    assert not (tmp_path / "deep").exists()
    assert found.free is not None
    columns, rows = found.table()
    assert [row[0] for row in rows] == ["resid_post/energy", "resid_post/full", "output/pixels"]
    assert all(len(row) == len(columns) for row in rows)


def test_runs_of_the_store_are_counted(tmp_path: Path) -> None:
    model = interp.load(tiny.pipeline())
    settings = model.settings(**tiny.SIZE, steps=1)
    spec, asked = interp.parse(["resid_post/energy"]), [tiny.sample()]
    acts = store.open(tmp_path / "acts", mode="a")
    interp.capture(model, asked, spec, into=acts, seeds=[0, 1], settings=settings)
    for wanted, kept in ((spec, 2), (SPEC, 0)):
        told = interp.foresee(model, asked, wanted, into=tmp_path / "acts", seeds=[0, 1, 2], settings=settings)
        assert (told.runs, told.stored) == (3, kept)
    other = settings.model_copy(update={"steps": 2})
    told = interp.foresee(model, asked, spec, into=tmp_path / "acts", seeds=[0], settings=other)
    assert told.stored == 0


def test_what_the_disk_cannot_hold_is_refused_in_a_line(
    sketch: interp.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbytes = interp.plan(sketch.adapter, SPEC, sketch.settings(steps=3)).nbytes
    usage = type("Usage", (), {"free": 4 * nbytes})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert foresee(sketch, tmp_path / "acts").nbytes == usage.free
    usage.free -= 1
    with pytest.raises(interp.BadSpec) as caught:
        foresee(sketch, tmp_path / "acts")
    line = str(caught.value)
    assert "\n" not in line
    for part in ("4 runs would write 0.1", "of it resid_post/full", "are free at", "keep fewer layers", "@int8"):
        assert part in line, part
    assert not (tmp_path / "acts").exists()


def test_speed_is_that_of_a_matrix_product() -> None:
    speed = forecast.measure(torch.device("cpu"), torch.float32)
    assert 1e8 < speed.flops < 1e15
    assert speed.dtype == "float32"
    assert speed.seconds(2 * speed.flops) == 2
    assert "estimate" in str(speed)
    assert "CPU" in str(speed)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.1234, "0.12 s"), (12, "12 s"), (89, "89 s"), (600, "10 min"), (86400, "24 h"), (4e5, "4.6 days")],
)
def test_times_are_readable(seconds: float, text: str) -> None:
    assert forecast.duration(seconds) == text
