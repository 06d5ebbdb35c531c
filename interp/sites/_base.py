"""What a site is: a place in the run whose value can be kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch

from interp.geometry import Geometry, Grid
from store.records import StepInfo

Tensor = torch.Tensor


class StepValues(NamedTuple):
    """What one denoising step did, read where the scheduler is called."""

    info: StepInfo
    latent: Tensor
    """x_s `[b, f, y, x, c]` of b runs: the latent that the scheduler was given."""
    velocity: Mapping[str, Tensor]
    """Branch → v `[b, f, y, x, c]`; `guided` is what the scheduler was given."""
    signal: float = 1.0
    """x̂0 = signal·x_s − sigma·v (see `interp.noise`)."""

    def of(self, run: int) -> StepValues:
        """What it did in one run of the batch: the same without the axis b."""
        return self._replace(
            latent=self.latent[run], velocity={branch: value[run] for branch, value in self.velocity.items()}
        )


class Site(ABC):
    """A named place in a run."""

    name: ClassVar[str]
    branches: ClassVar[tuple[str, ...]]
    """Branches that it has, its default first; empty where the value belongs to the step as a whole."""
    latent_grid: ClassVar[bool]
    """Whether its grid is that of the latents, not that of the tokens."""
    decodable: ClassVar[bool] = False
    """Whether its values are latent videos, so that the VAE can make pixels of them."""
    attention: ClassVar[bool] = False
    """Whether its values are not tensors but what a self-attention is computed from (`interp.attention`)."""
    by_head: ClassVar[bool] = False
    """Whether its channels are those of all heads side by side, channel = head × head_dim."""

    @property
    @abstractmethod
    def per_layer(self) -> bool:
        """Whether there is one value for each layer."""

    def grid(self, geometry: Geometry) -> Grid:
        """Frames, rows and columns of its values."""
        return geometry.latent if self.latent_grid else geometry.tokens

    def channels(self, geometry: Geometry) -> int:
        """Channels of its values."""
        return geometry.latent_channels if self.latent_grid else geometry.width


class LayerSite(Site):
    """A site inside each block: the input or output of one of its modules.

    Which module that is, the adapter says (`ModelAdapter.modules`): families name theirs differently.
    """

    branches = ("cond", "uncond")
    latent_grid = False

    slot: ClassVar[str] = "output"
    """`input` (the hidden state that the module is given) or `output`; see also `ModelAdapter.slot`."""

    @property
    def per_layer(self) -> bool:
        """Always true."""
        return True


class StepSite(Site):
    """A site of the sampler: one value a step."""

    branches = ()
    latent_grid = True

    @property
    def per_layer(self) -> bool:
        """Never true."""
        return False

    @abstractmethod
    def value(self, step: StepValues, branch: str | None) -> Tensor:
        """Its value at a step, `[b, f, y, x, c]`, or `[f, y, x, c]` of a single run.

        Args:
            step: What the step did, in all runs or in one.
            branch: One of `branches`, or None where there are none.
        """
