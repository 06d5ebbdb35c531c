"""Attention maps: how queries are written, what is stored, what memory it takes, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch.utils._python_dispatch import TorchDispatchMode

import interp
import store
from interp import attention
from interp.attention import Attended
from store import CaptureItem, TokenBox
from tests import tiny
from tests.tiny_models import cogvideox

Tensor = torch.Tensor


@pytest.fixture(scope="module")
def model() -> interp.Model:
    return interp.load(tiny.pipeline())


def plan(model: interp.Model, text: str) -> tuple[interp.ArrayPlan, ...]:
    return interp.plan(model.adapter, interp.parse([text]), model.settings(**tiny.SIZE, steps=2)).arrays


def test_queries_are_read_back_by_name(model: interp.Model, tmp_path: Path) -> None:
    acts, settings = store.open(tmp_path / "acts", mode="a"), model.settings(**tiny.SIZE, steps=2, guidance=3.0)
    spec = interp.parse(["pattern/map@queries=0:1:2,2:3:5,mean(0-1:1:2-3)@branches=cond,uncond"])
    captured = interp.capture(model, [tiny.sample()], spec, into=acts, settings=settings)
    found = acts.load("pattern", "map").isel(run=0)
    assert found.dims == ("step", "branch", "layer", "head", "query", "frame", "y", "x")
    assert found.shape == (2, 2, 3, 2, 3, 3, 4, 6)
    assert found["query"].values.tolist() == ["0:1:2", "2:3:5", "mean(0-1:1:2-3)"]
    assert found.query_frame.values.tolist() == [0, 2, 0.5]
    assert found.query_x.sel(query="mean(0-1:1:2-3)") == 2.5
    np.testing.assert_allclose(found.sum(("frame", "y", "x")).values, 1, rtol=1e-5)
    folder = tmp_path / "acts" / "runs" / captured.run_ids[0] / "pattern" / "map"
    assert xr.open_zarr(folder, consolidated=False)["map"].dims == found.dims
    rows = acts.tokens("pattern", "map").limit(1).collect()
    assert rows["query"][0] == "0:1:2"
    (planned,) = interp.plan(model.adapter, spec, settings).arrays
    stored = acts.sql("SELECT nbytes FROM arrays WHERE site = 'pattern'").fetchall()
    assert stored == [(planned.nbytes,)]
    assert planned.nbytes == 2 * 2 * 3 * 2 * 3 * 72 * 4


def test_the_mean_over_heads_and_over_a_box_are_means(model: interp.Model, tmp_path: Path) -> None:
    settings, kept = model.settings(**tiny.SIZE, steps=1), {}
    for name, text in {"each": "0:1:2-3", "mean": "mean(0:1:2-3)", "heads": "0:1:2-3@heads=mean"}.items():
        acts = store.open(tmp_path / name, mode="a")
        interp.capture(
            model, [tiny.sample()], interp.parse([f"pattern/map@queries={text}"]), into=acts, settings=settings
        )
        kept[name] = acts.load("pattern", "map").compute()
    assert kept["each"]["query"].values.tolist() == ["0:1:2", "0:1:3"]
    np.testing.assert_allclose(kept["mean"].isel(query=0), kept["each"].mean("query"), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(kept["heads"], kept["each"].mean("head"), rtol=1e-5, atol=1e-8)


def test_what_goes_to_text_is_kept_beside(tmp_path: Path) -> None:
    joint = interp.load(cogvideox.pipeline())
    settings = joint.settings(height=64, width=96, frames=9, max_sequence_length=8, steps=2)
    spec = interp.parse(["pattern/map@queries=0:1:2,2:3:5@heads=mean@layers=1"])
    acts = store.open(tmp_path / "acts", mode="a")
    interp.capture(joint, [tiny.sample()], spec, into=acts, settings=settings)
    maps, text = (acts.load("pattern", name).isel(run=0) for name in ("map", "text"))
    assert text.dims == ("step", "branch", "layer", "query")
    assert (text > 0.01).all()
    xr.testing.assert_allclose(maps.sum(("frame", "y", "x")) + text, xr.ones_like(text))
    planned = {array.reduction.name: array.nbytes for array in interp.plan(joint.adapter, spec, settings).arrays}
    assert planned == dict(acts.sql("SELECT reduction, nbytes FROM arrays WHERE site = 'pattern'").fetchall())


class Largest(TorchDispatchMode):
    """The most numbers that any tensor had that was made."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for value in made if isinstance(made, (tuple, list)) else (made,):
            own = isinstance(value, Tensor) and value.untyped_storage().nbytes() == value.numel() * value.element_size()
            self.numbers = max(self.numbers, value.numel() if own else 0)
        return made


