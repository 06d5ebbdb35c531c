"""Running out of memory within a run: one line that says what to reduce, and nothing half-written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import interp
from interp.worlds import worlds
from store import open as open_store


@pytest.mark.parametrize("at_step", [0, 1])
def test_a_failed_allocation_ends_the_run_in_one_line_and_keeps_earlier_ones(tmp_path: Path, at_step: int) -> None:
    """A forward that asks for a petabyte: the allocation and its error are torch's own."""
    model = interp.load("tinywan", device="cpu")
    samples = worlds["grounding"].generate(1, seed=2)
    acts = open_store(tmp_path / "acts", mode="a")
    settings = model.settings(steps=2, guidance=1.0)
    spec = interp.parse(["resid_post/energy@layers=0"])
    interp.capture(model, samples, spec, into=acts, seeds=(0,), settings=settings)
    calls = 0

    def ask(module: torch.nn.Module, args: object) -> None:
        nonlocal calls
        calls += 1
        if calls > at_step:
            torch.empty(1 << 50, dtype=torch.uint8)

    hook = model.pipeline.transformer.blocks[3].register_forward_pre_hook(ask)
    with pytest.raises(interp.OutOfMemory, match="17 frames of 96×96 in float32") as caught:
        interp.capture(model, samples, spec, into=acts, seeds=(0, 1), settings=settings)
    assert "\n" not in str(caught.value)
    assert acts.sql("SELECT count(*) FROM runs").fetchall() == [(1,)]
    hook.remove()
    assert interp.capture(model, samples, spec, into=acts, seeds=(0, 1), settings=settings).made == 1


def test_other_errors_of_the_model_are_left_as_they_are(tmp_path: Path) -> None:
    model = interp.load("tinywan", device="cpu")

    def fail(module: torch.nn.Module, args: object) -> None:
        raise RuntimeError("a bug of the model")

    model.pipeline.transformer.blocks[3].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="a bug of the model") as caught:
        interp.capture(
            model,
            worlds["grounding"].generate(1, seed=2),
            interp.parse(["resid_post/energy@layers=0"]),
            into=tmp_path / "acts",
            settings=model.settings(steps=1, guidance=1.0),
        )
    assert not isinstance(caught.value, interp.OutOfMemory)
