"""Numbers of a scheduler on the host."""

from __future__ import annotations

import pytest
import torch

from interp import noise


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_an_element_of_the_schedule_is_told_from_the_copy(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    timesteps = torch.tensor([999.0, 700.5, 300.25]).to(dtype)
    wanted = [float(step) for step in timesteps]
    assert noise.number(timesteps[1], timesteps) == wanted[1]  # the copy is made
    monkeypatch.setattr(torch.Tensor, "__float__", lambda self: pytest.fail("waits for the device"))
    assert [noise.number(step, timesteps) for step in timesteps] == wanted


def test_a_changed_schedule_is_copied_again() -> None:
    sigmas = torch.tensor([1.0, 0.5, 0.0])
    assert noise.on_host(sigmas) == [1.0, 0.5, 0.0]
    sigmas[1] = 0.25
    assert noise.on_host(sigmas) == [1.0, 0.25, 0.0]
    with torch.inference_mode():
        other = torch.tensor([1.0, 0.75])
        assert noise.on_host(other) == [1.0, 0.75]
        other[1] = 0.5
        assert noise.on_host(other) == [1.0, 0.5]


def test_other_numbers_are_told_as_they_are() -> None:
    timesteps = torch.tensor([999.0, 700.5])
    assert noise.number(torch.tensor(3.5), timesteps) == 3.5
    assert noise.number(7, timesteps) == 7.0
    assert noise.number(torch.tensor([999.0]), [999]) == 999.0
    assert noise.number(timesteps[:1].double(), timesteps) == 999.0