@pytest.mark.parametrize("heads", [None, (0, 3)])
def test_no_tensor_is_larger_than_a_block_or_the_result(
    monkeypatch: pytest.MonkeyPatch, heads: tuple[int, ...] | None
) -> None:
    """4,000 tokens, 300 queries: the whole matrix of one head has 16 million numbers."""
    monkeypatch.setattr(attention, "BLOCK", 100_000)
    tokens, generator = 4000, torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 4, tokens, 8, generator=generator) for _ in range(2))
    attended = Attended(query, key, None, 8**-0.5, torch.arange(tokens).view(10, 20, 20))
    with Largest() as largest:
        maps = attended.maps([(number,) for number in range(300)], heads)
    result = maps.video.numel()
    assert maps.video.shape == ((() if heads is None else (2,)) + (300, 10, 20, 20))
    assert largest.numbers <= max(result, 100_000)
    dense = (query[0, :, :300] @ key[0].mT / 8**0.5).softmax(-1)
    expected = dense.mean(0) if heads is None else dense[list(heads)]
    torch.testing.assert_close(maps.video.flatten(-3), expected, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_masks_and_shared_keys_are_those_of_the_softmax(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Against PyTorch's own: weights are read off by values that are unit vectors."""
    monkeypatch.setattr(attention, "BLOCK", 64)
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, 30, 8, generator=generator)
    key = torch.randn(2, 2, 30, 8, generator=generator)
    mask: Tensor = torch.rand(2, 1, 1, 30, generator=generator) < 0.7
    mask[:, :, :, 0:12] = False  # the first blocks hold nothing at all
    if kind == "float":
        mask = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
    values = torch.eye(30).expand(2, 2, 30, 30)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, values, attn_mask=mask, scale=0.3, enable_gqa=True
    )
    for row in range(2):
        at = (torch.arange(24) + 30 * row).view(2, 3, 4)
        maps = Attended(query, key, mask, 0.3, at).maps([(5,), (23,)], (0, 1, 2, 3))
        torch.testing.assert_close(maps.video.flatten(2), expected[row][:, [5, 23], :24], atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(maps.text, expected[row][:, [5, 23], 24:].sum(-1), atol=1e-6, rtol=1e-4)


def test_large_scores_do_not_overflow() -> None:
    query = torch.full((1, 1, 6, 4), 1e4)
    key = torch.full((1, 1, 6, 4), 1e4)
    key[0, 0, 4] *= 2
    maps = Attended(query, key, None, 1.0, torch.arange(6).view(1, 2, 3)).maps([(0,)], None)
    assert maps.video.flatten().tolist() == [0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("pattern/map", "needs queries, such as @queries=0:3:4"),
        ("pattern/map@queries=3:0:0", "asks for frame 3 of the tokens, but there are 3: 0 to 2"),
        ("pattern/map@queries=0:0:4-6", "asks for x 6 of the tokens, but there are 6"),
        ("pattern/map@queries=0:0:0,0:0:*", "named twice: 0:0:0"),
        ("pattern/map@queries=0:0:0@heads=2", "asks for head 2, but there are 2"),
        ("pattern/full", "its values are no tensors, but attention; keep map"),
        ("pattern/energy", "keep map"),
        ("pattern/project", "keep map"),
        ("pattern/head_energy", "only q, k, v and z"),
        ("resid_post/map@queries=0:0:0", "it is for pattern alone"),
        ("resid_post/energy@queries=0:0:0", "resid_post/energy has no queries"),
        ("q/head_energy@queries=0:0:0", "q/head_energy has no queries"),
    ],
)
def test_what_cannot_be_asked_is_refused(model: interp.Model, text: str, complaint: str) -> None:
    with pytest.raises(interp.BadSpec, match=complaint):
        plan(model, text)


@pytest.mark.parametrize("text", ["1:2", "a:0:0", "0:0:-1", "mean(0:0:0", "0:3-1:0", ""])
def test_queries_that_cannot_be_read_are_quoted(text: str) -> None:
    with pytest.raises(interp.BadSpec, match=r"cannot read the query|from 3 to 1"):
        interp.parse([f"pattern/map@queries={text}"])


def test_a_toml_file_names_queries_either_way(tmp_path: Path) -> None:
    file = tmp_path / "spec.toml"
    file.write_text(
        '[[capture]]\nsite = "pattern"\nreduction = "map"\nheads = "mean"\n'
        'queries = ["0:3:4", {frame = [0, 0], y = [1, 3], mean = true}]\n'
    )
    (item,) = interp.read(file).items
    boxes = (TokenBox(frame=(0, 0), y=(3, 3), x=(4, 4)), TokenBox(frame=(0, 0), y=(1, 3), mean=True))
    assert item == CaptureItem(site="pattern", reduction="map", heads="mean", queries=boxes)
    assert interp.parse(["pattern/map@queries=0:3:4,mean(0:1-3:*)@heads=mean"]).items == (item,)


def test_attention_by_other_means_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """A processor that makes its softmax itself cannot be watched."""
    pipeline = tiny.pipeline()
    model = interp.load(pipeline)
    processor = pipeline.transformer.blocks[1].attn1.processor

    def own(attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return attn.to_out[0](attn.to_v(hidden_states))

    pipeline.transformer.blocks[1].attn1.processor = own
    settings = model.settings(**tiny.SIZE, steps=1)
    spec = interp.parse(["pattern/map@queries=0:0:0"])
    with pytest.raises(interp.UnsupportedModel, match=r"layer 1 showed 0 of 1 rows.*native"):
        interp.capture(model, [tiny.sample()], spec, into=tmp_path / "acts", settings=settings)
    pipeline.transformer.blocks[1].attn1.processor = processor
    assert torch.overrides._get_current_function_mode_stack() == []
    assert interp.capture(model, [tiny.sample()], spec, into=tmp_path / "acts", settings=settings).made == 1


def test_a_model_that_fails_inside_its_attention_is_no_longer_watched(tmp_path: Path) -> None:
    pipeline = tiny.pipeline()
    model = interp.load(pipeline)

    def fail(*args: Any, **kwargs: Any) -> Tensor:
        raise ZeroDivisionError

    pipeline.transformer.blocks[1].attn1.processor = fail
    with pytest.raises(ZeroDivisionError):
        interp.capture(
            model,
            [tiny.sample()],
            interp.parse(["pattern/map@queries=0:0:0"]),
            into=tmp_path / "acts",
            settings=model.settings(**tiny.SIZE, steps=1),
        )
    assert torch.overrides._get_current_function_mode_stack() == []
