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
from interp.donors_kept import holds
from interp.errors import InterpError
from interp.interventions import Donor, Need
from interp.interventions._base import LATENT
from interp.listeners import Start
from interp.planning import ArrayPlan, Plan, plan
from interp.stream import Sink, to_numpy
from store import CaptureItem, Run, dims

if TYPE_CHECKING:
    from interp.model import Model


class Prefix(NamedTuple):
    """The steps of a clean run that need not be made again."""

    parent: Run
    start: Start


def prefixes(model: Model, runs: Sequence[Run], wanted: Plan, acts: store.ActivationStore) -> list[Prefix | None]:
    """What of its clean run each intervened run can begin with; None where it must be made from step 0."""
    held_in = model.traced.latent_dtype
    parents = {id: acts.run(id) for id in {run.parent_id for run in runs} if id is not None and acts.has_run(id)}
    found: list[Prefix | None] = [None] * len(runs)
    begins: dict[tuple[int, str], list[int]] = {}
    for number, run in enumerate(runs):
        entry = parents.get(run.parent_id) if run.parent_id is not None else None
        if entry is not None and held_in is not None and (first := begin(model, run, entry.run, wanted)):
            begins.setdefault((first, entry.run.capture.canonical()), []).append(number)
    for (first, _), numbers in begins.items():
        chosen = [parents[id] for number in numbers if (id := runs[number].parent_id) is not None]
        ids = list(dict.fromkeys(entry.id for entry in chosen))
        latents = acts.load(LATENT, "full", runs=ids, step=first, lazy=False)
        for number, entry in zip(numbers, chosen, strict=True):
            latent = torch.from_numpy(latents.isel({dims.RUN: ids.index(entry.id)}).to_numpy()).to(held_in)
            steps = tuple(info for info in entry.steps if info.step < first)
            found[number] = Prefix(entry.run, Start(first, latent[None], steps))
    return found


def copy(prefixes: Sequence[Prefix], sinks: Sequence[Sink], plan: Plan, acts: store.ActivationStore) -> None:
    """Write what `plan` keeps of these steps, as the clean runs have it; each prefix into its own sink.

    Small arrays are read at once, for all runs and steps: opening one takes longer than reading it.
    """
    kinds: dict[str, list[tuple[str, Sink]]] = {}
    for prefix, sink in zip(prefixes, sinks, strict=True):
        kinds.setdefault(prefix.parent.capture.canonical(), []).append((prefix.parent.id, sink))
    for array in plan.arrays:
        before = [step for step in array.steps if step < prefixes[0].start.step]
        for rows in kinds.values() if before else ():
            if array.reduction.by_cell:
                for one in rows:
                    for step in before:
                        _copy(array, [step], [one], acts)
            else:
                _copy(array, before, rows, acts)


def _copy(
    array: ArrayPlan, steps: Sequence[int], rows: Sequence[tuple[str, Sink]], acts: store.ActivationStore
) -> None:
    """Write some steps of an array into sinks, each from the run of its id."""
    some: dict[str, Any] = {"branch": list(array.branches) or None, "layer": list(array.layers) or None}
    ids = list(dict.fromkeys(id for id, _ in rows))
    name = array.site.name, array.reduction.name
    loaded = acts.load(*name, runs=ids, step=list(steps), lazy=False, **some)
    for id, sink in rows:
        for number, step in enumerate(steps):
            values = loaded.isel({dims.RUN: ids.index(id), dims.STEP: number}).to_numpy()
            for index, block in _blocks(array, values):
                sink.write(*name, {dims.STEP: array.steps.index(step), **index}, block)


def at(model: Model, run: Run, step: int, acts: store.ActivationStore) -> Start | None:
    """Where a stored run can be gone on with at `step`, None where it must be made from step 0; see `prefixes`."""
    held_in, entry = model.traced.latent_dtype, acts.run(run.id)
    if step == 0 or held_in is None or not _repeats(model):
        return None
    if not holds(entry.run, Need(Donor(), LATENT, (step,)), model):
        return None
    latent = torch.from_numpy(acts.load(LATENT, "full", runs=[run.id], step=step, lazy=False).to_numpy()).to(held_in)
    return Start(step, latent, tuple(info for info in entry.steps if info.step < step))


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
    if not holds(parent, Need(Donor(), LATENT, (first,)), model):
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


def _blocks(array: ArrayPlan, values: NDArray[Any]) -> list[tuple[dict[str, int], NDArray[Any]]]:
    """The blocks of one step as `Recorder` sends them: places along the axes with files of their own → values."""
    names = [name for name, there in ((dims.BRANCH, array.branches), (dims.LAYER, array.layers)) if there]
    if array.dtype is torch.bfloat16:  # the store hands it out widened
        values = to_numpy(torch.from_numpy(np.ascontiguousarray(values)).to(torch.bfloat16))
    if not array.reduction.by_cell:
        return [({}, np.ascontiguousarray(values))]
    lead = values.shape[: len(names)]
    return [(dict(zip(names, place, strict=True)), np.ascontiguousarray(values[place])) for place in np.ndindex(lead)]
