"""Probes of every cell of a grid, a dask task a block of cells: any scheduler gives the same numbers.

Shapes: cells as of the grid, l labels, t targets, d channels, s samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import store
from analyses import _features, _probe_labels
from analyses._features import Block, Grid
from analyses._probe_fit import Design, Floats, Task, fit
from analyses._probe_labels import Label, Samples
from analyses._probe_scores import Score, mean, score
from analyses._select import Selection
from store import ActivationStore, dims
from store.places import Location

SHARES: Final = 16
"""Tasks that fit the cells of a block, so that every core has some."""
LATENT_FEATURES: Final = 4096
"""Latents are averaged in blocks until they have no more values than this."""


class Plan(NamedTuple):
    """What is the same in all cells."""

    runs: tuple[str, ...]
    """Sorted by fold."""
    rows: NDArray[np.intp]
    """The sample of each run."""
    labels: tuple[Label, ...]
    drawn: tuple[tuple[Label, ...], ...]
    """The controls of each label."""
    design: Design
    """Tasks: each label, then its controls, label by label."""
    directions: bool

    def task(self, label: int) -> int:
        """Position of a label's task."""
        return sum(1 + len(drawn) for drawn in self.drawn[:label])

    def targets(self) -> list[tuple[str, str]]:
        """Label and class (empty for a number) of each direction; two classes have one, towards the second."""
        return [(label.name, one) for label in self.labels for one in _told(label)]


class Cells(NamedTuple):
    """What was found in some cells; axes of the cells first."""

    score: Floats
    """`[…, l]`"""
    pull: Floats
    """Influence of each sample `[…, l, s]`."""
    control: Floats
    """`[…, l]`, mean over draws."""
    control_pull: Floats
    """`[…, l, s]`"""
    penalty: Floats
    """`[…, l]`"""
    direction: Floats
    """Unit vectors in raw channels `[…, t, d]`; t is 0 if they are not wanted."""
    scale: Floats
    """Deviation of the runs along each direction `[…, t]`."""
    shift: Floats
    """How far runs lie further along it for one unit more of the target `[…, t]`."""


def make_plan(
    chosen: Selection,
    samples: Samples,
    labels: Sequence[Label],
    *,
    group: str,
    folds: int,
    drawn: tuple[tuple[Label, ...], ...] = (),
    directions: bool = False,
) -> Plan:
    """What is the same in all cells.

    Args:
        chosen: The runs.
        samples: Theirs, all of them.
        labels: What is told.
        group: What folds keep together.
        folds: How many.
        drawn: Controls of each label; none if left out.
        directions: Whether directions are wanted.
    """
    position = {id: at for at, id in enumerate(samples.ids)}
    rows = np.array([position[id] for id in chosen.sample_ids])
    fold = _probe_labels.split(samples, labels, group=group, folds=folds)[rows]
    order = np.argsort(fold, kind="stable")
    own = drawn or tuple(() for _ in labels)
    tasks = [one for label, others in zip(labels, own, strict=True) for one in (label, *others)]
    edges = np.searchsorted(fold[order], np.arange(folds + 1)).tolist()
    return Plan(
        runs=tuple(chosen.run_ids[at] for at in order),
        rows=rows[order],
        labels=tuple(labels),
        drawn=own,
        design=_probe_labels.design(tasks, rows[order], edges),
        directions=directions,
    )


def measure(acts: ActivationStore, grid: Grid, plan: Plan) -> Cells:
    """Probe every cell of a grid.

    Memory: a block of features for each of dask's workers, and what is found: for each cell and label a number a sample
    twice, and the directions.
    """
    blocks = _features.blocks(grid, runs=len(plan.runs))
    same = delayed(plan, traverse=False)
    found = _compute([_block(acts.path, grid, block, same, plan.runs) for block in blocks])
    out = Cells(*(np.empty((*grid.shape, *part.shape[len(grid.shape) :]), np.float32) for part in found[0]))
    for block, cells in zip(blocks, found, strict=True):
        place = [[grid.labels[dims.STEP].index(step) for step in block.steps]]
        if block.layers is not None:
            place.append([grid.labels[dims.LAYER].index(layer) for layer in block.layers])
        for whole, part in zip(out, cells, strict=True):
            whole[np.ix_(*place)] = part
    return out


def latents(acts: ActivationStore, plan: Plan, steps: Sequence[int]) -> Cells:
    """The same probes, without controls and directions, on the latent of each step."""
    bare = _without_controls(plan)
    found = _compute([delayed(_latent)(acts.path, step, bare) for step in steps])
    return Cells(*(np.stack(parts) for parts in zip(*found, strict=True)))


def on(features: Floats, plan: Plan) -> Cells:
    """The same on features of one's own `[runs, d]`."""
    (found,) = _compute([delayed(_one)(features, delayed(_without_controls(plan), traverse=False))])
    return found


