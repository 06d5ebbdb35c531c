"""Lossy encodings on the device: the store's own, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import interp
import store
from interp import quantising, recorder
from store import encodings
from tests import tiny

ENCODINGS = ("int8", "float8")


def _values(seed: int, dtype: torch.dtype) -> torch.Tensor:
    """Channels a thousandfold apart, one of zeros, one of the smallest numbers, and some that are not finite."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(3, 5, 4, 6, generator=generator) * torch.tensor([1.0, 1e-3, 1e3, 0.0, 1e-40, 7.0])
    values[0, 1, 2, 0], values[1, 0, 0, 2], values[2, 4, 3, 5] = torch.nan, torch.inf, -torch.inf
    return values.to(dtype)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_numbers_and_scales_are_the_stores(encoding: Any, seed: int, dtype: torch.dtype) -> None:
    values = _values(seed, dtype)
    wanted = encodings.quantise(encoding, values.float().numpy(), (1, 2))
    found = quantising.quantise(encoding, values, (1, 2))
    np.testing.assert_array_equal(found.scale.numpy(), wanted.scale)
    np.testing.assert_array_equal(found.numbers.numpy(), wanted.numbers)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_capture_that_quantises_itself_stores_the_same_bytes(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: what the store would have rounded reaches it as numbers and scales."""
    model = interp.load(tiny.pipeline())
    sampler = model.settings(**tiny.SIZE, steps=2)
    sample = tiny.sample()
    spec = interp.parse([f"resid_post/full@{encoding}"])

    def capture(name: str) -> dict[str, tuple[int, str]]:
        acts = store.open(tmp_path / name, mode="a")
        done = interp.capture(model, [sample], spec, into=acts, settings=sampler, seeds=[0, 1], batch=2)
        return {
            f"{id}/{array.reduction}/{file}": one
            for id in done.run_ids
            for array in acts.run(id).arrays
            for file, one in array.shards.items()
        }

    by_store = capture("host")
    assert len(by_store) > 2
    seen: list[str] = []

    def encoded(plan: interp.ArrayPlan, cell: torch.Tensor) -> quantising.Quantised:
        assert plan.encoding != "exact"
        seen.append(plan.name)
        return quantising.quantise(plan.encoding, cell, quantising.within(plan))

    monkeypatch.setattr(recorder, "encoded", encoded)
    assert capture("device") == by_store
    assert seen


def test_only_large_cells_of_a_lossy_array_on_a_gpu_are_quantised_there() -> None:
    model = interp.load(tiny.pipeline())
    plan = interp.plan(
        model.adapter,
        interp.parse(["resid_post/full@int8", "resid_pre/full", "resid_post/energy@int8"]),
        model.settings(**tiny.SIZE, steps=2),
    )
    for array in plan.arrays:
        cell = torch.empty((2, *array.cell), dtype=array.dtype)
        assert quantising.encoded(array, cell) is cell
        on_gpu = quantising.encoded(array, cell.to("meta"))
        assert isinstance(on_gpu, quantising.Quantised) == (
            array.name == "resid_post/full" and array.encoding == "int8"
        )
