"""Samples with several valid answers, and what to expect of x0 among them.

A model learns the velocity to one answer at a time, and which one it was is noise in that target: where the choice
falls, at sigma near 1, it takes very many samples to learn that all answers are equally likely. But the world knows all
of them, so that the mean over answers given x_s can be had exactly, and the model be taught that.

Shapes: n samples, k valid answers, K the most that any sample has, C latent channels, T latent frames, h×w cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from interp.worlds import Answers, worlds
from training import data
from training.config import Config

SMALLEST = 1e-3
"""Sigma below which the answer that is nearest is as good as certain."""


class Ambiguous(NamedTuple):
    """Samples with all their answers."""

    answers: Tensor
    """`[n, K, C, T, h, w]`; behind its k answers a sample has anything."""
    valid: Tensor
    """int64 `[n]`: k."""
    condition: Tensor
    """`[n, C, T, h, w]`."""
    ids: Tensor
    """int64 `[n, length]`."""
    chosen: Tensor
    """int64 `[n]`: the answer that the sample shows."""

    @property
    def latents(self) -> Tensor:
        """The chosen answers, `[n, C, T, h, w]`."""
        return self.answers[torch.arange(len(self.chosen), device=self.chosen.device), self.chosen]


def expected(answers: Tensor, valid: Tensor, noisy: Tensor, *, signal: Tensor, sigma: Tensor) -> Tensor:
    """Mean of x0 given x_s, where each of k answers is as likely as another: E[x0 | x_s].

    Args:
        answers: `[n, K, C, T, h, w]`.
        valid: k, int64 `[n]`.
        noisy: x_s = signal·x0 + sigma·noise, `[n, C, T, h, w]`.
        signal: `[n, 1, 1, 1, 1]`.
        sigma: Likewise.

    Returns:
        `[n, C, T, h, w]`: the answers, weighted by the density of noise that would have led from each to x_s.
    """
    squares = torch.stack(
        [(noisy - signal * answer).pow(2).flatten(1).sum(dim=1) for answer in answers.unbind(dim=1)], dim=1
    )
    none = torch.arange(answers.shape[1], device=valid.device) >= valid[:, None]
    logits = (-squares / (2 * sigma.clamp_min(SMALLEST).view(-1, 1).pow(2))).masked_fill(none, -torch.inf)
    return torch.einsum("nk,nk...->n...", logits.softmax(dim=1), answers)


class AnswerPool:
    """Latents of all answers of ambiguous samples of a stream, on the device.

    Args:
        config: Sizes, families and the stream's seed.
        pool: Encodes videos and tokenizes prompts.
    """

    def __init__(self, config: Config, pool: data.LatentPool) -> None:
        cells = _cells(config)
        each = -(-config.transformer.answer_pool // len(cells))
        self._all = _joined([_encoded(config, pool, cell, each) for cell in cells])
        self._empty = pool.empty

    def batch(self, n: int, generator: torch.Generator, *, drop: float = 0.0) -> Ambiguous:
        """`n` random samples with a random answer each; a share `drop` of the prompts is empty."""
        answers, every, condition, ids, _ = self._all
        device = every.device
        rows = torch.randint(len(every), (n,), generator=generator, device=device)
        valid = every[rows]
        chosen = (torch.rand(n, generator=generator, device=device) * valid).long().clamp_max(valid - 1)
        dropped = torch.rand(n, 1, generator=generator, device=device) < drop
        kept = torch.where(dropped, self._empty, ids[rows])
        return Ambiguous(answers[rows].float(), valid, condition[rows].float(), kept, chosen)


def has_ambiguous(config: Config) -> bool:
    """Whether any of the families has samples with several valid answers."""
    return bool(_cells(config))


def _cells(config: Config) -> list[data.Cell]:
    """Where ambiguous samples are; levels without any are left out."""
    cells = [
        data.Cell(name, "in_domain", difficulty)
        for name in config.families
        if worlds[name].kind != "single"
        for difficulty in worlds[name].difficulties
    ]
    return [cell for cell in cells if int(_drawn(config, cell, torch.arange(32)).valid.max()) > 1]


def _drawn(config: Config, cell: data.Cell, index: Tensor) -> Answers:
    seed = data.stream(config, "transformer")
    return worlds[cell.family].answers(index, seed=seed, difficulty=cell.difficulty, split=cell.split)


@torch.no_grad()
def _encoded(config: Config, pool: data.LatentPool, cell: data.Cell, n: int) -> Ambiguous:
    """The first `n` samples of a cell, halves."""
    parts: list[Ambiguous] = []
    size = max(1, config.chunk // 4)
    for first in range(0, n, size):
        made = _drawn(config, cell, torch.arange(first, min(n, first + size), device=config.device))
        latents = pool.latents(made.videos.flatten(0, 1))
        parts.append(
            Ambiguous(
                latents.view(*made.videos.shape[:2], *latents.shape[1:]),
                made.valid,
                pool.condition(made.videos[:, 0]),  # that of every answer: they begin alike
                pool.tokens(made.prompts),
                torch.zeros_like(made.valid),
            )
        )
    return _joined(parts)


def _joined(parts: Sequence[Ambiguous]) -> Ambiguous:
    most = max(part.answers.shape[1] for part in parts)
    wide = [part._replace(answers=_widened(part.answers, most)) for part in parts]
    return Ambiguous(*(torch.cat(fields) for fields in zip(*wide, strict=True)))


def _widened(answers: Tensor, most: int) -> Tensor:
    """`answers` `[n, k, …]` with room for `most`: the last one again."""
    return torch.cat([answers, answers[:, -1:].expand(-1, most - answers.shape[1], *answers.shape[2:])], dim=1)
