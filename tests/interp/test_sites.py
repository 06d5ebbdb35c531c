"""Every layer site against a plain hook on the module that it names, and every reduction against NumPy."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.recorder import Label
from interp.reductions.project import COMPONENTS, directions
from interp.sites import LayerSite, StepValues, sites
from tests import tiny

LAYER_SITES = [site for site in sites if isinstance(site, LayerSite) and not site.attention]


class Heard:
    """Keeps every layer value by site."""

    def __init__(self) -> None:
        self.values: dict[str, list[tuple[Label, torch.Tensor]]] = {}

    def wants(self, site: str, label: Label) -> bool:
        return True

    def layer(self, site: str, label: Label, value_bfyxc: torch.Tensor) -> None:
        self.values.setdefault(site, []).append((label, value_bfyxc[0].clone()))

    def step(self, values: StepValues) -> None:
        return None


def _modules(block: Any) -> dict[str, tuple[Any, str]]:
    """What the sites of a Wan block mean, spelt out a second time."""
    return {
        "resid_pre": (block, "input"),
        "resid_post": (block, "output"),
        "attn_out": (block.attn1, "output"),
        "cross_attn_out": (block.attn2, "output"),
        "mlp_out": (block.ffn, "output"),
        "q": (block.attn1.norm_q, "output"),
        "k": (block.attn1.norm_k, "output"),
        "v": (block.attn1.to_v, "output"),
        "z": (block.attn1.to_out[0], "input"),
    }


def test_every_layer_site_is_the_value_of_its_module_bit_for_bit() -> None:
    model = interp.load(tiny.pipeline())
    settings = model.settings(**tiny.SIZE, steps=2, guidance=2.0)
    geometry, heard = model.geometry(settings), Heard()
    output, _ = model.traced.run(
        sites=[(site, [0, 1, 2]) for site in LAYER_SITES],
        settings=settings,
        geometry=geometry,
        listener=heard,
        **model.inputs(tiny.sample(), seed=3, settings=settings),
    )
    plain = tiny.pipeline()
    seen: dict[str, list[torch.Tensor]] = {}
    with ExitStack() as stack:
        for block in plain.transformer.blocks:
            for name, (module, slot) in _modules(block).items():

                def keep(module: Any, args: Any, kwargs: Any, out: Any, n: str = name, s: str = slot) -> None:
                    value = out if s == "output" else (args[0] if args else kwargs["hidden_states"])
                    seen.setdefault(n, []).append(value.clone())

                stack.callback(module.register_forward_hook(keep, with_kwargs=True).remove)
        frames = plain(**model.inputs(tiny.sample(), seed=3, settings=settings)).frames
    assert torch.equal(output.frames, frames)
    assert set(seen) == set(heard.values) == {site.name for site in LAYER_SITES}
    for name, values in seen.items():
        assert len(values) == len(heard.values[name]) == 2 * 2 * 3
        for (_, value), expected in zip(heard.values[name], values, strict=True):
            assert torch.equal(value, expected[0].reshape(value.shape)), name


def test_the_residual_stream_is_one_stream() -> None:
    """What goes into a block is what came out of the one before."""
    model = interp.load(tiny.pipeline())
    settings = model.settings(**tiny.SIZE, steps=1)
    heard = Heard()
    wanted = [site for site in LAYER_SITES if site.name in ("resid_pre", "resid_post")]
    model.traced.run(
        sites=[(site, [0, 1, 2]) for site in wanted],
        settings=settings,
        geometry=model.geometry(settings),
        listener=heard,
        **model.inputs(tiny.sample(), seed=3, settings=settings),
    )
    pre, post = (dict(heard.values[name]) for name in ("resid_pre", "resid_post"))
    for label, value in pre.items():
        if label.layer:
            assert torch.equal(value, post[label._replace(layer=label.layer - 1)])


def test_a_site_that_a_family_lacks_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    model = interp.load(tiny.pipeline())
    monkeypatch.setattr(model.adapter, "modules", {"resid_post": ""})
    with pytest.raises(interp.BadSpec, match=r"has no mlp_out; its layers have resid_post"):
        interp.plan(model.adapter, interp.parse(["mlp_out/energy"]), model.settings(**tiny.SIZE))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reductions_are_those_of_numpy(dtype: torch.dtype) -> None:
    model = interp.load(tiny.pipeline())
    generator = torch.Generator().manual_seed(0)
    value = (torch.randn(3, 4, 6, 96, generator=generator) * torch.linspace(0.1, 30, 96) + 2).to(dtype)
    tokens = value.double().numpy().reshape(-1, 96)

    def reduced(name: str) -> np.ndarray[Any, Any]:
        kept = interp.reductions[name].reduce(value[None], model.adapter)[0]
        assert kept.dtype is interp.reductions[name].dtype(dtype)
        return kept.double().numpy()

    np.testing.assert_allclose(reduced("token_mean"), tokens.mean(axis=0), rtol=1e-4, atol=1e-4)
    stats = np.stack([tokens.mean(axis=0), tokens.std(axis=0), np.abs(tokens).max(axis=0)])
    np.testing.assert_allclose(reduced("channel_stats"), stats, rtol=2e-3, atol=1e-4)
    rms = np.sqrt((tokens**2).mean(axis=0))
    order = np.argsort(-rms)[:16]
    np.testing.assert_array_equal(reduced("topk_channels")[0], order)
    np.testing.assert_allclose(reduced("topk_channels")[1], rms[order], rtol=1e-4)
    expected = tokens @ directions(96, torch.device("cpu"), dtype).double().numpy()
    tolerance = 1e-4 if dtype is torch.float32 else 2.0
    np.testing.assert_allclose(reduced("project").reshape(-1, COMPONENTS), expected, atol=tolerance)


def test_projection_keeps_lengths_and_is_the_same_everywhere() -> None:
    basis = directions(256, torch.device("cpu"), torch.float32)
    torch.testing.assert_close(basis.T @ basis, torch.eye(COMPONENTS), atol=1e-5, rtol=0)
    assert float(basis[0, 0]) == pytest.approx(float(directions(256, torch.device("cpu"), torch.float64)[0, 0]))


def test_sites_and_reductions_go_through_the_store(tmp_path: Any) -> None:
    import store

    model = interp.load(tiny.pipeline())
    items = ["mlp_out/channel_stats", "q/project", "resid_pre/token_mean", "v/topk_channels", "k/full@layers=1@steps=0"]
    captured = interp.capture(
        model,
        [tiny.sample()],
        interp.parse(items),
        into=tmp_path / "acts",
        settings=model.settings(**tiny.SIZE, steps=2),
    )
    acts = store.open(tmp_path / "acts")
    stats = acts.load("mlp_out", "channel_stats", runs=captured.run_ids)
    assert stats.dims == ("run", "step", "branch", "layer", "stat", "channel")
    assert stats.stat.values.tolist() == ["mean", "std", "absmax"]
    assert (stats.sel(stat="absmax") >= abs(stats.sel(stat="mean"))).all()
    assert acts.load("q", "project").sizes["channel"] == 32
    assert acts.load("k", "full").dtype == np.float32
