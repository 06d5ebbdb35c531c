"""Convolutions and matrices on a CPU: the same values and gradients as torch's own, by another library."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.profiler import profile

import interp
from interp import onednn
from interp.onednn import Linear, by_onednn
from tests import tiny


@pytest.fixture(autouse=True)
def a_processor_that_mkl_is_slow_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever these tests run on."""
    monkeypatch.setattr(onednn, "mkl_is_slow", lambda: True)


SLOW = "aten::slow_conv3d_forward"
"""What torch takes for a single small video."""


def used(vae: torch.nn.Module, latent: torch.Tensor) -> tuple[torch.Tensor, set[str]]:
    """A decoded video, and the names of the operators that made it."""
    with torch.no_grad(), profile() as profiled:
        video = vae.decode(latent).sample  # pyright: ignore[reportCallIssue]
    return video, {event.key for event in profiled.key_averages()}


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
def test_videos_are_the_same_and_no_layer_is_slow():
    pipe = tiny.pipeline()
    latent = torch.randn(1, tiny.LATENT, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    before, slowly = used(pipe.vae, latent)
    names = list(pipe.vae.state_dict())
    by_onednn(pipe)
    after, operators = used(pipe.vae, latent)
    assert SLOW in slowly
    assert SLOW not in operators
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    assert list(pipe.vae.state_dict()) == names
    assert torch.equal(copy.deepcopy(pipe.vae).decode(latent).sample, after)


@pytest.mark.parametrize(("stride", "padding", "groups"), [(1, 0, 1), (2, 1, 1), ((1, 2, 1), (0, 1, 1), 2)])
def test_gradients_are_those_of_torch(stride: Any, padding: Any, groups: int):
    plain = torch.nn.Conv3d(4, 6, 3, stride=stride, padding=padding, groups=groups)
    pipe = tiny.pipeline()
    pipe.vae = torch.nn.Sequential(copy.deepcopy(plain))
    by_onednn(pipe)
    videos = [torch.randn(1, 4, 5, 7, 9, generator=torch.Generator().manual_seed(1), requires_grad=True) for _ in "ab"]
    ours, theirs = pipe.vae(videos[0]), plain(videos[1])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    torch.testing.assert_close(videos[0].grad, videos[1].grad, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(pipe.vae[0].weight.grad, plain.weight.grad, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 50, 6), (100, 6), (3, 6), (1, 2, 3, 40, 6)])
def test_matrices_and_their_gradients_are_those_of_torch(shape: tuple[int, ...], bias: bool):
    plain = torch.nn.Linear(6, 10, bias=bias)
    pipe = tiny.pipeline()
    pipe.transformer = torch.nn.Sequential(copy.deepcopy(plain))
    by_onednn(pipe)
    assert type(pipe.transformer[0]) is Linear
    values = [torch.randn(shape, generator=torch.Generator().manual_seed(2), requires_grad=True) for _ in "ab"]
    ours, theirs = pipe.transformer(values[0]), plain(values[1])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        assert torch.equal(pipe.transformer(values[0]), ours)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    torch.testing.assert_close(values[0].grad, values[1].grad, atol=1e-4, rtol=1e-3)
    for one, other in zip(pipe.transformer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-3, rtol=1e-3)


def test_other_types_and_a_pipeline_in_memory_are_left_alone():
    pipe = tiny.pipeline()
    by_onednn(pipe)
    half = pipe.vae.to(torch.bfloat16)
    latent = torch.zeros(1, tiny.LATENT, 2, 4, 4, dtype=torch.bfloat16)
    assert half.decode(latent).sample.dtype == torch.bfloat16
    assert pipe.transformer.to(torch.bfloat16).proj_out(torch.zeros(99, tiny.WIDTH).bfloat16()).dtype == torch.bfloat16
    given = tiny.pipeline()
    interp.load(given)
    assert not any("_conv_forward" in vars(module) for module in given.vae.modules())
    assert not any(isinstance(module, Linear) for module in given.transformer.modules())


def test_what_is_loaded_by_name_has_them():
    pipe = interp.load("tinywan").pipeline
    convolutions = [module for module in pipe.vae.modules() if isinstance(module, torch.nn.Conv3d)]
    matrices = [module for module in pipe.transformer.modules() if isinstance(module, torch.nn.Linear)]
    assert matrices
    assert all(isinstance(module, Linear) for module in matrices)
    assert convolutions
    assert all("_conv_forward" in vars(module) for module in convolutions)


def test_where_mkl_is_quick_matrices_are_left_to_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onednn, "mkl_is_slow", lambda: False)
    pipe = tiny.pipeline()
    by_onednn(pipe)
    assert not any(isinstance(module, Linear) for module in pipe.transformer.modules())
    assert any("_conv_forward" in vars(module) for module in pipe.vae.modules())
