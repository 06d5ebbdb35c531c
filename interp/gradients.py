"""Gradients of a step by its hidden states, taken in the traced pipeline itself.

A copy of each state that is asked for goes on in its place, so that the run stays what it is, bit for bit, and the
graph of the step begins there; when the step is over, the way back through that graph tells what a change of each copy
would do to x̂0 (`interp.attribution`).

Shape legend: f frames, y rows, x columns (of tokens; of the latent grid for x̂0), c channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

import store
from interp import resuming
from interp.errors import BadIntervention, UnsupportedModel
from interp.interventions import Need
from interp.interventions._base import Where
from interp.listeners import Upcoming
from interp.model import Model
from interp.recorder import Label
from interp.sites import LayerSite, StepSite, StepValues, sites
from store import Run

Tensor = torch.Tensor


def follow(
    model: Model,
    run: Run,
    acts: store.ActivationStore,
    listener: Ends,
    taps: Taps | None = None,
    *,
    start: resuming.Start | None = None,
) -> None:
    """Make a stored run again, until its listener has seen the last step that it wants.

    Args:
        model: That made the run.
        run: Which.
        acts: Where its sample is.
        listener: Told of each step.
        taps: What the model goes on with in the steps that have a graph; none has one without.
        start: Where to begin, if not at step 0.

    Raises:
        BadIntervention: if the run has no such step.
        UnsupportedModel: if the velocity of this model's scheduler has no gradient.
    """
    try:
        model.traced.run(
            sites=[],
            settings=run.settings,
            geometry=model.geometry(run.settings),
            listener=listener,
            editors=[] if taps is None else [taps],
            start=start,
            graphs=() if taps is None else taps.steps,
            **model.inputs(acts.sample(run.sample_id), seed=run.seed, settings=run.settings),
        )
    except _Enough:
        return
    raise BadIntervention(f"run {run.id} ended before step {listener.last}")


class _Enough(Exception):
    """All that is wanted has been seen."""


class Ends:
    """A listener that keeps x̂0 of one step."""

    def __init__(self, last: int) -> None:
        self.last = last
        """Step after which nothing more is wanted."""
        self.x0_hat: Tensor | None = None

    def wants(self, site: str, label: Label) -> bool:
        """See `interp.listeners.Listener`."""
        return False

    def layer(self, site: str, label: Label, value_bfyxc: Tensor) -> None:
        """See `interp.listeners.Listener`; none is asked for."""

    def step(self, values: StepValues) -> None:
        """See `interp.listeners.Listener`."""
        if values.info.step == self.last:
            site = sites["x0_hat"]
            assert isinstance(site, StepSite)
            self.x0_hat = site.value(values, None)[0].clone()
            raise _Enough


class Taps:
    """An editor that lets the model go on with a copy of each value, and keeps the copies of a step."""

    def __init__(self, needs: Sequence[Need], steps: Sequence[int]) -> None:
        self._needs = {need.site: need for need in needs}
        self.steps = tuple(steps)
        """Steps that have a graph."""
        self.passed: dict[tuple[str, Where], Tensor] = {}
        """Site and place → video tokens `[f, y, x, c]`, a part of the step's graph."""

    @property
    def sites(self) -> list[tuple[LayerSite, list[int]]]:
        """See `interp.listeners.Editor`."""
        found = [(sites[need.site], list(need.layers)) for need in self._needs.values()]
        return [(site, layers) for site, layers in found if isinstance(site, LayerSite)]

    def wants(self, site: str, label: Label) -> bool:
        """See `interp.listeners.Editor`."""
        return label.step in self.steps

    def layer(self, site: str, label: Label, value_fyxc: Tensor) -> Tensor:
        """See `interp.listeners.Editor`."""
        copy = value_fyxc.clone()
        if not copy.requires_grad:  # nothing before it has a gradient
            copy.requires_grad_()
        self.passed[site, Where(label.step, label.branch, label.layer, label.expert)] = copy
        return copy

    def text(self, site: str, label: Label, value_nc: Tensor) -> Tensor:
        """See `interp.listeners.Editor`; text stays."""
        return value_nc

    def latent(self, upcoming: Upcoming, value_fyxc: Tensor, first: int) -> Tensor:
        """See `interp.listeners.Editor`; x_s stays."""
        return value_fyxc

    def resets(self, step: int) -> bool:
        """See `interp.listeners.Editor`."""
        return False


class Moved(Taps):
    """The same, at states of one step that lie between both runs'; what comes after knows how they hang together."""

    def __init__(self, needs: Sequence[Need], step: int, line: Change) -> None:
        super().__init__(needs, (step,))
        self._line = line

    def layer(self, site: str, label: Label, value_fyxc: Tensor) -> Tensor:
        """See `interp.listeners.Editor`."""
        there = self._line(site, Where(label.step, label.branch, label.layer, label.expert), value_fyxc)
        # The value is that of the line, the gradient goes on to the states before.
        return super().layer(site, label, value_fyxc + (there - value_fyxc).detach())


class Attributed(NamedTuple):
    """Of one place, float32 `[f, y, x]` each."""

    attribution: Tensor
    difference: Tensor


Places = dict[tuple[str, Where], Attributed]
"""What was found, by site and place."""
Change = Callable[[str, Where, Tensor], Tensor]
"""Of a site, a place, and the value there, another `[f, y, x, c]`."""


class Backward(Ends):
    """A listener that goes back through each step's graph when the step is over.

    Args:
        taps: What the model goes on with.
        last: Step after which nothing more is wanted.
        change: What a patch would add to a value.
        towards: Gradient of the metric by x̂0.
    """

    def __init__(self, taps: Taps, last: int, change: Change, towards: Tensor) -> None:
        super().__init__(last)
        self._taps, self._change, self._towards = taps, change, towards
        self.found: Places = {}

    def step(self, values: StepValues) -> None:
        """See `interp.listeners.Listener`."""
        passed, self._taps.passed = self._taps.passed, {}
        if passed:
            velocity = values.velocity["guided"]
            if not velocity.requires_grad:
                raise UnsupportedModel(
                    "the guided velocity of this pipeline has no gradient by its blocks; attribution needs a "
                    "flow-matching scheduler and guidance that autograd sees"
                )
            # x̂0 = signal·x_s − sigma·v, and x_s is given: all that a state can change is v.
            by_velocity = (-values.info.sigma * self._towards)[None].to(velocity)
            gradients = torch.autograd.grad(velocity, list(passed.values()), by_velocity)
            for (place, value), gradient in zip(passed.items(), gradients, strict=True):
                self.found[place] = self._first_order(*place, value.detach(), gradient)
        if values.info.step == self.last:
            raise _Enough

    def _first_order(self, site: str, where: Where, value: Tensor, gradient: Tensor) -> Attributed:
        change = self._change(site, where, value.float())
        parts = (gradient.float() * change).sum(-1), change.square().sum(-1)
        return Attributed(*(part.cpu() for part in parts))
