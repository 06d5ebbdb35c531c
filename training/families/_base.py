"""What training asks of a family of models.

Shapes: n samples, F video frames, C latent channels, T latent frames, h×w latent cells. Latents are `[n, C, T, h, w]`
and normalised everywhere but inside of `posterior` and `decoded`; a family turns them for its own denoiser.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from training import tokenizer as tokens
from training.config import ModelConfig
from training.process import Process

ENCODE = 256
"""Videos encoded at once."""
Encoder = Callable[[Any, Tensor], tuple[Tensor, Tensor]]
"""`Family.posterior`, compiled or not."""


def text_options(config: ModelConfig) -> dict[str, Any]:
    """What the prompts' encoders of all families have in common, as the configs of T5 and its kin call it."""
    return {
        "vocab_size": len(tokens.vocabulary()),
        "d_model": config.text_dim,
        "d_kv": 32,
        "d_ff": 2 * config.text_dim,
        "num_layers": config.text_layers,
        "num_heads": 4,
        "dropout_rate": 0.0,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "is_encoder_decoder": False,
        "use_cache": False,
    }


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a pipeline is made of."""

    vae: Any
    text_encoder: Any
    transformer: Any
    tokenizer: PreTrainedTokenizerFast
    scheduler: Any

    def components(self) -> dict[str, Any]:
        """The parts by the names that the pipeline gives them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Family(ABC):
    """One kind of models: how its parts are built, and what its pipeline does between them."""

    name: ClassVar[str]
    """As `ModelConfig.family` says it."""
    pipeline: ClassVar[type[Any]]
    """The real pipeline."""
    batched: ClassVar[type[Any]]
    """The same for many pictures at once, to measure with."""
    autoencoder: ClassVar[type[nn.Module]]
    denoiser: ClassVar[type[nn.Module]]
    what: ClassVar[str]
    """What its model is, for the card."""
    sampler: ClassVar[str]
    """What samples, likewise."""
    levels: ClassVar[str]
    """The noise levels that it is trained at, likewise."""
    measures: ClassVar[tuple[str, ...]]
    """What `moments` gives, as the autoencoder's config calls it."""
    variants: ClassVar[bool] = False
    """Whether a few-step LoRA and two experts are made of it."""

    # What it is made of

    @abstractmethod
    def vae(self, config: Any) -> nn.Module:
        """The autoencoder, with random weights."""

    @abstractmethod
    def text_encoder(self, config: Any) -> nn.Module:
        """The prompt's encoder, likewise."""

    @abstractmethod
    def transformer(self, config: Any) -> nn.Module:
        """The denoiser, likewise."""

    @abstractmethod
    def scheduler(self, config: ModelConfig) -> Any:
        """What samples."""

    @abstractmethod
    def process(self, scheduler: Any) -> Process:
        """How noise is put on latents, and what is predicted."""

    # Its autoencoder

    @abstractmethod
    def posterior(self, vae: Any, video: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each `[n, C, T, h, w]`, of the latents of a video `[n, 3, F, H, W]` in -1…1."""

    @abstractmethod
    def decoded(self, vae: Any, latents: Tensor) -> Tensor:
        """Video `[n, 3, F, H, W]`, not clamped, of latents that are not normalised."""

    @abstractmethod
    def moments(self, latents: Tensor) -> dict[str, Any]:
        """What the autoencoder's config is told of latents that are not normalised, so that they are to be."""

    def settle(self, vae: Any, moments: Mapping[str, Any]) -> None:
        """Make a trained autoencoder what its pipeline expects; `moments` may hold more."""
        vae.register_to_config(**{name: moments[name] for name in self.measures})

    @abstractmethod
    def spread(self, vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation by which latents are normalised, to be broadcast over `like`."""

    @abstractmethod
    def condition(self, video: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """The image condition `[n, C, T, h, w]` of videos, from normalised latents that `encode` gives of others."""

    @torch.no_grad()
    def encode(self, vae: Any, video: Tensor, *, run: Encoder | None = None) -> Tensor:
        """Normalised modes of the posterior, float32; `run` in the place of `posterior`."""
        run = run or self.posterior
        latents = torch.cat([run(vae, part)[0] for part in video.split(ENCODE)])
        mean, std = self.spread(vae, latents)
        return (latents - mean) / std

    @torch.no_grad()
    def decode(self, vae: Any, latents: Tensor) -> Tensor:
        """Video in -1…1 of normalised latents, clamped as the pipeline clamps it."""
        mean, std = self.spread(vae, latents)
        return torch.cat([self.decoded(vae, part).clamp(-1, 1) for part in (latents * std + mean).split(ENCODE)])

    # Its denoiser

    @abstractmethod
    def embed(self, parts: Parts, ids: Tensor) -> Tensor:
        """Prompt embeddings of token ids `[n, length]`, as the pipeline makes them."""

    @abstractmethod
    def predict(self, parts: Parts, noisy: Tensor, condition: Tensor, level: Tensor, text: Tensor) -> Tensor:
        """What the denoiser predicts, `[n, C, T, h, w]`, at levels `[n]` of its process, for embeddings `text`."""

    @abstractmethod
    def compile(self, transformer: Any) -> None:
        """Compile the denoiser's blocks for training, with what compiles to faster ones and computes the same."""

    def latents(self, sampled: Tensor) -> Tensor:
        """`[n, C, T, h, w]` of what the sampler holds."""
        return sampled

    @abstractmethod
    def lower(self, pipe: Any, dtype: torch.dtype) -> None:
        """Let the denoiser of `pipe` compute in `dtype`, in place."""
