"""What interventions inside blocks share: a site, a window of layers and steps, branches, a region of its tokens."""

from __future__ import annotations

from typing import Any, Literal

import torch

from interp.errors import BadIntervention
from interp.interventions._base import LATENT, Edit, LatentEdit, LayerEdit, Scope, Upcoming, Where, XsIntervention
from interp.interventions._region import Region
from interp.sites import sites

Tensor = torch.Tensor


class Window(XsIntervention):
    """A site in a window of layers × steps × branches, and a region of it.

    The site may also be `latent`, x_s itself, which has neither layers, branches nor heads.
    """

    site: str = "resid_post"
    """A site inside blocks, or `latent`."""
    layers: tuple[int, ...] | None = None
    """None for all that have the site."""
    steps: tuple[int, ...] | None = None
    """None for all."""
    branches: tuple[str, ...] | None = None
    """None for all that run."""
    region: Region | Literal["text", "all"] | None = None
    """Video tokens (a box or mask of cells, None for all of them), `text` tokens where a value holds some, or `all`."""
    heads: tuple[int, ...] | None = None
    """Of the sites q, k, v and z (what each head attends to, before the output projection); None for all."""

    def planned(self, scheduler: Any) -> Any:
        """See `Intervention.planned`; inside blocks a solver's past stays what it is."""
        return super().planned(scheduler) if self.site == LATENT else self

    def check(self, scope: Scope) -> None:
        """See `Intervention.check`."""
        scope.steps(self.steps, kind=self.kind)
        if self.site == LATENT:
            given = {"layers": self.layers, "branches": self.branches, "heads": self.heads}
            if named := [name for name, value in given.items() if value is not None]:
                raise BadIntervention(f"{self.kind}: latent has no {named[0]}: x_s is one value a step; leave it out")
            if isinstance(self.region, str):
                raise BadIntervention(
                    f"{self.kind}: latent has no text tokens; leave the region out, or give a box or mask"
                )
        else:
            layers = scope.layers(self.layers, self.site, kind=self.kind)
            scope.running(self.branches, kind=self.kind)
            self._check_text(scope, layers)
            self._check_heads(scope)
        self.cells(scope, torch.device("cpu"))

    def _check_text(self, scope: Scope, layers: tuple[int, ...]) -> None:
        if not isinstance(self.region, str):
            return
        there = scope.adapter.text_layers(self.site)
        if missing := [layer for layer in layers if layer not in there]:
            raise BadIntervention(
                f"{self.kind}: {self.site} of layer {missing[0]} holds no text tokens in "
                f"{type(scope.adapter.pipeline).__name__}; layers that do: {', '.join(map(str, there)) or 'none'}"
            )

    def _check_heads(self, scope: Scope) -> None:
        if self.heads is None:
            return
        if not sites[self.site].by_head:
            headed = ", ".join(site.name for site in sites if site.by_head)
            raise BadIntervention(f"{self.kind}: {self.site} has no heads; {headed} have")
        there = scope.adapter.heads
        if not self.heads:
            raise BadIntervention(f"{self.kind} names no head; there are 0 to {there - 1}, leave heads out for all")
        for head in self.heads:
            if not 0 <= head < there:
                raise BadIntervention(f"{self.kind} asks for head {head}, but there are {there}: 0 to {there - 1}")

    def begins(self, scope: Scope) -> int:
        """See `Intervention.begins`."""
        return min(scope.steps(self.steps, kind=self.kind))

    def cells(self, scope: Scope, device: torch.device) -> Tensor | None:
        """Which cells are changed, bool `[f, y, x, 1]`; None for all."""
        if self.region is None or isinstance(self.region, str):
            return None
        grid = scope.geometry.latent if self.site == LATENT else scope.geometry.tokens
        return torch.from_numpy(self.region.mask(grid, kind=self.kind)).to(device)[..., None]

    def channels(self, scope: Scope, device: torch.device) -> Tensor | None:
        """Which channels are changed, bool `[c]`; None for all."""
        if self.heads is None:
            return None
        each = torch.zeros(scope.adapter.heads, dtype=torch.bool, device=device)
        each[list(self.heads)] = True
        return each.repeat_interleave(scope.geometry.width // scope.adapter.heads)

    def within(self, scope: Scope, change: Any, text: Any = None) -> Edit:
        """The edit that makes `change` inside the region and nowhere else.

        Args:
            scope: The run.
            change: `(value_fyxc, where) -> value_fyxc`.
            text: The same for text tokens `[n, c]`.
        """
        steps = frozenset(scope.steps(self.steps, kind=self.kind))
        masks: dict[torch.device, tuple[Tensor | None, Tensor | None]] = {}

        def inside(value: Tensor, new: Tensor, first: int = 0) -> Tensor:
            if value.device not in masks:
                masks[value.device] = self.cells(scope, value.device), self.channels(scope, value.device)
            cells, channels = masks[value.device]
            if cells is not None and value.ndim == cells.ndim:
                new = torch.where(cells[first:], new, value)
            return new if channels is None else torch.where(channels, new, value)

        def edited(how: Any) -> Any:
            return lambda value, where: inside(value, how(value, where))

        if self.site == LATENT:

            def on_latent(value: Tensor, upcoming: Upcoming) -> Tensor:
                return inside(value, change(value, Where(upcoming.step, None, None, None)), upcoming.first)

            return LatentEdit(steps, on_latent)
        return LayerEdit(
            site=self.site,
            steps=steps,
            layers=frozenset(scope.layers(self.layers, self.site, kind=self.kind)),
            branches=frozenset(scope.running(self.branches, kind=self.kind)),
            change=None if self.region == "text" else edited(change),
            text=edited(text) if isinstance(self.region, str) else None,
        )
