"""Common prefixes computed once: an intervened run begins where it first differs from its clean run.

Until its first change, an intervened run is its clean run: bit for bit, if both are made in batches of one size, and
else but for rounding (`interp.batching`). So it may begin at the step of that change, from the clean run's stored x_s,
and copy what it is to keep of the steps before. That is done where it gives the same bits: with a scheduler whose steps
follow from x_s alone, and a clean run that holds `latent/full` at that step and, exactly, every cell that is wanted of
the steps before it. Otherwise the run is made from step 0. So is the first run of a model that is not in float32: it
tells in which dtype the pipeline holds x_s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import store
from interp import intervening, noise
from interp.errors import InterpError
from interp.interventions import Donor, Need
from interp.interventions._base import LATENT
from interp.observer import Start
from interp.planning import ArrayPlan, Plan, plan
from interp.stream import Sink, to_numpy
from store import CaptureItem, Run, dims

if TYPE_CHECKING:
    from interp.model import Model


class Prefix(NamedTuple):
    """The steps of a clean run that need not be made again."""

    parent_id: str
    start: Start

    def copy(self, plan: Plan, sink: Sink, acts: store.ActivationStore) -> None:
        """Write what `plan` keeps of these steps, as the clean run has it."""
        for array in plan.arrays:
            for position, step in enumerate(array.steps):
                if step < self.start.step:
                    for index, block in _blocks(array, step, self.parent_id, acts):
                        name = array.site.name, array.reduction.name
                        sink.write(*name, {dims.STEP: position, **index}, block)


def prefix(model: Model, run: Run, wanted: Plan, acts: store.ActivationStore) -> Prefix | None:
    """What of its clean run an intervened run can begin with, or None where it must be made from step 0."""
    if run.parent_id is None or not acts.has_run(run.parent_id):
        return None
    entry = acts.run(run.parent_id)
    first, held_in = begin(model, run, entry.run, wanted), model.traced.latent_dtype
    if first == 0 or held_in is None:
        return None
    latent = acts.load(LATENT, "full", runs=[run.parent_id], step=first, lazy=False).to_numpy()[0]
    steps = tuple(info for info in entry.steps if info.step < first)
    return Prefix(run.parent_id, Start(first, torch.from_numpy(latent).to(held_in)[None], steps))


def together(prefixes: Sequence[Prefix]) -> Start | None:
    """Where a batch begins whose runs all begin at one step, with what each has of its own clean run."""
    if not prefixes:
        return None
    first = prefixes[0].start
    if any(one.start.steps != first.steps for one in prefixes):
        raise InterpError("runs of a batch begin at other steps or noise levels: they cannot be made together")
    return first._replace(latent_bfyxc=torch.cat([one.start.latent_bfyxc for one in prefixes]))


def begin(model: Model, run: Run, parent: Run, wanted: Plan) -> int:
    """The step that an intervened run can begin at, once its clean run is stored; 0 where it must be made whole."""
    if not run.interventions or not _repeats(model):
        return 0
    first = intervening.begins(model, run)
    return first if _has(model, parent, run, wanted, first) else 0


def _repeats(model: Model) -> bool:
    """Whether what follows from x_s is the same in a run that began there."""
    return noise.repeats(model.pipeline.scheduler) and model.adapter.restarts


def _has(model: Model, parent: Run, run: Run, wanted: Plan, first: int) -> bool:
    """Whether a clean run holds x_s at `first`, and all that is wanted of the steps before, exactly."""
    from interp import donors

    if not donors.holds(parent, Need(Donor(), LATENT, (first,)), model):
        return False
    held = {(a.site.name, a.reduction.name): a for a in plan(model.adapter, parent.capture, parent.settings).arrays}
    for array in wanted.arrays:
        before = {step for step in array.steps if step < first}
        there = held.get((array.site.name, array.reduction.name))
        if before and (there is None or array.encoding != "exact" or not _within(array, there, before)):
            return False
    # Arrays of one name and shape may be of other heads or queries.
    same = {_asked(item) for item in parent.capture.items}
    return all(_asked(item) in same for item in run.capture.items if item.steps is None or item.steps[0] < first)


def _asked(item: CaptureItem) -> str:
    """What an item keeps of each cell, without which cells."""
    return item.model_copy(update={"steps": None, "layers": None, "branches": None}).canonical()


def _within(wanted: ArrayPlan, there: ArrayPlan, steps: set[int]) -> bool:
    return (
        there.encoding == "exact"
        and (there.cell, there.dtype) == (wanted.cell, wanted.dtype)
        and steps <= set(there.steps)
        and set(wanted.branches) <= set(there.branches)
        and set(wanted.layers) <= set(there.layers)
    )


def _blocks(
    array: ArrayPlan, step: int, run_id: str, acts: store.ActivationStore
) -> list[tuple[dict[str, int], NDArray[Any]]]:
    """The blocks of one step as `Recorder` sends them: places along the axes with files of their own → values."""
    some: dict[str, Any] = {
        "branch": list(array.branches) or None,
        "layer": list(array.layers) or None,
    }
    loaded = acts.load(array.site.name, array.reduction.name, runs=[run_id], step=step, lazy=False, **some)
    names = [name for name, there in ((dims.BRANCH, array.branches), (dims.LAYER, array.layers)) if there]
    values = loaded.isel({dims.RUN: 0}).to_numpy()
    if array.dtype is torch.bfloat16:  # the store hands it out widened
        values = to_numpy(torch.from_numpy(np.ascontiguousarray(values)).to(torch.bfloat16))
    if not array.reduction.by_cell:
        return [({}, values)]
    lead = values.shape[: len(names)]
    return [(dict(zip(names, place, strict=True)), np.ascontiguousarray(values[place])) for place in np.ndindex(lead)]
