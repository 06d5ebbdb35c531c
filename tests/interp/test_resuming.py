"""A run that begins where it first differs from its clean run: fewer forwards and the same bits, or from the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler

import interp
import store
from interp import intervening
from interp.interventions import BlockNoise, Donor, Intervention, NoiseAtStep, Patch
from interp.making import Batch, make
from tests import tiny

STEPS = 6
SPEC = interp.parse(
    [
        "latent/full",
        "x0_hat/pixels",
        "velocity/full@branches=guided,uncond",
        "resid_post/full@layers=0,2@branches=cond,uncond",
        "resid_post/energy@steps=1,4",
        "q/frame_mean",
        "z/head_energy@heads=1",
        "pattern/map@queries=0:1:2,mean(0:1-2:2-3)@layers=1",
    ]
)


class Counted:
    """Forwards of the denoisers."""

    def __init__(self, model: interp.Model) -> None:
        self.forwards = 0
        for denoiser in model.adapter.denoisers().values():
            denoiser.register_forward_pre_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.forwards += 1

    def during(self, call: Any) -> int:
        """Forwards of one call."""
        before = self.forwards
        call()
        return self.forwards - before


def settings(model: interp.Model, **asked: Any) -> store.SamplerSettings:
    return model.settings(**{**tiny.SIZE, "steps": STEPS, "guidance": 3.0, **asked})


def bits(acts: store.ActivationStore, run_id: str) -> dict[str, Any]:
    """Everything that is stored of a run."""
    entry = acts.run(run_id)
    arrays = {
        f"{array.site}/{array.reduction}": acts.load(array.site, array.reduction, runs=[run_id], lazy=False)
        for array in entry.arrays
    }
    return {**arrays, "steps": entry.steps, "scores": entry.scores}


def both_ways(model: interp.Model, folder: Path, *changes: Intervention, spec: Any = SPEC) -> tuple[int, int]:
    """Forwards of the same run begun later and from the start, which must be the same bit for bit."""
    counted = Counted(model)
    stores = [store.open(folder / name, mode="a") for name in ("later", "start")]
    asked = settings(model)
    forwards = []
    for acts, resume in zip(stores, (True, False), strict=True):
        interp.capture(model, [tiny.sample()], spec, into=acts, settings=asked)
        todo = interp.sweep(model, [tiny.sample()], spec, into=acts, settings=asked, interventions=changes)
        batch = Batch(todo.missing, todo.plan)
        forwards.append(counted.during(lambda a=acts, r=resume, b=batch: make(model, b, a, resume=r)))
        run_id = todo.missing[0][1].id
    later, start = (bits(acts, run_id) for acts in stores)
    assert later.keys() == start.keys()
    for name, value in start.items():
        same = value.identical(later[name]) if hasattr(value, "identical") else value == later[name]
        assert same, name
    return forwards[0], forwards[1]


@pytest.mark.parametrize("experts", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_the_run_made_from_the_start_and_costs_what_follows(
    tmp_path: Path, experts: int, dtype: torch.dtype
) -> None:
    pipeline = tiny.pipeline(experts=experts)
    for denoiser in (pipeline.transformer, pipeline.transformer_2):
        if denoiser is not None:
            denoiser.to(dtype)
    model = interp.load(pipeline)
    assert both_ways(model, tmp_path, NoiseAtStep(steps=(4,))) == (2 * 2, 2 * STEPS)


def test_matched_noise_needs_the_step_before(tmp_path: Path) -> None:
    model = interp.load(tiny.pipeline())
    assert both_ways(model, tmp_path, NoiseAtStep(steps=(4,), matched=True)) == (2 * 3, 2 * STEPS)


def test_the_first_of_several_changes_counts(tmp_path: Path) -> None:
    model = interp.load(tiny.pipeline())
    changes = BlockNoise(alpha=0.2, steps=(3, 5), layers=(1,)), NoiseAtStep(steps=(2,))
    assert both_ways(model, tmp_path, *changes) == (2 * 4, 2 * STEPS)


def test_a_donor_of_later_steps_is_read_and_the_rest_copied(tmp_path: Path) -> None:
    model = interp.load(tiny.pipeline())
    changes = Patch(donor=Donor(), layers=(2,), steps=(5,)), BlockNoise(alpha=0.2, steps=(5,), layers=(0,))
    assert both_ways(model, tmp_path, *changes) == (2, 2 * STEPS)


def test_a_change_at_the_first_step_leaves_nothing_to_copy(tmp_path: Path) -> None:
    model = interp.load(tiny.pipeline())
    assert both_ways(model, tmp_path, NoiseAtStep(steps=(0,))) == (2 * STEPS, 2 * STEPS)


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        (["x0_hat/full"], ["x0_hat/full"]),  # no x_s to begin with
        (["latent/full@steps=0-3"], ["x0_hat/full@steps=5"]),  # not of that step
        (["latent/full@int8"], ["x0_hat/full@steps=5"]),  # not exactly
        (["latent/full"], ["x0_hat/full"]),  # wants x̂0 of steps before, which the parent has not kept
        (["latent/full", "resid_post/full@layers=0"], ["resid_post/full@layers=1"]),  # of other layers
        (["latent/full", "q/head_energy@heads=0"], ["q/head_energy@heads=1"]),  # of other heads
    ],
)
def test_without_what_it_needs_it_is_made_from_the_start(tmp_path: Path, parent: list[str], child: list[str]) -> None:
    model = interp.load(tiny.pipeline())
    counted, acts, asked = Counted(model), store.open(tmp_path / "acts", mode="a"), settings(model)
    interp.capture(model, [tiny.sample()], interp.parse(parent), into=acts, settings=asked)
    made = counted.during(
        lambda: interp.capture(
            model,
            [tiny.sample()],
            interp.parse(child),
            into=acts,
            settings=asked,
            interventions=[NoiseAtStep(steps=(4,))],
            parent=interp.parse(parent),
        )
    )
    assert made == 2 * STEPS


def test_a_child_may_keep_less_than_its_parent(tmp_path: Path) -> None:
    model = interp.load(tiny.pipeline())
    counted, acts, asked = Counted(model), store.open(tmp_path / "acts", mode="a"), settings(model)
    parent, child = interp.parse(["latent/full", "x0_hat/full"]), interp.parse(["x0_hat/full@steps=1,5"])
    clean = interp.capture(model, [tiny.sample()], parent, into=acts, settings=asked).run_ids[0]
    noise: Any = {"into": acts, "settings": asked, "interventions": [NoiseAtStep(steps=(4,))], "parent": parent}
    done: list[interp.Captured] = []
    assert counted.during(lambda: done.append(interp.capture(model, [tiny.sample()], child, **noise))) == 2 * 2
    made = acts.load("x0_hat", "full", runs=done[0].run_ids, lazy=False)
    before = acts.load("x0_hat", "full", runs=[clean], step=1, lazy=False)
    assert np.array_equal(made.sel(step=1).to_numpy()[0], before.to_numpy()[0])
    assert acts.run(done[0].run_ids[0]).run.parent_id == clean


def test_a_solver_with_a_past_is_run_from_the_start(tmp_path: Path) -> None:
    pipeline = tiny.pipeline()
    pipeline.scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, num_train_timesteps=1000
    )
    model = interp.load(pipeline)
    assert both_ways(model, tmp_path, NoiseAtStep(steps=(4,))) == (2 * STEPS, 2 * STEPS)


def test_the_pipeline_begins_at_the_start_again(tmp_path: Path) -> None:
    model = interp.load(tiny.pipeline())
    before = model.generate(tiny.sample(), settings=settings(model))
    both_ways(model, tmp_path, NoiseAtStep(steps=(4,)))
    assert torch.equal(model.generate(tiny.sample(), settings=settings(model)), before)


def test_where_a_run_begins() -> None:
    model = interp.load(tiny.pipeline())
    run = store.Run(model=model.ref, sample_id="s", seed=0, settings=settings(model), capture=SPEC, interventions=())
    for changes, first in (
        ([NoiseAtStep(steps=(3, 5))], 3),
        ([NoiseAtStep(steps=(3,), matched=True)], 2),
        ([NoiseAtStep(steps=(0,), matched=True)], 0),
        ([BlockNoise(alpha=1.0)], 0),
        ([BlockNoise(alpha=1.0, steps=(4,)), NoiseAtStep(steps=(5,))], 4),
    ):
        planned = run.model_copy(update={"interventions": intervening.planned(model, changes)})
        assert intervening.begins(model, planned) == first
