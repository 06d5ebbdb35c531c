"""Attribution patching against planted truth: finite differences along donor − own, and pairs without a difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import interp
import store
from interp import attribution
from interp.attribution import Asked
from interp.editing import Edits
from interp.gradients import Taps
from interp.interventions import LayerEdit
from interp.interventions._base import Where
from interp.recorder import Label
from interp.sites import StepValues
from tests import tiny
from tests.interp.interventions.contract import OTHER, SETTINGS
from tests.tiny_models import cogvideox, hunyuan_video, ltx

SITES = ("resid_post", "attn_out", "mlp_out")
STEPS = 4


class Pair(NamedTuple):
    """Two stored clean runs."""

    model: interp.Model
    acts: store.ActivationStore
    run: store.Run
    donor: store.Run

    def asked(self, **changes: Any) -> Asked:
        return Asked(self.run, self.donor, SITES, tuple(range(STEPS)))._replace(**changes)

    def towards(self) -> torch.Tensor:
        return attribution.direction(
            self.asked(), *(attribution.end(self.model, run, self.acts) for run in (self.run, self.donor))
        )


def captured(folder: Path, model: interp.Model, keep: tuple[str, ...], samples: Any, **asked: Any) -> Pair:
    """Two clean runs, the second of which donates."""
    acts = store.open(folder, mode="a")
    settings = model.settings(**asked)
    done = interp.capture(model, samples, interp.parse(keep), into=acts, settings=settings)
    return Pair(model, acts, *(acts.run(id).run for id in done.run_ids))


def tiny_pair(folder: Path, keep: tuple[str, ...], *, pipeline: Any = None, **asked: Any) -> Pair:
    """Of a pipeline with random weights and guidance, by default with two experts."""
    model = interp.load(tiny.pipeline(experts=2) if pipeline is None else pipeline)
    return captured(folder, model, keep, [tiny.sample(), OTHER], **{**SETTINGS, **asked})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    states = tuple(f"{site}/full@branches=cond,uncond" for site in SITES)
    return tiny_pair(tmp_path_factory.mktemp("attribution") / "acts", ("latent/full", "x0_hat/full", *states))


class Steps:
    """A listener that keeps what every step did."""

    def __init__(self) -> None:
        self.values: list[StepValues] = []

    def wants(self, site: str, label: Label) -> bool:
        return False

    def layer(self, site: str, label: Label, value_bfyxc: Any) -> None: ...

    def step(self, values: StepValues) -> None:
        self.values.append(values)


def traced(pair: Pair, *editors: Any, graphs: tuple[int, ...] = ()) -> list[StepValues]:
    """The receiving run once more."""
    seen = Steps()
    settings = pair.run.settings
    inputs = pair.model.inputs(pair.acts.sample(pair.run.sample_id), seed=pair.run.seed, settings=settings)
    shape = pair.model.geometry(settings)
    pair.model.traced.run(
        sites=[], settings=settings, geometry=shape, listener=seen, editors=editors, graphs=graphs, **inputs
    )
    return seen.values


def test_the_end_is_the_finished_latent_made_in_one_step(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    forwards: list[int] = []
    handles = [
        denoiser.register_forward_hook(lambda *_: forwards.append(1))
        for denoiser in pair.model.adapter.denoisers().values()
    ]
    found = attribution.end(pair.model, pair.donor, pair.acts)
    for handle in handles:
        handle.remove()
    stored = pair.acts.load("x0_hat", "full", runs=[pair.donor.id], step=STEPS - 1, lazy=False).to_numpy()[0]
    assert np.array_equal(found.numpy(), stored)
    assert len(forwards) == 2  # cond and uncond


def test_the_run_with_gradients_is_the_traced_run_bit_for_bit(pair: Pair) -> None:
    taps = Taps(attribution._needs(pair.model, pair.asked()), range(STEPS))
    weights = [weight for one in pair.model.adapter.denoisers().values() for weight in one.parameters()]
    before = [weight.requires_grad for weight in weights]
    tapped, bare = traced(pair, taps, graphs=tuple(range(STEPS))), traced(pair)
    for one, other in zip(tapped, bare, strict=True):
        assert torch.equal(one.latent, other.latent)
        assert not one.latent.requires_grad
        for branch in ("cond", "uncond", "guided"):
            assert one.velocity[branch].requires_grad
            assert not other.velocity[branch].requires_grad
            assert torch.equal(one.velocity[branch].detach(), other.velocity[branch])
    assert [weight.requires_grad for weight in weights] == before
    assert torch.is_grad_enabled()


def moved(
    pair: Pair,
    site: str,
    layer: int,
    step: int,
    share: float,
    towards: torch.Tensor,
    *,
    token: tuple[int, int, int] | None = None,
) -> float:
    """The metric of a step after going a share of the way to the donor at one place, in both branches."""
    needs = attribution._needs(pair.model, pair.asked(sites=(site,), steps=(step,)))
    (given,) = attribution.donors.provide([(pair.run, needs)], pair.model, pair.acts)

    def change(value: torch.Tensor, where: Where) -> torch.Tensor:
        there = torch.ones(value.shape[:3]) if token is None else torch.zeros(value.shape[:3])
        if token is not None:
            there[token] = 1
        return value + share * there[..., None] * (given(needs[0], where).to(value) - value)

    edit = LayerEdit(site, frozenset({step}), frozenset({layer}), frozenset({"cond", "uncond"}), change)
    values = traced(pair, Edits([edit]))[step]
    x0_hat = values.latent[0].double() - values.info.sigma * values.velocity["guided"][0].double()
    return float((x0_hat * towards.double()).sum())


@pytest.mark.parametrize(("site", "layer", "step"), [("resid_post", 0, 0), ("attn_out", 1, 2), ("mlp_out", 2, 3)])
def test_it_is_the_slope_towards_the_donor(pair: Pair, site: str, layer: int, step: int) -> None:
    towards = pair.towards()
    found = attribution.attributed(pair.model, pair.asked(), pair.acts, towards=towards)["attribution"]
    slope = float(found.sel(site=site, layer=layer, step=step).sum())
    share = 0.02
    ends = [moved(pair, site, layer, step, side * share, towards) for side in (-1, 1)]
    assert slope == pytest.approx((ends[1] - ends[0]) / (2 * share), rel=1e-2)
    assert abs(slope) > 1e-4


@pytest.mark.parametrize(
    "build", [cogvideox.pipeline, ltx.pipeline, hunyuan_video.text_to_video], ids=lambda build: build.__module__
)
def test_other_families_have_it_too(build: Any, tmp_path: Path) -> None:
    """Both branches in one forward, packed latents, text beside the video, a process that is no flow."""
    pair = tiny_pair(tmp_path / "acts", ("latent/full",), pipeline=build(), width=64)
    towards = pair.towards()
    asked = pair.asked(sites=("resid_post",), steps=(1,))
    found = attribution.attributed(pair.model, asked, pair.acts, towards=towards)["attribution"]
    ends = [moved(pair, "resid_post", 0, 1, share, towards) for share in (-0.02, 0.02)]
    assert float(found.sel(layer=0).sum()) == pytest.approx((ends[1] - ends[0]) / 0.04, rel=1e-2)


def test_where_the_rest_is_linear_it_is_the_whole_effect(tmp_path: Path) -> None:
    """Behind the last block a norm and a projection follow; without the norm, a patch there acts linearly."""
    pipeline = tiny.pipeline(experts=2)
    for denoiser in (pipeline.transformer, pipeline.transformer_2):
        denoiser.norm_out = torch.nn.Identity()
    pair = tiny_pair(tmp_path / "acts", ("latent/full",), pipeline=pipeline)
    towards = pair.towards()
    found = attribution.attributed(pair.model, pair.asked(sites=("resid_post",)), pair.acts, towards=towards)
    first_order = found["attribution"].sel(layer=2).sum(("branch", "frame", "y", "x")).to_numpy()[:, 0]
    for step in (0, 3):
        whole = moved(pair, "resid_post", 2, step, 1.0, towards) - moved(pair, "resid_post", 2, step, 0.0, towards)
        assert first_order[step] == pytest.approx(whole, rel=1e-4)
    token = found["attribution"].sel(layer=2, step=0, frame=1, y=2, x=3).sum()
    one, none = (moved(pair, "resid_post", 2, 0, share, towards, token=(1, 2, 3)) for share in (1.0, 0.0))
    assert float(token) == pytest.approx(one - none, rel=1e-3)


def gap(pair: Pair, *, site: str, layer: int, step: int, points: int) -> float:
    """How far what is attributed to all tokens of a place is from the whole effect of the patch, as its share."""
    towards = pair.towards()
    asked = pair.asked(sites=(site,), steps=(step,), points=points)
    found = attribution.attributed(pair.model, asked, pair.acts, towards=towards)["attribution"]
    ends = [moved(pair, site, layer, step, share, towards) for share in (0.0, 1.0)]
    return abs(float(found.sel(layer=layer).sum()) - (ends[1] - ends[0])) / abs(ends[1] - ends[0])


def test_points_on_the_way_add_up_to_the_whole_effect_where_it_is_not_linear(pair: Pair) -> None:
    """Behind the last block, no later state is moved: the path is that of the patch, and the norm bends it."""
    where: dict[str, Any] = {"site": "resid_post", "layer": 2, "step": 2}
    plain, few, many = (gap(pair, **where, points=points) for points in (0, 4, 16))
    assert plain > 0.02
    assert few < 0.5 * plain
    assert many < 2e-3


def test_points_change_nothing_where_the_way_is_straight(tmp_path: Path) -> None:
    pipeline = tiny.pipeline(experts=2)
    for denoiser in (pipeline.transformer, pipeline.transformer_2):
        denoiser.norm_out = torch.nn.Identity()
    pair = tiny_pair(tmp_path / "acts", ("latent/full",), pipeline=pipeline)
    for points in (0, 1, 3):
        assert gap(pair, site="resid_post", layer=2, step=3, points=points) < 1e-3


def test_a_point_is_the_slope_there(pair: Pair) -> None:
    """The midpoint of all states: layer 0 is moved with those after it, whose jacobians are those of the line."""
    towards, share = pair.towards(), 0.02
    asked = pair.asked(sites=("resid_post",), steps=(1,), points=1)
    found = attribution.attributed(pair.model, asked, pair.acts, towards=towards)["attribution"]
    ends = [moved(pair, "resid_post", 2, 1, 0.5 + side * share, towards) for side in (-1, 1)]
    assert float(found.sel(layer=2).sum()) == pytest.approx((ends[1] - ends[0]) / (2 * share), rel=1e-2)
    assert (found.sel(layer=[0, 1]) != 0).any()


def test_points_are_kept_apart_and_counted(pair: Pair) -> None:
    asked = [pair.asked(steps=(0, 3), points=2)]
    todo = attribution.programme(pair.model, asked, into=pair.acts, analysis="points")
    assert "1 to make: 4 steps with a" in str(todo)
    assert attribution.conduct(pair.model, todo, into=pair.acts) == 1
    (id,) = pair.acts.result_ids("points")
    assert pair.acts.result(id).record.params["points"] == 2
    assert "points" not in pair.asked().params
    with pytest.raises(interp.BadIntervention, match="-1 points between"):
        attribution.programme(pair.model, [pair.asked(points=-1)], into=pair.acts, analysis="points")


def test_nothing_is_attributed_to_states_that_are_the_runs_own(pair: Pair) -> None:
    itself = pair.asked(donor=pair.run)
    found = attribution.attributed(pair.model, itself, pair.acts, towards=pair.towards())
    assert (found["attribution"] == 0).all()
    assert (found["difference"] == 0).all()
    todo = attribution.programme(pair.model, [itself], into=pair.acts, analysis="tokens")
    with pytest.raises(interp.BadIntervention, match="end in the same latent"):
        attribution.conduct(pair.model, todo, into=pair.acts)


def test_it_is_kept_and_computed_once(pair: Pair) -> None:
    asked = [pair.asked(steps=(0, 3))]
    todo = attribution.programme(pair.model, asked, into=pair.acts, analysis="tokens")
    assert "1 pairs of runs to attribute, 0 of them in the store already; 1 to make: 2 steps with a" in str(todo)
    assert attribution.conduct(pair.model, todo, into=pair.acts) == 1
    again = attribution.programme(pair.model, asked, into=pair.acts, analysis="tokens")
    assert attribution.conduct(pair.model, again, into=pair.acts) == 0
    (id,) = pair.acts.result_ids("tokens")
    stored = pair.acts.result(id)
    assert stored.record.params["receiver"] == pair.run.id
    assert dict(stored.data["attribution"].sizes) == {
        "step": 2,
        "branch": 2,
        "layer": 3,
        "site": 3,
        "frame": 3,
        "y": 4,
        "x": 6,
    }
    assert np.isfinite(stored.data["attribution"]).all()
    assert (stored.data["difference"] > 0).all()


def test_what_is_not_there_is_refused_before_anything_runs(pair: Pair) -> None:
    for changes, words in (
        ({"sites": ("nowhere",)}, "no site 'nowhere'"),
        ({"sites": ("velocity",)}, "has no velocity; it has resid_pre"),
        ({"steps": (4,)}, "step 4, but there are 4: 0 to 3"),
    ):
        with pytest.raises(interp.InterpError, match=words):
            attribution.programme(pair.model, [pair.asked(**changes)], into=pair.acts, analysis="tokens")


def test_on_tinywan_a_small_step_towards_the_twin_agrees(tmp_path: Path) -> None:
    (twins,) = interp.worlds["grounding"].pairs(1, seed=0, difficulty="easy")
    model = interp.load("tinywan", scheduler="euler")
    pair = captured(tmp_path / "acts", model, ("latent/full",), twins, steps=2, guidance=1)
    towards = pair.towards()
    asked = pair.asked(sites=("resid_post",), steps=(0,))
    found = attribution.attributed(pair.model, asked, pair.acts, towards=towards)["attribution"]
    ends = [moved(pair, "resid_post", 6, 0, share, towards) for share in (-0.01, 0.01)]
    assert float(found.sel(layer=6).sum()) == pytest.approx((ends[1] - ends[0]) / 0.02, rel=1e-2)
