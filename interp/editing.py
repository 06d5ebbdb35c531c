"""Carries out the edits of a run's interventions, in their order, where `interp.trace` asks for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from interp.interventions import Edit, LatentEdit, LayerEdit
from interp.interventions._base import Upcoming, Where
from interp.listeners import Upcoming as Traced
from interp.recorder import Label
from interp.sites import LayerSite, StepSite, sites

Tensor = torch.Tensor


class Edits:
    """The edits of one run.

    Args:
        edits: In the order in which they are applied.
        resets: Steps before which the past of a multistep solver is emptied.
    """

    def __init__(self, edits: Sequence[Edit], *, resets: frozenset[int] = frozenset()) -> None:
        self.edits = tuple(edits)
        self.reset_steps = resets
        self._layers = [edit for edit in edits if isinstance(edit, LayerEdit)]
        self._latents = [edit for edit in edits if isinstance(edit, LatentEdit)]

    @property
    def sites(self) -> list[tuple[LayerSite, list[int]]]:
        """See `interp.listeners.Editor`."""
        wanted: dict[str, set[int]] = {}
        for edit in self._layers:
            wanted.setdefault(edit.site, set()).update(edit.layers)
        found = [(sites[name], sorted(layers)) for name, layers in wanted.items()]
        return [(site, layers) for site, layers in found if isinstance(site, LayerSite)]

    def wants(self, site: str, label: Label) -> bool:
        """See `interp.listeners.Editor`."""
        return any(_meets(edit, site, label) for edit in self._layers)

    def layer(self, site: str, label: Label, value_fyxc: Tensor) -> Tensor:
        """See `interp.listeners.Editor`."""
        where = Where(label.step, label.branch, label.layer, label.expert)
        for edit in self._layers:
            if edit.change is not None and _meets(edit, site, label):
                value_fyxc = edit.change(value_fyxc, where)
        return value_fyxc

    def text(self, site: str, label: Label, value_nc: Tensor) -> Tensor:
        """See `interp.listeners.Editor`."""
        where = Where(label.step, label.branch, label.layer, label.expert)
        for edit in self._layers:
            if edit.text is not None and _meets(edit, site, label):
                value_nc = edit.text(value_nc, where)
        return value_nc

    def latent(self, upcoming: Traced, value_fyxc: Tensor, first: int) -> Tensor:
        """See `interp.listeners.Editor`."""
        meets = [edit for edit in self._latents if upcoming.step in edit.steps]
        if not meets:
            return value_fyxc
        x0_hat = None
        if upcoming.before is not None:
            site = sites["x0_hat"]
            assert isinstance(site, StepSite)
            x0_hat = site.value(upcoming.before, None)[first:]
        known = Upcoming(upcoming.step, upcoming.sigma, upcoming.clean_share, upcoming.initial, x0_hat, first)
        for edit in meets:
            value_fyxc = edit.change(value_fyxc, known)
        return value_fyxc

    def resets(self, step: int) -> bool:
        """See `interp.listeners.Editor`."""
        return step in self.reset_steps


def _meets(edit: LayerEdit, site: str, label: Label) -> bool:
    return (
        edit.site == site and label.step in edit.steps and label.layer in edit.layers and label.branch in edit.branches
    )
