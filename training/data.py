"""Data made on the device: mixed batches of worlds, and a pool of their latents.

Shapes: n samples, F = 17 video frames, H×W pixels, C latent channels, T = 5 latent frames, h×w latent cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from interp.worlds import FRAMES, SIZE, worlds
from training import families, parallel
from training.config import Config
from training.families import ENCODE, Encoder

RESERVED = 1 << 40
"""World seeds from here on belong to training, so whatever is generated with a smaller one is held out."""
STREAMS = ("transformer", "vae")


def stream(config: Config, purpose: str) -> int:
    """World seed of this rank's samples for one of `STREAMS`: no two runs, purposes or ranks share one."""
    return RESERVED + (config.seed * len(STREAMS) + STREAMS.index(purpose)) * 1024 + parallel.rank()


class Cell(NamedTuple):
    """One kind of sample in a mix."""

    family: str
    split: str
    difficulty: str


@dataclass(frozen=True, kw_only=True)
class Mix:
    """An endless stream of samples that takes families and difficulties in turn."""

    families: tuple[str, ...]
    seed: int
    device: str
    splits: tuple[str, ...] = ("in_domain",)
    weights: Mapping[str, int] = field(default_factory=dict[str, int])
    """Turns of a family in each round; one where it is not named."""

    def turns(self) -> list[tuple[Cell, int]]:
        """One round: whose turn it is, and which of its turns."""
        cells = [
            Cell(family, split, difficulty)
            for family in self.families
            for split in self.splits
            for difficulty in worlds[family].difficulties
        ]
        most = max(self.weights.get(family, 1) for family in self.families)
        return [(cell, nth) for nth in range(most) for cell in cells if nth < self.weights.get(cell.family, 1)]

    def draw(self, start: int, n: int) -> tuple[Tensor, list[str]]:
        """Samples `start` to `start + n`, in that order: videos uint8 `[n, F, H, W, 3]` and prompts."""
        turns = self.turns()
        videos = torch.empty(n, FRAMES, SIZE, SIZE, 3, dtype=torch.uint8, device=self.device)
        prompts = [""] * n
        numbers: dict[Cell, tuple[list[int], list[int]]] = {}
        share = {cell: nth + 1 for cell, nth in turns}  # the last turn of a cell tells how many it has
        for position in range(n):
            lap, turn = divmod(start + position, len(turns))
            cell, nth = turns[turn]
            positions, indices = numbers.setdefault(cell, ([], []))
            positions.append(position)
            indices.append(lap * share[cell] + nth)
        for cell, (positions, indices) in numbers.items():
            index = torch.tensor(indices, device=self.device)
            batch = worlds[cell.family].draw(index, seed=self.seed, difficulty=cell.difficulty, split=cell.split)
            videos[torch.tensor(positions, device=self.device)] = batch.video
            for position, prompt in zip(positions, batch.prompts, strict=True):
                prompts[position] = prompt
        return videos, prompts


def latent_grid(config: Config) -> tuple[int, int, int]:
    """T, h, w."""
    return (config.frames - 1) // 4 + 1, config.height // config.model.cell, config.width // config.model.cell


def to_model(video: Tensor) -> Tensor:
    """uint8 `[n, F, H, W, 3]` as float32 `[n, 3, F, H, W]` in -1…1."""
    return video.permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def to_uint8(video: Tensor) -> Tensor:
    """The inverse of `to_model`, clamped."""
    return (video.float() * 127.5 + 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 4, 1)


def encode(vae: nn.Module, video: Tensor) -> Tensor:
    """Normalised modes of the posterior, as the pipeline makes them, float32 `[n, C, T, h, w]`."""
    return families.of(vae).encode(vae, video)


def decode(vae: nn.Module, latents: Tensor) -> Tensor:
    """Normalised latents `[n, C, T, h, w]` as video in -1…1, clamped as the pipeline clamps it."""
    return families.of(vae).decode(vae, latents)


class LatentPool:
    """Latents, image conditions and prompt tokens of the newest samples of a stream, on the device.

    Args:
        config: Sizes, families and the stream's seed.
        vae: Trained; it encodes.
        tokenizer: Of the prompts.
    """

    def __init__(self, config: Config, vae: nn.Module, tokenizer: PreTrainedTokenizerFast) -> None:
        self._config, self._vae, self._tokenizer = config, vae, tokenizer
        self._mix = Mix(
            families=config.families,
            seed=stream(config, "transformer"),
            device=config.device,
            weights=config.weights,
        )
        n, channels = config.transformer.pool, config.model.latent_channels
        self._latents = torch.zeros(n, channels, *latent_grid(config), dtype=torch.float16, device=config.device)
        self._condition = torch.zeros_like(self._latents)
        self._ids = torch.zeros(n, config.model.max_sequence_length, dtype=torch.int64, device=config.device)
        self._end = 0
        self._family = families.of(vae)
        run = self._family.posterior
        self._compiled: Encoder = torch.compile(run, dynamic=False) if config.compile else run
        self.empty = self.tokens([""])[0]
        """Token ids of the empty prompt."""

    def advance(self, end: int, *, report: Callable[[int], None] = lambda done: None) -> None:
        """Hold the samples before number `end` of the stream, as many as there is room for.

        Args:
            end: Samples of the stream that have been seen, from its beginning.
            report: Told how many samples are in after each chunk.
        """
        start = max(self._end, end - len(self._latents))
        for first in range(start, end, self._config.chunk):
            size = min(self._config.chunk, end - first)
            video, prompts = self._mix.draw(first, size)
            rows = torch.arange(first, first + size, device=self._config.device) % len(self._latents)
            self._latents[rows], self._condition[rows] = self.latents(video), self.condition(video)
            self._ids[rows] = self.tokens(prompts)
            report(first + size - start)
        self._end = max(self._end, end)

    def latents(self, video: Tensor) -> Tensor:
        """Latents, float16 `[n, C, T, h, w]`, of videos uint8 `[n, F, H, W, 3]`."""
        return self._encoded(video, lambda pixels, encode: encode(pixels))

    def condition(self, video: Tensor) -> Tensor:
        """Image conditions of the same kind: of the first frames."""
        return self._encoded(video, self._family.condition)

    def _encoded(self, video: Tensor, made_by: Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]) -> Tensor:
        made: list[Tensor] = []
        for part in video.split(ENCODE):
            run = self._compiled if len(part) == ENCODE else None  # compiled for one size only
            pixels = to_model(part).contiguous(memory_format=torch.channels_last_3d)
            made.append(made_by(pixels, partial(self._family.encode, self._vae, run=run)).half())
        return torch.cat(made)

    def tokens(self, prompts: list[str]) -> Tensor:
        """Token ids of prompts, int64 `[n, length]`."""
        length = self._config.model.max_sequence_length
        encoded = self._tokenizer(prompts, padding="max_length", max_length=length, truncation=True)
        return torch.tensor(encoded["input_ids"], device=self._config.device)

    def batch(self, n: int, generator: torch.Generator, *, drop: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """`n` random samples: latents and condition float32 `[n, C, T, h, w]`, token ids int64 `[n, length]`.

        A share `drop` of the prompts is replaced by the empty one, for classifier-free guidance.
        """
        device = self._latents.device
        rows = torch.randint(len(self._latents), (n,), generator=generator, device=device)
        dropped = torch.rand(n, 1, generator=generator, device=device) < drop
        ids = torch.where(dropped, self.empty, self._ids[rows])
        return self._latents[rows].float(), self._condition[rows].float(), ids
