"""Heads by themselves: which ones, how they are labelled, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import xarray as xr

import interp
import store
from store import CaptureItem
from tests import tiny


@pytest.fixture(scope="module")
def model() -> interp.Model:
    return interp.load(tiny.pipeline())


def test_chosen_heads_keep_their_numbers(model: interp.Model, tmp_path: Path) -> None:
    acts, settings = store.open(tmp_path / "acts", mode="a"), model.settings(**tiny.SIZE, steps=2)
    every = interp.parse(["z/head_energy", "q/head_energy@heads=1@layers=2@steps=1"])
    captured = interp.capture(model, [tiny.sample()], every, into=acts, settings=settings)
    one = acts.load("q", "head_energy").isel(run=0)
    assert one["head"].values.tolist() == [1]
    assert one.dims == ("step", "branch", "layer", "head", "frame", "y", "x")
    assert one.shape == (1, 1, 1, 1, 3, 4, 6)
    full = interp.parse(["q/full@layers=2@steps=1"])
    interp.capture(model, [tiny.sample()], full, into=acts, settings=settings)
    channels = acts.load("q", "full").isel(run=0)
    assert channels.attrs["heads"] == 2  # which the channels alone do not say
    assert "heads" not in one.attrs
    expected = np.linalg.norm(channels.values[..., tiny.WIDTH // 2 :], axis=-1)
    np.testing.assert_allclose(one.isel(head=0).values, expected, rtol=1e-5)
    plain = xr.open_zarr(tmp_path / "acts" / "runs" / captured.run_ids[0] / "z" / "head_energy", consolidated=False)
    assert plain["head"].values.tolist() == [0, 1]
    rows = acts.tokens("z", "head_energy").filter(pl.col("head") == 1, pl.col("layer") == 0).collect()
    assert len(rows) == 2 * 3 * 4 * 6


def test_what_is_planned_is_what_is_written(model: interp.Model) -> None:
    settings = model.settings(**tiny.SIZE, steps=2)
    both, one = (
        interp.plan(model.adapter, interp.parse([f"v/head_energy{end}"]), settings).arrays[0]
        for end in ("", "@heads=0")
    )
    assert both.shape == (2, 1, 3, 2, 3, 4, 6)
    assert both.nbytes == 2 * one.nbytes


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("q/head_energy@heads=0,2", "asks for head 2, but there are 2: 0 to 1"),
        ("q/head_energy@heads=mean", "has no mean over heads"),
        ("resid_post/energy@heads=0", "resid_post/energy has no heads"),
        ("attn_out/head_energy", "only q, k, v and z are made of heads"),
        ("latent/head_energy", "only q, k, v and z are made of heads"),
    ],
)
def test_what_has_no_such_heads_is_refused(model: interp.Model, text: str, complaint: str) -> None:
    with pytest.raises(interp.BadSpec, match=complaint):
        interp.plan(model.adapter, interp.parse([text]), model.settings(**tiny.SIZE))


def test_a_spec_without_heads_is_written_as_before_there_were_any() -> None:
    """Or runs of older stores would get other ids."""
    assert CaptureItem(site="q", reduction="full").model_dump(mode="json") == {
        "site": "q",
        "reduction": "full",
        "layers": None,
        "steps": None,
        "branches": None,
    }
    assert CaptureItem(site="q", reduction="head_energy", heads=(3, 1)).model_dump()["heads"] == (1, 3)
