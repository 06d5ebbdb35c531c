"""From a pipeline into a store: what was seen is what can be loaded, once, whole or not at all."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import interp
import store
from interp.recorder import Label
from interp.sites import LayerSite, StepSite, StepValues, sites
from tests import tiny

EVERYTHING = interp.parse(
    [
        "resid_post/full@branches=cond,uncond",
        "resid_post/energy",
        "resid_post/frame_mean@layers=0,2@steps=1-3",
        "latent/full",
        "velocity/full@branches=guided,cond,uncond",
        "x0_hat/full",
        "x0_hat/pixels@steps=0,3",
    ]
)
ASKED = {**tiny.SIZE, "steps": 4, "guidance": 3.0}


@pytest.fixture(scope="module")
def model() -> interp.Model:
    return interp.load(tiny.pipeline(experts=2))


@pytest.fixture(scope="module")
def acts(model: interp.Model, tmp_path_factory: pytest.TempPathFactory) -> store.ActivationStore:
    acts = store.open(tmp_path_factory.mktemp("capture") / "acts", mode="a")
    captured = interp.capture(
        model, [tiny.sample()], EVERYTHING, into=acts, seeds=[3, 4], settings=model.settings(**ASKED)
    )
    assert captured.made == 2
    return acts


class Kept:
    """The same run, seen by a listener that keeps every value."""

    def __init__(self, model: interp.Model, seed: int) -> None:
        self.layers: dict[tuple[int, str, int], torch.Tensor] = {}
        self.steps: list[StepValues] = []
        settings = model.settings(**ASKED)
        site = sites["resid_post"]
        assert isinstance(site, LayerSite)
        model.traced.run(
            sites=[(site, [0, 1, 2])],
            settings=settings,
            geometry=model.geometry(settings),
            listener=self,
            **model.inputs(tiny.sample(), seed=seed, settings=settings),
        )

    def wants(self, site: str, label: Label) -> bool:
        return True

    def layer(self, site: str, label: Label, value_bfyxc: torch.Tensor) -> None:
        self.layers[label.step, label.branch, label.layer] = value_bfyxc[0].clone()

    def step(self, values: StepValues) -> None:
        self.steps.append(values.of(0))


@pytest.fixture(scope="module")
def kept(model: interp.Model) -> Kept:
    return Kept(model, seed=4)


def test_full_activations_are_stored_bit_for_bit(acts: store.ActivationStore, kept: Kept) -> None:
    stored = acts.load("resid_post", "full", where="seed = 4").isel(run=0)
    assert stored.sizes["branch"] == 2
    for (step, branch, layer), value in kept.layers.items():
        cell = stored.sel(step=step, branch=branch, layer=layer).transpose("frame", "y", "x", "channel")
        assert np.array_equal(cell.to_numpy(), value.numpy()), (step, branch, layer)


def test_reductions_are_of_the_labelled_cells(acts: store.ActivationStore, kept: Kept) -> None:
    energy = acts.load("resid_post", "energy", where="seed = 4").isel(run=0)
    means = acts.load("resid_post", "frame_mean", where="seed = 4").isel(run=0)
    assert means.layer.values.tolist() == [0, 2]
    assert means.step.values.tolist() == [1, 2, 3]
    for (step, branch, layer), value in kept.layers.items():
        if branch == "cond":
            cell = energy.sel(step=step, branch=branch, layer=layer).to_numpy()
            np.testing.assert_allclose(cell, (value.double() ** 2).sum(-1).sqrt().numpy(), rtol=1e-6)
            if layer in (0, 2) and step > 0:
                mean = means.sel(step=step, branch=branch, layer=layer).to_numpy()
                np.testing.assert_allclose(mean, value.double().mean((1, 2)).numpy(), rtol=1e-5, atol=1e-6)


def test_sampler_sites_are_those_of_the_steps(acts: store.ActivationStore, kept: Kept) -> None:
    for name in ("latent", "x0_hat"):
        site = sites[name]
        assert isinstance(site, StepSite)
        stored = acts.load(name, "full", where="seed = 4").isel(run=0)
        for values in kept.steps:
            assert np.array_equal(stored.sel(step=values.info.step).to_numpy(), site.value(values, None).numpy())
    velocity = acts.load("velocity", "full", where="seed = 4").isel(run=0)
    assert velocity.branch.values.tolist() == ["guided", "cond", "uncond"]
    for values in kept.steps:
        for branch, value in values.velocity.items():
            assert np.array_equal(velocity.sel(step=values.info.step, branch=branch).to_numpy(), value.numpy())


def test_pixels_are_decoded_and_the_last_is_the_finished_video(
    acts: store.ActivationStore, model: interp.Model
) -> None:
    pixels = acts.load("x0_hat", "pixels", where="seed = 4").isel(run=0)
    output = acts.load("output", "pixels", where="seed = 4").isel(run=0).to_numpy()
    assert pixels.step.values.tolist() == [0, 3]
    bare = model.generate(tiny.sample(), seed=4, settings=model.settings(**ASKED)).numpy()
    assert np.array_equal(output, bare)
    # Euler's last latent and the last x̂0 are the same number, computed in another order.
    difference = np.abs(pixels.sel(step=3).to_numpy().astype(int) - output.astype(int))
    assert difference.max() <= 1
    assert np.abs(pixels.sel(step=0).to_numpy().astype(int) - output.astype(int)).max() > 1


def test_steps_carry_timestep_sigma_and_expert(acts: store.ActivationStore, kept: Kept) -> None:
    rows = acts.sql(
        "SELECT step, timestep, sigma, sigma_next, expert, steps.guidance FROM steps JOIN runs USING (run_id) "
        "WHERE seed = 4 ORDER BY step"
    ).fetchall()
    assert [tuple(row) for row in rows] == [tuple(values.info.model_dump().values()) for values in kept.steps]
    energy = acts.load("resid_post", "energy", where="seed = 4").isel(run=0)
    assert energy.expert.values.tolist() == [values.info.expert for values in kept.steps]
    np.testing.assert_allclose(energy.sigma.values, [values.info.sigma for values in kept.steps])


def test_a_stored_run_is_not_generated_again(acts: store.ActivationStore, model: interp.Model) -> None:
    settings = model.settings(**ASKED)
    again = interp.capture(model, [tiny.sample()], EVERYTHING, into=acts, seeds=[3, 4], settings=settings)
    assert (again.made, again.reused) == (0, 2)
    assert set(again.run_ids) == set(acts.run_ids())
    more = interp.sweep(model, [tiny.sample()], EVERYTHING, into=acts, seeds=[3, 5], settings=settings)
    assert [run.seed for _, run in more.missing] == [5]
    assert more.nbytes == more.plan.nbytes


def test_what_was_planned_is_what_is_written(acts: store.ActivationStore, model: interp.Model) -> None:
    planned = interp.plan(model.adapter, EVERYTHING, model.settings(**ASKED)).nbytes
    (written,) = acts.sql("SELECT nbytes FROM runs WHERE seed = 4").fetchall()[0]
    assert written == planned


class Planted(Exception):
    """A fault of the test's own."""