def _compute(tasks: list[Any]) -> list[Cells]:
    # Cells are many and small: a thread of BLAS for each of dask's is faster than all threads on one.
    with threadpool_limits(1, user_api="blas"):
        return list(compute(*tasks))


def _block(path: Location, grid: Grid, block: Block, plan: Any, runs: tuple[str, ...]) -> Any:
    """Lazily, the cells of a block: read by one task, fitted by several, as a grid may be a single block."""
    values = delayed(_read)(path, grid, block, delayed(runs, traverse=False))
    own = {dims.STEP: block.steps, dims.LAYER: block.layers}
    shape = tuple(len(own.get(axis) or labels) for axis, labels in grid.labels.items())
    cells = list(np.ndindex(*shape))
    size = -(-len(cells) // SHARES)
    shares = [cells[at : at + size] for at in range(0, len(cells), size)]
    return delayed(_joined)([delayed(_fitted)(values, share, plan) for share in shares], shape)


def _read(path: Location, grid: Grid, block: Block, runs: tuple[str, ...]) -> Floats:
    return _features.read(store.open(path), grid, block, runs)


def _fitted(values: Floats, cells: Sequence[tuple[int, ...]], plan: Plan) -> list[Cells]:
    return [_one(np.ascontiguousarray(values[(slice(None), *cell)]), plan) for cell in cells]


def _joined(shares: Sequence[Sequence[Cells]], shape: tuple[int, ...]) -> Cells:
    found = [cell for share in shares for cell in share]
    return Cells(*(np.stack(parts).reshape(*shape, *parts[0].shape) for parts in zip(*found, strict=True)))


def _latent(path: Location, step: int, plan: Plan) -> Cells:
    return _one(_features.latents(store.open(path), step, plan.runs, limit=LATENT_FEATURES), plan)


def _without_controls(plan: Plan) -> Plan:
    kept = [plan.design.tasks[plan.task(at)] for at in range(len(plan.labels))]
    columns = np.concatenate([np.arange(task.first, task.first + task.size) for task in kept])
    starts = np.cumsum([0, *(task.size for task in kept)])
    tasks = tuple(task._replace(first=int(start)) for task, start in zip(kept, starts, strict=False))
    own = Design(plan.design.targets[:, columns], tasks, plan.design.edges)
    return plan._replace(drawn=tuple(() for _ in plan.labels), design=own, directions=False)


def _one(features: Floats, plan: Plan) -> Cells:
    """One cell, features `[runs, d]`."""
    places = [plan.task(at) for at in range(len(plan.labels))]
    tasks = [plan.design.tasks[place] for place in places]
    found = fit(features, plan.design, weights_of=tasks if plan.directions else ())
    scores = [score(found.held_out[place], label, plan.rows) for place, label in zip(places, plan.labels, strict=True)]
    controls = [
        _control(found.held_out[place + 1 :], drawn, plan) for place, drawn in zip(places, plan.drawn, strict=True)
    ]
    direction, scale, shift = _directions(features, found.weights, tasks, plan)
    return Cells(
        score=np.array([one.value for one in scores], np.float32),
        pull=np.stack([one.influence for one in scores]),
        control=np.array([one.value for one in controls], np.float32),
        control_pull=np.stack([one.influence for one in controls]),
        penalty=found.penalty[places],
        direction=direction,
        scale=scale,
        shift=shift,
    )


def _control(held_out: Sequence[Floats], drawn: Sequence[Label], plan: Plan) -> Score:
    if not drawn:
        return Score(np.nan, np.zeros(plan.rows.max() + 1, np.float32))
    return mean([score(told, label, plan.rows) for told, label in zip(held_out, drawn, strict=False)])


def _directions(features: Floats, weights: Floats, tasks: Sequence[Task], plan: Plan) -> tuple[Floats, Floats, Floats]:
    """Unit directions `[t, d]`, the deviation along each and the shift for a unit of the target `[t]`."""
    if not plan.directions:
        return np.empty((0, features.shape[1]), np.float32), np.empty(0, np.float32), np.empty(0, np.float32)
    columns: list[int] = []
    units: list[NDArray[Any]] = []
    for task, label in zip(tasks, plan.labels, strict=True):
        own = range(task.first + (task.size == 2), task.first + task.size)
        columns += own
        raw = [plan.design.targets[:, column] for column in own] if label.classes else [label.values[plan.rows]]
        units += [one.astype(np.float64) for one in raw]
    found = weights[columns]
    length = np.linalg.norm(found, axis=1, keepdims=True)
    unit = np.divide(found, length, out=np.zeros_like(found), where=length > 0)
    along = (features @ unit.T).astype(np.float64)
    along -= along.mean(axis=0)
    each = np.stack([one - one.mean() for one in units], axis=1)
    shift = (along * each).mean(axis=0) / (each**2).mean(axis=0)
    return unit, along.std(axis=0).astype(np.float32), shift.astype(np.float32)


def _told(label: Label) -> tuple[str, ...]:
    return label.classes[1:] if len(label.classes) == 2 else label.classes or ("",)
