"""Tracing against plain PyTorch hooks: the same bits, the right labels, an unchanged video."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
import torch

import interp
from interp.recorder import Label
from interp.sites import LayerSite, StepValues, sites
from store import StepInfo
from tests import tiny

STEPS = 5


class Heard:
    """A listener that keeps everything."""

    def __init__(self) -> None:
        self.layers: dict[Label, torch.Tensor] = {}
        self.steps: list[StepValues] = []

    def wants(self, site: str, label: Label) -> bool:
        return True

    def layer(self, site: str, label: Label, value_bfyxc: torch.Tensor) -> None:
        assert label not in self.layers, f"{label} was seen twice"
        self.layers[label] = value_bfyxc[0].clone()

    def step(self, values: StepValues) -> None:
        self.steps.append(values.of(0))


def traced(model: interp.Model, **asked: Any) -> tuple[torch.Tensor, Heard, tuple[StepInfo, ...]]:
    settings = model.settings(**tiny.SIZE, **asked)
    geometry = model.geometry(settings)
    heard = Heard()
    site = sites["resid_post"]
    assert isinstance(site, LayerSite)
    output, steps = model.traced.run(
        sites=[(site, list(range(geometry.layers)))],
        settings=settings,
        geometry=geometry,
        listener=heard,
        **model.inputs(tiny.sample(), seed=3, settings=settings),
    )
    return output.frames, heard, steps


def hooked(
    pipeline: Any, model: interp.Model, **asked: Any
) -> tuple[torch.Tensor, list[tuple[str, int, torch.Tensor]]]:
    """What plain forward hooks on an untouched pipeline see, in the order in which it happens."""
    settings = model.settings(**tiny.SIZE, **asked)
    seen: list[tuple[str, int, torch.Tensor]] = []
    with ExitStack() as stack:
        for expert, denoiser in model.adapter.denoisers().items():
            for layer, block in enumerate(getattr(pipeline, expert).blocks):

                def keep(module: Any, args: Any, output: torch.Tensor, e: str = expert, k: int = layer) -> None:
                    seen.append((e, k, output.clone()))

                stack.callback(block.register_forward_hook(keep).remove)
            assert denoiser is not getattr(pipeline, expert)
        frames = pipeline(**model.inputs(tiny.sample(), seed=3, settings=settings)).frames
    return frames, seen


@pytest.mark.parametrize(("experts", "guidance"), [(1, 3.0), (1, 1.0), (2, 3.0), (2, 1.0)])
def test_activations_and_video_are_those_of_plain_hooks_bit_for_bit(experts: int, guidance: float) -> None:
    model = interp.load(tiny.pipeline(experts=experts))
    frames, heard, steps = traced(model, steps=STEPS, guidance=guidance)
    expected_frames, seen = hooked(tiny.pipeline(experts=experts), model, steps=STEPS, guidance=guidance)

    assert torch.equal(frames, expected_frames)
    # The pipeline's own order: step, then cond before uncond, then layer.
    branches = ["cond", "uncond"] if guidance > 1 else ["cond"]
    labels = [(step.step, branch, layer) for step in steps for branch in branches for layer in range(3)]
    assert [(label.step, label.branch, label.layer) for label in heard.layers] == labels
    assert len(seen) == len(labels)
    for (label, value), (expert, layer, expected) in zip(heard.layers.items(), seen, strict=True):
        assert (label.expert, label.layer) == (expert, layer)
        assert torch.equal(value, expected[0].reshape(3, 4, 6, tiny.WIDTH))


def test_cond_and_uncond_are_not_swapped() -> None:
    """Changing only the prompt changes the cond branch of the first step and leaves the uncond one."""
    model = interp.load(tiny.pipeline())
    settings = model.settings(**tiny.SIZE, steps=2, guidance=4.0)
    site = sites["resid_post"]
    assert isinstance(site, LayerSite)
    heard = []
    for prompt in ("walk", "stop"):
        heard.append(Heard())
        model.traced.run(
            sites=[(site, [2])],
            settings=settings,
            geometry=model.geometry(settings),
            listener=heard[-1],
            **model.inputs(tiny.sample(prompt=prompt), seed=0, settings=settings),
        )
    first = {branch: Label(0, branch, "transformer", 2) for branch in ("cond", "uncond")}
    assert torch.equal(heard[0].layers[first["uncond"]], heard[1].layers[first["uncond"]])
    assert not torch.equal(heard[0].layers[first["cond"]], heard[1].layers[first["cond"]])


@pytest.mark.parametrize("boundary_ratio", [0.5, 0.9])
def test_experts_are_those_of_the_boundary(boundary_ratio: float) -> None:
    model = interp.load(tiny.pipeline(experts=2, boundary_ratio=boundary_ratio))
    _, heard, steps = traced(model, steps=8, guidance=2.0, guidance_2=1.5)
    expected = ["transformer" if step.timestep >= boundary_ratio * 1000 else "transformer_2" for step in steps]
    assert [step.expert for step in steps] == expected
    assert len(set(expected)) == 2
    assert {(label.step, label.expert) for label in heard.layers} == set(enumerate(expected))
    assert [step.guidance for step in steps] == [2.0 if expert == "transformer" else 1.5 for expert in expected]


def test_steps_carry_the_schedulers_own_numbers() -> None:
    model = interp.load(tiny.pipeline())
    _, _, steps = traced(model, steps=STEPS, guidance=2.0)
    scheduler = tiny.pipeline().scheduler
    scheduler.set_timesteps(STEPS)
    assert [step.timestep for step in steps] == scheduler.timesteps.tolist()
    assert [step.sigma for step in steps] == scheduler.sigmas[:-1].tolist()
    assert [step.sigma_next for step in steps] == scheduler.sigmas[1:].tolist()


def test_velocity_is_guided_and_x0_hat_follows_from_it() -> None:
    model = interp.load(tiny.pipeline())
    frames, heard, steps = traced(model, steps=STEPS, guidance=3.5)
    x0_hat = sites["x0_hat"]
    for values, following in zip(heard.steps, heard.steps[1:], strict=False):
        cond, uncond, guided = (values.velocity[branch] for branch in ("cond", "uncond", "guided"))
        assert torch.equal(guided, uncond + 3.5 * (cond - uncond))
        assert not torch.equal(cond, uncond)
        info = values.info
        torch.testing.assert_close(following.latent, values.latent + (info.sigma_next - info.sigma) * guided)
    last = x0_hat.value(heard.steps[-1], None)  # type: ignore[attr-defined]
    assert steps[-1].sigma_next == 0
    torch.testing.assert_close(model.adapter.decode(last[None])[0].permute(0, 3, 1, 2), frames[0])


def test_x0_hat_of_a_multistep_solver_uses_its_noise_level() -> None:
    """With UniPC the scheduler's own conversion to x0 is the reference."""
    from diffusers import UniPCMultistepScheduler

    pipeline = tiny.pipeline()
    pipeline.scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, num_train_timesteps=1000
    )
    model = interp.load(pipeline)
    converted = []
    original = pipeline.scheduler.convert_model_output

    def convert(*args: Any, **kwargs: Any) -> torch.Tensor:
        converted.append(original(*args, **kwargs))
        return converted[-1]

    pipeline.scheduler.convert_model_output = convert
    _, heard, _ = traced(model, steps=STEPS, guidance=2.0)
    assert len(converted) == STEPS
    for values, expected in zip(heard.steps, converted, strict=True):
        ours = sites["x0_hat"].value(values, None)  # type: ignore[attr-defined]
        torch.testing.assert_close(ours, expected[0].permute(1, 2, 3, 0))


