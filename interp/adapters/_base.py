"""What a model family must say about itself so that it can be traced."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from interp.geometry import Geometry
from store.records import Sample, SamplerSettings

Tensor = torch.Tensor


class ModelAdapter(ABC):
    """A family of video diffusion pipelines: its denoisers, their blocks, its token grid.

    An adapter holds no state besides the pipeline: it only answers questions about it.

    Shape legend: b batch rows, n tokens, c channels, f frames, y rows, x columns.
    """

    pipelines: ClassVar[tuple[str, ...]]
    """Class names of the diffusers pipelines that this adapter serves."""

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self.pipeline: Any = pipeline

    @abstractmethod
    def denoisers(self) -> dict[str, torch.nn.Module]:
        """Expert name → denoiser, in the order in which they run."""

    @abstractmethod
    def blocks(self, denoiser: torch.nn.Module) -> torch.nn.ModuleList:
        """The transformer blocks of one denoiser, first to last."""

    @abstractmethod
    def defaults(self) -> dict[str, Any]:
        """Sampler settings of this family where nothing else is asked, without the scheduler."""

    @abstractmethod
    def check(self, settings: SamplerSettings) -> None:
        """Refuse what the pipeline would refuse or silently change.

        Raises:
            BadInput: with the pipeline's rule.
        """

    @abstractmethod
    def geometry(self, settings: SamplerSettings) -> Geometry:
        """Shapes of a run with `settings`."""

    @abstractmethod
    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """Keyword arguments of the pipeline call, without generator and output type."""

    @abstractmethod
    def guidance(self, settings: SamplerSettings, expert: str) -> float:
        """The guidance scale in force while `expert` runs; 1.0 where only the cond branch runs."""

    @abstractmethod
    def branches(self, context: str | None) -> tuple[str, ...]:
        """Which branch each batch row of the running forward belongs to.

        Args:
            context: Name of the `cache_context` under which the denoiser was called, if any.
        """

    @abstractmethod
    def tokens(self, hidden_bnc: Tensor, geometry: Geometry) -> Tensor:
        """Video tokens `[b, f, y, x, c]` of a hidden state (a view, text tokens cut off)."""

    @abstractmethod
    def latent(self, latent: Tensor, geometry: Geometry) -> Tensor:
        """A latent video of the sampler as `[b, f, y, x, c]` (a view)."""

    @abstractmethod
    def decode(self, latent_fyxc: Tensor) -> Tensor:
        """Pixels `[f, y, x, 3]` of one latent video, in 0-1, exactly as the pipeline decodes its result."""
