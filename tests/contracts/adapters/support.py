"""What contract tests of adapters share: sites of common blocks, listeners, and ways to see what a pipeline hides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch

import interp
from interp.attention import Attended
from interp.recorder import Label
from interp.sites import StepValues
from store import StepInfo

Tensor = torch.Tensor
BEFORE_ATTENTION = ("resid_pre", "q", "k", "v")
"""Sites whose value in layer 0 belongs to one token alone: nothing has been mixed yet."""

JOINT_SITES = {
    "resid_pre": "",
    "resid_post": "",
    "attn_out": "attn1",
    "mlp_out": "ff",
    "q": "attn1.norm_q",
    "k": "attn1.norm_k",
    "v": "attn1.to_v",
    "z": "attn1.to_out.0",
    "pattern": "attn1",
}
"""Modules of blocks in which text and video attend to each other, spelt out a second time."""
CROSS_SITES = {**JOINT_SITES, "cross_attn_out": "attn2"}
"""Of blocks in which the video attends to the text."""
RAW_SITES = {**CROSS_SITES, "q": "attn1.to_q", "k": "attn1.to_k"}
"""The same, without norms of q and k."""
STREAM_SITES = {
    **JOINT_SITES,
    "attn_out": "attn",
    "q": "attn.norm_q",
    "k": "attn.norm_k",
    "v": "attn.to_v",
    "z": "attn.to_out.0",
    "pattern": "attn",
}
"""Of blocks of two streams in the manner of HunyuanVideo."""
QUERIES = ((0,), (34,), (3, 9, 27))
"""Tokens of the queries whose maps are kept: two by themselves, and the mean of three."""
HEADS = (1, 0)
NUMPY = pytest.mark.filterwarnings(r"ignore:__array(_wrap)?__ :DeprecationWarning")
"""For what gives NumPy a tensor inside diffusers."""


class Traced(NamedTuple):
    """What a traced run gave."""

    frames: Tensor
    layers: dict[tuple[str, Label], Any]
    """(site, label) → value, in the order in which it was seen."""
    values: list[StepValues]
    steps: tuple[StepInfo, ...]


class Keep:
    """A listener that keeps everything."""

    def __init__(self) -> None:
        self.layers: dict[tuple[str, Label], Any] = {}
        self.values: list[StepValues] = []

    def wants(self, site: str, label: Label) -> bool:
        return True

    def layer(self, site: str, label: Label, value_fyxc: Any) -> None:
        assert (site, label) not in self.layers, f"{site} of {label} was seen twice"
        attended = isinstance(value_fyxc, Attended)
        self.layers[site, label] = value_fyxc.maps(QUERIES, HEADS) if attended else value_fyxc.clone()

    def step(self, values: StepValues) -> None:
        self.values.append(values)


def last_result(model: interp.Model, inputs: dict[str, Any]) -> Tensor:
    """What the scheduler returned last, for pipelines whose latents are no longer those of the sampler."""
    results = []
    scheduler = model.pipeline.scheduler

    def step(*args: Any, **kwargs: Any) -> Any:
        results.append(type(scheduler).step(scheduler, *args, **kwargs))
        return results[-1]

    scheduler.step = step
    try:
        model.pipeline(**inputs)
    finally:
        del scheduler.step
    return results[-1][0]


def dense_softmax(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over all keys in float64, `[r, h, n, m]`."""
    scores = query.double() @ key.double().mT / query.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype is torch.bool else scores + mask.double()
    return scores.softmax(dim=-1)


@contextmanager
def replaced_draw(module: Any, noise: list[Tensor]) -> Iterator[None]:
    """`noise` is what `randn_tensor` of a pipeline's module first returns of that shape."""
    drawn = module.randn_tensor

    def draw(shape: Sequence[int], **options: Any) -> Tensor:
        return noise.pop() if noise and noise[0].shape == torch.Size(shape) else drawn(shape, **options)

    with mock.patch.object(module, "randn_tensor", draw):
        yield
    assert not noise, "the pipeline drew no noise of this shape"
