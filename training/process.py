"""How noise is put on latents: x_s = signal·x0 + sigma·noise, and v, which is predicted.

A *level* is what a process counts noise in, the number that its denoiser is given (over a constant). A *share* of noise
is sigma / (signal + sigma), which compares processes: from 0 for no noise to 1 for nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor


class Process(ABC):
    """Levels are tensors `[n]`."""

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator, *, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Random levels to train at, of noise shares between `low` and `high`."""

    @abstractmethod
    def at(self, share: Tensor) -> Tensor:
        """The levels with these noise shares, or the nearest that there are."""

    @abstractmethod
    def coefficients(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and sigma, so that x_s = signal·x0 + sigma·noise."""

    @abstractmethod
    def velocity(self, latents: Tensor, noise: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
        """What is predicted. In both processes an x0 that is off by d, at the same x_s, changes v by -d / sigma."""


class Flow(Process):
    """Flow matching: signal = 1 - sigma and v = noise - x0; the level is sigma, which is the noise share.

    Args:
        shift: Of the schedule that samples, and of the levels to train at.
    """

    def __init__(self, shift: float) -> None:
        self._shift = shift

    def draw(self, n: int, generator: torch.Generator, *, low: float = 0.0, high: float = 1.0) -> Tensor:
        """See `Process.draw`: a logit-normal number, shifted towards noise."""
        shift = self._shift
        ends = torch.tensor([low, high], dtype=torch.float64)
        below = torch.special.ndtr(torch.logit(ends / (shift - (shift - 1) * ends)))  # share of numbers below each end
        u = torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64)
        u = below[0].item() + (below[1] - below[0]).item() * u.clamp(1e-7, 1 - 1e-7)
        plain = torch.sigmoid(torch.special.ndtri(u))
        return (shift * plain / (1 + (shift - 1) * plain)).float()

    def at(self, share: Tensor) -> Tensor:
        """See `Process.at`."""
        return share

    def coefficients(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """See `Process.coefficients`."""
        return 1 - level, level

    def velocity(self, latents: Tensor, noise: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
        """See `Process.velocity`."""
        return noise - latents


class Preserving(Process):
    """Variance preserving: signal² + sigma² = 1 and v = signal·noise - sigma·x0; the level is the timestep.

    Args:
        scheduler: Its table of noise levels, one for each timestep.
    """

    def __init__(self, scheduler: Any) -> None:
        kept = scheduler.alphas_cumprod.double()
        self._signal, self._sigma = kept.sqrt(), (1 - kept).sqrt()
        self._share = self._sigma / (self._signal + self._sigma)

    def draw(self, n: int, generator: torch.Generator, *, low: float = 0.0, high: float = 1.0) -> Tensor:
        """See `Process.draw`: every timestep is as likely as another, as the sampler takes them."""
        allowed = torch.nonzero((self._share >= low) & (self._share <= high)).flatten().to(generator.device)
        return allowed[torch.randint(len(allowed), (n,), generator=generator, device=generator.device)]

    def at(self, share: Tensor) -> Tensor:
        """See `Process.at`."""
        middles = (self._share[1:] + self._share[:-1]) / 2
        return torch.searchsorted(middles.to(share.device, share.dtype), share.contiguous())

    def coefficients(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """See `Process.coefficients`."""
        return self._signal.to(level.device)[level].float(), self._sigma.to(level.device)[level].float()

    def velocity(self, latents: Tensor, noise: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
        """See `Process.velocity`."""
        return signal * noise - sigma * latents
