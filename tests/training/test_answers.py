"""Ambiguous samples with all their answers, and the mean over these given x_s."""

from __future__ import annotations

import pytest
import torch

from interp.worlds import worlds
from training import answers, data, transformer
from training.config import Config
from training.families import Parts
from training.session import Session


def levels(n: int, sigma: float) -> dict[str, torch.Tensor]:
    """Of flow matching."""
    full = torch.full((n, 1, 1, 1, 1), sigma)
    return {"signal": 1 - full, "sigma": full}


def test_at_pure_noise_all_answers_weigh_the_same_and_without_noise_the_true_one_all() -> None:
    known = torch.randn(3, 4, 2, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    valid = torch.tensor([2, 4, 1])
    at_noise = answers.expected(known, valid, torch.randn(3, 2, 2, 3, 3), **levels(3, 1.0))
    for row, k in enumerate(valid.tolist()):
        torch.testing.assert_close(at_noise[row], known[row, :k].mean(dim=0))
    shown = torch.stack([known[0, 1], known[1, 3], known[2, 0]])
    torch.testing.assert_close(answers.expected(known, valid, shown, **levels(3, 0.01)), shown)


def test_weights_are_those_of_bayes() -> None:
    known = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1, 1, 1)
    noisy = torch.tensor([0.9]).view(1, 1, 1, 1, 1)
    density = [torch.distributions.Normal(0.4 * value, 0.6).log_prob(torch.tensor(0.9)).exp() for value in (1.0, 3.0)]
    wanted = (density[0] * 1.0 + density[1] * 3.0) / (density[0] + density[1])
    found = answers.expected(known, torch.tensor([2]), noisy, **levels(1, 0.6))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_the_mean_is_what_single_answers_average_to() -> None:
    """A regression on single answers has its minimum at the mean: simulate it."""
    generator = torch.Generator().manual_seed(1)
    known = torch.tensor([-1.0, 1.0, 2.0]).view(1, 3, 1, 1, 1, 1)
    n, sigma = 400_000, 0.7
    chosen = torch.randint(3, (n,), generator=generator)
    noisy = (1 - sigma) * known.flatten()[chosen] + sigma * torch.randn(n, generator=generator)
    near = (noisy - 0.3).abs() < 0.05
    wanted = known.flatten()[chosen][near].mean()
    found = answers.expected(known, torch.tensor([3]), torch.full((1, 1, 1, 1, 1), 0.3), **levels(1, sigma))
    assert found.item() == pytest.approx(wanted.item(), abs=4 * 1.3 / near.sum().sqrt().item())


@pytest.mark.parametrize("family", ["tic_tac_toe", "rotation", "maze"])
def test_a_world_shows_all_its_answers(family: str) -> None:
    world, index = worlds[family], torch.arange(3)
    for difficulty in world.difficulties:
        made = world.answers(index, seed=4, difficulty=difficulty, split="in_domain")
        batch = world.draw(index, seed=4, difficulty=difficulty, split="in_domain")
        samples = world.samples(batch, difficulty=difficulty, split="in_domain")
        assert made.prompts == batch.prompts
        for sample, videos, k in zip(samples, made.videos, made.valid.tolist(), strict=True):
            assert k == sample.record.answers
            assert sample.answer_videos is not None
            assert (videos[:k].numpy() == sample.answer_videos).all()


def test_the_pool_has_ambiguous_samples_only(config: Config, parts: Parts) -> None:
    pool = data.LatentPool(config, parts.vae, parts.tokenizer)
    batch = answers.AnswerPool(config, pool).batch(64, torch.Generator().manual_seed(0))
    assert batch.valid.min() >= 2
    assert (batch.chosen < batch.valid).all()
    assert set(batch.chosen.tolist()) == {0, 1, 2}
    assert batch.latents.shape == batch.condition.shape
    assert (batch.latents - batch.answers[:, 0]).abs().amax(dim=(1, 2, 3, 4)).gt(0).equal(batch.chosen > 0)


def test_there_is_no_such_pool_where_every_task_has_one_answer(config: Config) -> None:
    from dataclasses import replace

    assert answers.has_ambiguous(config)
    assert not answers.has_ambiguous(replace(config, families=("maze",)))


def test_of_an_ambiguous_sample_the_mean_is_learned(finished: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that gives the exact mean velocity has no loss on ambiguous samples, though its targets are drawn."""
    config, parts = finished.config, finished.parts()
    pool = finished.pool(parts)
    among = finished.answers(pool)
    assert among is not None
    rivals = among.batch(6, torch.Generator().manual_seed(2))

    def exact(
        config: Config,
        parts: Parts,
        noisy: torch.Tensor,
        condition: torch.Tensor,
        sigma: torch.Tensor,
        text: torch.Tensor,
    ) -> torch.Tensor:
        s = sigma[-6:].view(-1, 1, 1, 1, 1)
        mean = answers.expected(rivals.answers, rivals.valid, noisy[-6:], signal=1 - s, sigma=s)
        value = torch.zeros_like(noisy)
        value[-6:] = (noisy[-6:] - mean) / s
        return value

    monkeypatch.setattr(transformer, "velocity", exact)
    none = tuple(part[:0] for part in pool.batch(1, torch.Generator().manual_seed(0)))
    generator = torch.Generator().manual_seed(3)
    assert len(none) == 3
    loss = transformer.error(config, parts, none, generator, among=rivals)
    assert loss.item() < 1e-5
