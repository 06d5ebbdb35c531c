"""Takes the labelled values of a trace, reduces them on the device and streams the planned cells out.

Shape legend: b runs of the batch, f frames, y rows, x columns, c channels. Blocks leave with the axis b in front.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from interp.adapters import ModelAdapter
from interp.errors import InterpError
from interp.planning import ArrayPlan, Plan
from interp.quantising import encoded
from interp.sites import StepSite, StepValues
from interp.stream import Stream
from store import dims

Tensor = torch.Tensor


class Label(NamedTuple):
    """What ran when a value was seen."""

    step: int
    branch: str
    expert: str
    layer: int


class Recorder:
    """Keeps the cells of a plan.

    Cells that are small wait on the device until their step is complete and leave as one block;
    cells of a `by_cell` reduction leave at once.
    """

    def __init__(
        self, plan: Plan, adapter: ModelAdapter, stream: Stream, *, on_step: Callable[[int], object] = lambda runs: None
    ) -> None:
        self._on_step = on_step
        self._arrays = [_Array(array, adapter, stream) for array in plan.arrays]
        self._by_site: dict[str, list[_Array]] = {}
        for array in self._arrays:
            self._by_site.setdefault(array.plan.site.name, []).append(array)

    def layer(self, site: str, label: Label, value_bfyxc: Any) -> None:
        """One value of a layer's site in all runs, `[b, f, y, x, c]`, or of a site with `attention` a tuple of them."""
        for array in self._by_site[site]:
            array.add(label.step, label.branch, label.layer, value_bfyxc)

    def wants(self, site: str, label: Label) -> bool:
        """Whether any array keeps this value."""
        return any(array.has(label.step, label.branch, label.layer) for array in self._by_site[site])

    def step(self, values: StepValues) -> None:
        """A step is complete: its own sites are read, and its blocks leave."""
        step = values.info.step
        for array in self._arrays:
            site = array.plan.site
            if isinstance(site, StepSite):
                for branch in array.plan.branches or (None,):
                    if array.has(step, branch, None):
                        array.add(step, branch, None, site.value(values, branch))
            array.flush(step)
        self._on_step(len(values.latent))


class _Array:
    """One planned array while its run goes on."""

    def __init__(self, plan: ArrayPlan, adapter: ModelAdapter, stream: Stream) -> None:
        self.plan = plan
        self._adapter = adapter
        self._stream = stream
        self._step = {step: position for position, step in enumerate(plan.steps)}
        self._branch = {branch: position for position, branch in enumerate(plan.branches)}
        self._layer = {layer: position for position, layer in enumerate(plan.layers)}
        self._lead = tuple(len(names) for names in (plan.branches, plan.layers) if names)
        self._block: Tensor | None = None
        self._filled = 0

    def has(self, step: int, branch: str | None, layer: int | None) -> bool:
        """Whether the cell is planned."""
        return (
            step in self._step
            and (not self._branch or branch in self._branch)
            and (not self._layer or layer in self._layer)
        )

    def add(self, step: int, branch: str | None, layer: int | None, value_bfyxc: Any) -> None:
        """Reduce and keep one cell of each run, if it is planned."""
        if not self.has(step, branch, layer):
            return
        cell = self.plan.reduction.reduce(value_bfyxc, self._adapter)
        if cell.dtype is not self.plan.dtype or cell.shape != (len(value_bfyxc), *self.plan.cell):
            raise InterpError(
                f"{self.plan.site.name}/{self.plan.reduction.name} was planned as {self.plan.dtype} {self.plan.cell} "
                f"but the model gave {cell.dtype} {tuple(cell.shape[1:])} in {len(cell)} of {len(value_bfyxc)} runs: "
                "its adapter does not fit this model"
            )
        lead = {}
        if branch is not None and self._branch:
            lead[dims.BRANCH] = self._branch[branch]
        if layer is not None and self._layer:
            lead[dims.LAYER] = self._layer[layer]
        self._filled += 1
        if self.plan.reduction.by_cell:
            self._stream.put(self.plan, {dims.STEP: self._step[step], **lead}, encoded(self.plan, cell))
        else:
            if self._block is None:
                self._block = cell.new_empty((len(cell), *self._lead, *self.plan.cell))
            self._block[(slice(None), *lead.values())] = cell

    def flush(self, step: int) -> None:
        """Send the block of a finished step, or refuse a step whose cells did not all run."""
        if step not in self._step:
            return
        expected = max(len(self._branch), 1) * max(len(self._layer), 1)
        if self._filled != expected:
            raise InterpError(
                f"step {step} gave {self._filled} of {expected} planned cells of "
                f"{self.plan.site.name}/{self.plan.reduction.name}: its adapter does not fit this model"
            )
        if self._block is not None:
            self._stream.put(self.plan, {dims.STEP: self._step[step]}, self._block)
        self._block, self._filled = None, 0
