"""Who is told of a run as it happens, and who changes it.

Shape legend: b runs of the batch, n tokens, f frames, y rows, x columns, c channels.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch

from interp.recorder import Label
from interp.sites import LayerSite, StepValues
from store.records import StepInfo

Tensor = torch.Tensor


class Listener(Protocol):
    """Who is told what ran: a `Recorder`, or a test."""

    def wants(self, site: str, label: Label) -> bool:
        """Whether `layer` should be called for this value."""
        ...

    def layer(self, site: str, label: Label, value_bfyxc: Any) -> None:
        """One value of a layer's site in all runs: a tensor, or of a site with `attention` an `Attended` for each."""
        ...

    def step(self, values: StepValues) -> None:
        """One finished step."""
        ...


class Upcoming(NamedTuple):
    """The step that is about to begin, for who may change what it starts from."""

    step: int
    sigma: float
    """Its noise level; NaN at the first step that runs, before the scheduler has told."""
    clean_share: float
    """Coefficient of x0 in x_s at this noise level; NaN where sigma is."""
    initial: float
    """Standard deviation of the noise that sampling starts from."""
    before: StepValues | None
    """What the step before it did, of the run that is edited; None at the first step that runs."""


class Editor(Protocol):
    """Who changes values of one run: `interp.editing.Edits`, or a test."""

    @property
    def sites(self) -> list[tuple[LayerSite, list[int]]]:
        """Which sites of which layers it may change."""
        ...

    def wants(self, site: str, label: Label) -> bool:
        """Whether it changes this value."""
        ...

    def layer(self, site: str, label: Label, value_fyxc: Tensor) -> Tensor:
        """The video tokens that the model goes on with; `value_fyxc` itself if they stay."""
        ...

    def text(self, site: str, label: Label, value_nc: Tensor) -> Tensor:
        """The same for the text tokens of a value that holds some."""
        ...

    def latent(self, upcoming: Upcoming, value_fyxc: Tensor, first: int) -> Tensor:
        """The x_s that a step starts from, latent frames `first` on; `value_fyxc` itself if it stays."""
        ...

    def resets(self, step: int) -> bool:
        """Whether x_s of a step is changed in a way that a solver's past does not belong to."""
        ...


class Start(NamedTuple):
    """Where a run begins that does not begin at step 0."""

    step: int
    latent_bfyxc: Tensor
    """x_s of this step, in the dtype in which runs from step 0 would have it."""
    steps: tuple[StepInfo, ...]
    """The steps before it."""
