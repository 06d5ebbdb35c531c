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
from interp.batching import TOLERANCE
from interp.recorder import Label
from interp.sites import StepValues
from store import Sample, StepInfo

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
    """The video, or the latent that the pipeline would have decoded."""
    layers: dict[tuple[str, Label], Any]
    """(site, label) → value, in the order in which it was seen."""
    values: list[StepValues]
    steps: tuple[StepInfo, ...]


class Keep:
    """A listener that keeps everything of one run of the batch."""

    def __init__(self, run: int = 0) -> None:
        self._run = run
        self.layers: dict[tuple[str, Label], Any] = {}
        self.values: list[StepValues] = []

    def wants(self, site: str, label: Label) -> bool:
        return True

    def layer(self, site: str, label: Label, value_bfyxc: Any) -> None:
        assert (site, label) not in self.layers, f"{site} of {label} was seen twice"
        own = value_bfyxc[self._run]
        self.layers[site, label] = own.maps(QUERIES, HEADS) if isinstance(own, Attended) else own.clone()

    def step(self, values: StepValues) -> None:
        self.values.append(values.of(self._run))


class Keeps:
    """A listener that keeps everything of each run of a batch."""

    def __init__(self, runs: int) -> None:
        self.each = [Keep(run) for run in range(runs)]

    def wants(self, site: str, label: Label) -> bool:
        return True

    def layer(self, site: str, label: Label, value_bfyxc: Any) -> None:
        assert len(value_bfyxc) == len(self.each)
        for keep in self.each:
            keep.layer(site, label, value_bfyxc)

    def step(self, values: StepValues) -> None:
        for keep in self.each:
            keep.step(values)


class Asked(NamedTuple):
    """One run of a batch."""

    sample: Sample
    seed: int


def differences(ours: Traced, theirs: Traced, tolerance: float = TOLERANCE) -> list[str]:
    """What of two runs differs by more than rounding."""
    found: list[str] = []

    def compare(name: str, one: Tensor, other: Tensor) -> None:
        scale = float(other.double().square().mean().sqrt())
        if not torch.allclose(one.double(), other.double(), rtol=tolerance, atol=tolerance * scale):
            found.append(f"{name}: {float((one - other).abs().max()):.2g} of {scale:.2g}")

    for (site, label), value in theirs.layers.items():
        pairs = [(ours.layers[site, label], value)]
        if isinstance(value, tuple):  # maps and the share of the text
            pairs = list(zip(ours.layers[site, label], value, strict=True))
        for one, other in pairs:
            compare(f"{site} of {label}", one, other)
    for one, other in zip(ours.values, theirs.values, strict=True):
        compare(f"latent of step {one.info.step}", one.latent, other.latent)
        for branch, velocity in other.velocity.items():
            compare(f"{branch} velocity of step {one.info.step}", one.velocity[branch], velocity)
    compare("video", ours.frames, theirs.frames)
    return found


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
