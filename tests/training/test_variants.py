"""The LoRAs: what they learn from, and that the pipeline's own loader gives what was trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline
from torch import Tensor

from training import checkpoint, data, experts, few_step, lora, model, sampling
from training.families import wan
from training.few_step import grids, levels
from training.session import Session

SHAPE = (2, 4, 5, 12, 12)


def velocity_of(transformer: Any) -> Tensor:
    """What a transformer says to a fixed input."""
    generator = torch.Generator().manual_seed(0)
    noisy, condition = (torch.randn(SHAPE, generator=generator) for _ in range(2))
    with torch.no_grad():
        return transformer(
            hidden_states=torch.cat([noisy, wan.mask_channels(noisy), condition], dim=1),
            timestep=torch.tensor([900.0, 300.0]),
            encoder_hidden_states=torch.randn(2, 32, 32, generator=generator),
            return_dict=False,
        )[0]


def trained(session: Session, stage: str, *, rank: int) -> Any:
    """The shipped transformer with the LoRA of a checkpoint, put on without any file of the exported folder."""
    transformer = session.parts(shipped=True).transformer
    lora.add(transformer, rank=rank, seed=0)
    lora.average(transformer, checkpoint.under("ema", checkpoint.load(session.config.checkpoint(stage))[0]))
    return transformer


@pytest.fixture
def pipe(finished: Session) -> WanImageToVideoPipeline:
    return WanImageToVideoPipeline.from_pretrained(finished.config.model_folder)


def test_the_teacher_passes_every_noise_level_of_the_student() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(4)
    assert levels(4, shift=3.0) == scheduler.sigmas.tolist()
    found = grids(4, 6, shift=3.0)
    assert [grid[0] for grid in found] + [found[-1][-1]] == levels(4, shift=3.0)
    assert [len(grid) - 1 for grid in found] == [6, 6, 6, 1]
    every = [sigma for grid in found for sigma in grid[:-1]] + [0.0]
    assert every == sorted(every, reverse=True)
    assert len(set(every)) == len(every)


def test_a_trajectory_is_the_teachers_and_ends_where_the_mean_velocity_leads(
    finished: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, parts = finished.config, finished.parts(shipped=True)
    lora.add(parts.transformer, rank=2, seed=0)
    seen: list[float] = []

    def velocity(config: Any, parts: Any, x: Tensor, condition: Tensor, sigma: Tensor, text: Tensor) -> Tensor:
        seen.append(float(sigma[0]))
        assert not _adapted(parts.transformer)
        cond, uncond = x.chunk(2)
        return torch.cat([0.5 * cond + 1.0, 0.5 * uncond])  # guidance 2: v = 0.5·x + 2

    monkeypatch.setattr(few_step, "velocity", velocity)
    stretches = grids(4, 3, shift=3.0)
    made = few_step.trajectories(config, parts, finished.pool(parts), stretches, guidance=2.0, seed=0, own_starts=False)
    assert seen == pytest.approx([sigma for grid in stretches for sigma in grid[:-1]])
    assert made.starts.shape == (4, 2, *SHAPE[1:])
    starts, means = made.starts.float(), made.means.float()
    for i, grid in enumerate(stretches[:-1]):
        torch.testing.assert_close(starts[i + 1], starts[i] + (grid[-1] - grid[0]) * means[i], rtol=1e-2, atol=1e-2)
    x = starts[0]
    for sigma, following in zip(stretches[0][:-1], stretches[0][1:], strict=True):
        x = x + (following - sigma) * (0.5 * x + 2.0)
    torch.testing.assert_close(starts[1], x, rtol=1e-2, atol=1e-2)


def _adapted(transformer: Any) -> bool:
    return not transformer.blocks[0].attn1.to_q.disable_adapters


def test_later_rounds_start_where_the_student_is(finished: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = finished.parts(shipped=True)
    lora.add(parts.transformer, rank=2, seed=0)

    def velocity(config: Any, parts: Any, x: Tensor, *_: Any) -> Tensor:
        return torch.ones_like(x) if _adapted(parts.transformer) else torch.zeros_like(x)

    monkeypatch.setattr(few_step, "velocity", velocity)
    stretches = grids(4, 2, shift=3.0)
    made = few_step.trajectories(
        finished.config, parts, finished.pool(parts), stretches, guidance=1.0, seed=0, own_starts=True
    )
    length = stretches[0][-1] - stretches[0][0]
    torch.testing.assert_close(made.starts[1].float(), made.starts[0].float() + length, rtol=1e-2, atol=1e-2)
    assert not made.means.any()  # the teacher's, from there


def test_the_few_step_lora_is_read_by_the_pipelines_loader(finished: Session, pipe: WanImageToVideoPipeline) -> None:
    plain = velocity_of(pipe.transformer)
    pipe.load_lora_weights(finished.config.model_folder, subfolder=few_step.FOLDER, weight_name=few_step.WEIGHTS)
    loaded = velocity_of(pipe.transformer)
    wanted = velocity_of(trained(finished, "few_step", rank=finished.config.few_step.rank))
    assert (loaded - plain).abs().max() > 10 * (loaded - wanted).abs().max()
    torch.testing.assert_close(loaded, wanted, rtol=1e-2, atol=1e-3)


def test_two_experts_are_one_pipeline_that_changes_over(
    finished: Session, pipe: WanImageToVideoPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = finished.config
    both = model.two_experts(config.model_folder, pipeline=wan.BatchedPipeline)
    assert both.config.boundary_ratio == config.experts.boundary_ratio
    plain, rank = velocity_of(pipe.transformer), config.experts.rank
    for part, name in ((both.transformer, "expert_high"), (both.transformer_2, "expert_low")):
        wanted = velocity_of(trained(finished, name, rank=rank))
        assert (wanted - plain).abs().max() > 10 * (velocity_of(part) - wanted).abs().max()
    ran: list[str] = []
    for name in ("transformer", "transformer_2"):
        _count(getattr(both, name), lambda name=name: ran.append(name), monkeypatch)
    both.set_progress_bar_config(disable=True)
    from training import scoring

    pictures, prompts = scoring.questions(scoring.Cell("maze", "in_domain", "easy", 1, 1))
    sampling.sample(both, pictures, prompts, config, seeds=[0], steps=6, guidance=1.0)
    sigmas = levels(6, shift=3.0)[:-1]
    assert ran == ["transformer" if sigma >= config.experts.boundary_ratio else "transformer_2" for sigma in sigmas]
    assert set(ran) == {"transformer", "transformer_2"}


def _count(module: Any, call: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    original = module.forward
    patch.setattr(module, "forward", lambda *args, **kwargs: (call(), original(*args, **kwargs))[1])


def test_the_high_noise_expert_makes_a_third_to_half_of_the_steps(tmp_path: Path) -> None:
    from training.config import Config

    config = Config(out=tmp_path)
    assert 20 / 3 <= experts.high_steps(config) <= 10


def test_the_last_clean_estimate_is_the_video(finished: Session) -> None:
    from training import scoring

    sampler, seen = sampling.Sampler(finished), []
    pictures, prompts = scoring.questions(scoring.Cell("maze", "in_domain", "easy", 1, 2))
    with sampling.watched(sampler.pipe("shipped"), seen.append):
        videos = sampler.videos(pictures, prompts, seeds=[0, 1], steps=3, guidance=2.0)
    assert len(seen) == 3
    with torch.no_grad():
        last = data.to_uint8(data.decode(sampler.pipe("shipped").vae, seen[-1])).numpy()
    assert abs(last.astype(int) - videos).max() <= 1
    assert not torch.equal(seen[0], seen[-1])


def test_what_must_stay_in_float32_stays(pipe: WanImageToVideoPipeline) -> None:
    wan.cast(pipe.transformer, torch.bfloat16)
    reread = type(pipe.transformer).from_pretrained(
        Path(pipe.config["_name_or_path"]) / "transformer", torch_dtype=torch.bfloat16
    )
    ours = {name: weight.dtype for name, weight in pipe.transformer.named_parameters()}
    assert ours == {name: weight.dtype for name, weight in reread.named_parameters()}
    assert set(ours.values()) == {torch.bfloat16, torch.float32}
