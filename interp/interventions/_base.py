"""What an intervention is: a record of what changes, and the edits that carry it out.

Shape legend: f frames, y rows, x columns (of the token grid inside blocks, of the latent grid for x_s), c channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import torch

from interp import noise
from interp.adapters import ModelAdapter
from interp.errors import BadIntervention
from interp.geometry import Geometry
from interp.interventions._donor import Donor
from interp.sites import LayerSite, sites
from store.records import Json, ModelRef, Record, SamplerSettings, digest

Tensor = torch.Tensor

LATENT = "latent"
"""The site of x_s, which has neither layers nor branches."""


class Where(NamedTuple):
    """One value that is being changed."""

    step: int
    branch: str | None
    """None for x_s."""
    layer: int | None
    """None for x_s."""
    expert: str | None
    """None for x_s."""


class Upcoming(NamedTuple):
    """What is known of x_s when a step is about to begin, cut to the frames that may change."""

    step: int
    sigma: float
    clean_share: float
    """Coefficient of x0 in x_s; NaN at the first step that runs."""
    initial: float
    """Standard deviation of the noise that sampling starts from."""
    x0_hat_fyxc: Tensor | None
    """x̂0 that the step before predicted (guided), float32; None at the first step that runs."""
    first: int
    """Number of the first latent frame of the value; those before it are held fixed by the pipeline."""


class LayerEdit(NamedTuple):
    """A change of one site inside blocks."""

    site: str
    steps: frozenset[int]
    layers: frozenset[int]
    branches: frozenset[str]
    change: Callable[[Tensor, Where], Tensor] | None
    """Video tokens `[f, y, x, c]` → the same shape and dtype; None leaves them."""
    text: Callable[[Tensor, Where], Tensor] | None = None
    """Text tokens `[n, c]` → the same; None leaves them."""


class LatentEdit(NamedTuple):
    """A change of x_s."""

    steps: frozenset[int]
    change: Callable[[Tensor, Upcoming], Tensor]
    """x_s `[f, y, x, c]` of the frames from `Upcoming.first` on → the same shape and dtype."""


Edit = LayerEdit | LatentEdit


class Need(NamedTuple):
    """Values of another run that an intervention uses."""

    donor: Donor
    site: str
    steps: tuple[int, ...]
    layers: tuple[int, ...] = ()
    """Empty for x_s."""
    branches: tuple[str, ...] = ()
    """Empty for x_s."""
    text: bool = False
    """Whether text tokens are needed as well."""


class Given(Protocol):
    """Hands out what donors give."""

    def __call__(self, need: Need, where: Where) -> Tensor:
        """Video tokens or x_s `[f, y, x, c]` of a donor at one place."""
        ...

    def text(self, need: Need, where: Where) -> Tensor:
        """Text tokens `[n, c]` of a donor at one place."""
        ...


class Scope(NamedTuple):
    """The run that is intervened in, as far as it is known before it begins."""

    adapter: ModelAdapter
    geometry: Geometry
    settings: SamplerSettings
    model: ModelRef
    sample_id: str
    seed: int

    @property
    def branches(self) -> tuple[str, ...]:
        """Branches that run."""
        guided = any(self.adapter.guidance(self.settings, expert) > 1 for expert in self.geometry.experts)
        return ("cond", "uncond") if guided else ("cond",)

    def steps(self, wanted: Sequence[int] | None, *, kind: str) -> tuple[int, ...]:
        """Steps as asked; None asks for all.

        Raises:
            BadIntervention: if there is no such step.
        """
        return _chosen(wanted, tuple(range(self.settings.steps)), kind=kind, what="step")

    def layers(self, wanted: Sequence[int] | None, site: str, *, kind: str) -> tuple[int, ...]:
        """Layers of a site as asked; None asks for all.

        Raises:
            BadIntervention: if the model has no such site, or no such layer of it.
        """
        found = sites[site]
        there = self.adapter.layers(site) if isinstance(found, LayerSite) and not found.attention else ()
        if not there:
            known = ", ".join((*(name for name in self.adapter.modules if not sites[name].attention), LATENT))
            raise BadIntervention(f"{kind}: {type(self.adapter.pipeline).__name__} has no {site}; it has {known}")
        return _chosen(wanted, there, kind=f"{kind} of {site}", what="layer")

    def running(self, wanted: Sequence[str] | None, *, kind: str) -> tuple[str, ...]:
        """Branches as asked; None asks for all that run.

        Raises:
            BadIntervention: if a branch does not run.
        """
        for branch in wanted or ():
            if branch not in self.branches:
                why = "" if len(self.branches) > 1 else "; without guidance (scale 1 or below) uncond does not run"
                raise BadIntervention(f"{kind} asks for branch {branch!r}; there are {', '.join(self.branches)}{why}")
        return self.branches if wanted is None else tuple(wanted)

    def noise(self, shape: Sequence[int], *purpose: object) -> Tensor:
        """Standard normal float32 numbers that this run, and no other, has for a purpose; the same on every device."""
        number = int(digest("noise", self.sample_id, str(self.seed), *map(str, purpose))[:15], 16)
        return torch.randn(tuple(shape), generator=torch.Generator("cpu").manual_seed(number))


class Intervention(Record, ABC):
    """A change of a run, as data: what, where, when. Fields with their defaults are left out of its JSON.

    What it changes inside blocks or of x_s it hands out as edits; when these are carried out, and on what, is the
    business of `interp.trace`.
    """

    kind: ClassVar[str]
    """Its name in records, files and on the command line."""

    def to_json(self) -> Json:
        """As a run's record keeps it."""
        return {"kind": self.kind, **self.model_dump(mode="json", exclude_defaults=True)}

    def planned(self, scheduler: Any) -> Intervention:
        """What will be done with this scheduler; a solver's past is emptied where x_s no longer belongs to it."""
        return self

    @abstractmethod
    def check(self, scope: Scope) -> None:
        """Refuse what this run does not have.

        Raises:
            BadIntervention: with what there is, before anything runs.
        """

    @abstractmethod
    def begins(self, scope: Scope) -> int:
        """First step that must run for it; those before may be taken from a clean run."""

    def needs(self, scope: Scope) -> tuple[Need, ...]:
        """What it uses of other runs."""
        return ()

    @abstractmethod
    def edits(self, scope: Scope, given: Given) -> tuple[Edit, ...]:
        """The changes.

        Args:
            scope: The run.
            given: Hands out what `needs` has asked for.
        """


class XsIntervention(Intervention):
    """A change of x_s itself, which a multistep solver must be told."""

    reset: bool = False
    """Whether the past of a multistep solver is emptied at each changed step; set when a run is planned."""

    def planned(self, scheduler: Any) -> Intervention:
        """See `Intervention.planned`."""
        return self.model_copy(update={"reset": noise.remembers(scheduler)})


def _chosen(wanted: Sequence[int] | None, there: tuple[int, ...], *, kind: str, what: str) -> tuple[int, ...]:
    if wanted is None:
        return there
    if not wanted:
        raise BadIntervention(f"{kind} names no {what}; leave {what}s out for all of them")
    for number in wanted:
        if number not in there:
            span = f"{there[0]} to {there[-1]}" if there == tuple(range(there[0], there[-1] + 1)) else f"{there}"
            raise BadIntervention(f"{kind} asks for {what} {number}, but there are {len(there)}: {span}")
    return tuple(sorted(set(wanted)))