def test_a_run_that_fails_leaves_nothing_and_the_others_stay(
    model: interp.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts = store.open(tmp_path / "acts", mode="a")
    settings = model.settings(**ASKED)
    interp.capture(model, [tiny.sample()], into=acts, seeds=[0], settings=settings)
    original, calls = type(model.pipeline.scheduler).step, 0

    @functools.wraps(original)
    def step(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Planted
        return original(*args, **kwargs)

    monkeypatch.setattr(type(model.pipeline.scheduler), "step", step)
    with pytest.raises(Planted):
        interp.capture(model, [tiny.sample()], into=acts, seeds=[0, 1], settings=settings)
    assert len(acts.run_ids()) == 1
    assert acts.incomplete() == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stepscope-writer")]
    assert interp.capture(model, [tiny.sample()], into=acts, seeds=[0, 1], settings=settings).made == 1


def test_bfloat16_runs_keep_their_bits(tmp_path: Path) -> None:
    pipeline = tiny.pipeline()
    pipeline.transformer.to(torch.bfloat16)
    model = interp.load(pipeline)
    settings = model.settings(**{**ASKED, "steps": 1})
    seen: list[torch.Tensor] = []
    hook = pipeline.transformer.blocks[1].register_forward_hook(
        lambda module, args, output: seen.append(output.clone())
    )
    model.generate(tiny.sample(), settings=settings)
    hook.remove()
    acts = store.open(tmp_path / "acts", mode="a")
    interp.capture(model, [tiny.sample()], interp.parse(["resid_post/full@layers=1"]), into=acts, settings=settings)
    stored = acts.load("resid_post", "full").isel(run=0, step=0, branch=0, layer=0)
    assert stored.dtype == np.float32
    assert seen[0].dtype is torch.bfloat16
    assert np.array_equal(stored.to_numpy(), seen[0][0].float().reshape(3, 4, 6, tiny.WIDTH).numpy())


def test_a_lossy_item_is_kept_in_a_byte_and_loads_as_floats(model: interp.Model, tmp_path: Path) -> None:
    acts, settings = store.open(tmp_path / "acts", mode="a"), model.settings(**{**ASKED, "steps": 1})
    for text in ("resid_post/full@layers=1", "resid_post/full@layers=1@int8"):
        interp.capture(model, [tiny.sample()], interp.parse([text]), into=acts, settings=settings)
    rows = acts.sql("SELECT run_id, encoding FROM arrays WHERE reduction = 'full'").fetchall()
    by_encoding = {encoding: acts.load("resid_post", "full", runs=[id]).values for id, encoding in rows}
    exact, lossy = by_encoding["exact"], by_encoding["int8"]
    assert (lossy.dtype, lossy.shape) == (np.float32, exact.shape)
    error = np.linalg.norm(lossy - exact, axis=-1) / np.linalg.norm(exact, axis=-1)
    assert 0 < error.mean() < 0.01


def test_a_spec_too_large_for_the_disk_is_refused_before_it_runs(
    model: interp.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts = store.open(tmp_path / "acts", mode="a")
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(interp.BadSpec, match="are free"):
        interp.capture(model, [tiny.sample()], into=acts, settings=model.settings(**ASKED))
    assert acts.run_ids() == []


def test_provenance_says_what_ran(acts: store.ActivationStore, model: interp.Model) -> None:
    entry = acts.run(acts.run_ids()[0])
    assert entry.run.model == model.ref
    assert entry.provenance.packages["torch"] == torch.__version__
    assert entry.provenance.device
    assert entry.seconds > 0


def test_the_weight_hash_is_of_the_weights() -> None:
    first, second = (interp.load(tiny.pipeline()) for _ in range(2))
    assert first.ref == second.ref
    with torch.no_grad():
        second.pipeline.transformer.blocks[2].ffn.net[2].bias[7] += 1e-3
    del second.ref
    assert first.ref.weight_hash != second.ref.weight_hash
