"""Data made on the device: mixed batches of worlds, and a pool of their latents.

Shapes: n samples, F = 17 video frames, H×W pixels, C latent channels, T = 5 latent frames, h×w latent cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from interp.worlds import worlds
from training import onepass
from training.config import Config

CHUNK = 1024
"""Samples drawn at once."""
ENCODE = 256
"""Videos encoded at once."""
RESERVED = 1 << 40
"""World seeds from here on belong to training, so whatever is generated with a smaller one is held out."""


@dataclass(frozen=True, kw_only=True)
class Mix:
    """An endless stream of samples that takes families and difficulties in turn."""

    families: tuple[str, ...]
    seed: int
    device: str
    splits: tuple[str, ...] = ("in_domain",)

    def cells(self) -> list[tuple[str, str, str]]:
        """Family, split and difficulty that take turns."""
        return [(f, split, d) for f in self.families for split in self.splits for d in worlds[f].difficulties]

    def draw(self, start: int, n: int) -> tuple[Tensor, list[str]]:
        """Samples `start` to `start + n`, in that order: videos uint8 `[n, F, H, W, 3]` and prompts."""
        videos: list[Tensor] = []
        prompts: list[str] = []
        drawn: list[Tensor] = []
        cells = self.cells()
        numbers = torch.arange(start, start + n, device=self.device)
        for turn, (family, split, difficulty) in enumerate(cells):
            mine = numbers[numbers % len(cells) == turn]
            if len(mine):
                index = mine // len(cells)
                batch = worlds[family].draw(index, seed=self.seed, difficulty=difficulty, split=split)
                videos.append(batch.video)
                prompts += batch.prompts
                drawn.append(mine)
        order = torch.cat(drawn).argsort()
        return torch.cat(videos)[order], [prompts[i] for i in order.tolist()]


def latent_grid(config: Config) -> tuple[int, int, int]:
    """T, h, w."""
    return (config.frames - 1) // 4 + 1, config.height // 8, config.width // 8


def to_model(video: Tensor) -> Tensor:
    """uint8 `[n, F, H, W, 3]` as float32 `[n, 3, F, H, W]` in -1…1."""
    return video.permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def condition_video(video: Tensor) -> Tensor:
    """What the pipeline encodes as image condition: the first frame, then zeros (mid grey)."""
    condition = torch.zeros_like(video)
    condition[:, :, 0] = video[:, :, 0]
    return condition


@torch.no_grad()
def encode(vae: AutoencoderKLWan, video: Tensor) -> Tensor:
    """Normalised modes of the posterior, as the pipeline makes them, float32 `[n, C, T, h, w]`."""
    latents = torch.cat([onepass.encode(vae, part)[0] for part in video.split(ENCODE)])
    mean, std = (
        torch.tensor(values, device=latents.device).view(1, -1, 1, 1, 1)
        for values in (vae.config["latents_mean"], vae.config["latents_std"])
    )
    return (latents - mean) / std


def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Normalised latents `[n, C, T, h, w]` as video in -1…1."""
    mean, std = (
        torch.tensor(values, device=latents.device).view(1, -1, 1, 1, 1)
        for values in (vae.config["latents_mean"], vae.config["latents_std"])
    )
    return vae.decode(latents * std + mean).sample


def mask_channels(like: Tensor) -> Tensor:
    """The pipeline's first-frame mask for latents `like`: one in the first latent frame, `[n, 4, T, h, w]`."""
    mask = like.new_zeros(like.shape[0], 4, *like.shape[2:])
    mask[:, :, 0] = 1
    return mask


class LatentPool:
    """Latents, image conditions and prompt tokens of many samples, on the device; old ones are replaced."""

    def __init__(self, config: Config, vae: AutoencoderKLWan, tokenizer: PreTrainedTokenizerFast) -> None:
        self._config = config
        self._vae = vae
        self._tokenizer = tokenizer
        self._mix = Mix(families=config.families, seed=RESERVED + config.seed, device=config.device)
        n, channels = config.transformer.pool, config.model.latent_channels
        self._latents = torch.zeros(n, channels, *latent_grid(config), dtype=torch.float16, device=config.device)
        self._condition = torch.zeros_like(self._latents)
        self._ids = torch.zeros(n, config.model.max_sequence_length, dtype=torch.int64, device=config.device)
        self._empty = self._tokens([""])[0]

    def fill(self, start: int, n: int) -> Iterator[int]:
        """Put samples `start` to `start + n` of the stream in; yields how many are in after each chunk."""
        for done in range(0, n, CHUNK):
            size = min(CHUNK, n - done)
            rows = torch.arange(start + done, start + done + size, device=self._config.device) % len(self._latents)
            video, prompts = self._mix.draw(start + done, size)
            pixels = to_model(video)
            self._latents[rows] = encode(self._vae, pixels).half()
            self._condition[rows] = encode(self._vae, condition_video(pixels)).half()
            self._ids[rows] = self._tokens(prompts)
            yield done + size

    def _tokens(self, prompts: list[str]) -> Tensor:
        length = self._config.model.max_sequence_length
        encoded = self._tokenizer(prompts, padding="max_length", max_length=length, truncation=True)
        return torch.tensor(encoded["input_ids"], device=self._config.device)

    def batch(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """`n` random samples: latents and condition float32 `[n, C, T, h, w]`, token ids int64 `[n, length]`.

        A part of the prompts is replaced by the empty one, for classifier-free guidance.
        """
        device = self._latents.device
        rows = torch.randint(len(self._latents), (n,), generator=generator, device=device)
        dropped = torch.rand(n, 1, generator=generator, device=device) < self._config.transformer.drop_prompt
        ids = torch.where(dropped, self._empty, self._ids[rows])
        return self._latents[rows].float(), self._condition[rows].float(), ids