def test_the_pipeline_is_left_as_it_was() -> None:
    pipeline = tiny.pipeline()
    before = pipeline(**_inputs(pipeline)).frames
    model = interp.load(pipeline)
    traced(model, steps=2, guidance=2.0)
    assert "step" not in vars(pipeline.scheduler)
    assert "cache_context" not in vars(pipeline.transformer)
    assert pipeline._progress_bar_config == {"disable": True}
    assert torch.equal(pipeline(**_inputs(pipeline)).frames, before)


def test_an_error_in_the_listener_ends_the_run_and_restores_the_pipeline() -> None:
    class Broken(Heard):
        def layer(self, site: str, label: Label, value_bfyxc: torch.Tensor) -> None:
            raise RuntimeError("planted")

    pipeline = tiny.pipeline()
    model = interp.load(pipeline)
    settings = model.settings(**tiny.SIZE, steps=2)
    site = sites["resid_post"]
    assert isinstance(site, LayerSite)
    with pytest.raises(RuntimeError, match="planted"):
        model.traced.run(
            sites=[(site, [0])],
            settings=settings,
            geometry=model.geometry(settings),
            listener=Broken(),
            **model.inputs(tiny.sample(), seed=0, settings=settings),
        )
    assert "step" not in vars(pipeline.scheduler)
    traced(model, steps=2)


def _inputs(pipeline: Any) -> dict[str, Any]:
    model = interp.load(pipeline)
    return model.inputs(tiny.sample(), seed=0, settings=model.settings(**tiny.SIZE, steps=2, guidance=2.0))
