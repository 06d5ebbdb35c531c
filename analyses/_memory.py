"""Probes of an object at every latent frame, for `working_memory`: one fit a cell and frame, scored where it is hidden.

Shapes: s samples, n runs, F latent frames, k what is told of the object, d features.
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
from analyses._object_truths import LOOKS, Object
from analyses._probe_fit import Design, Floats, fit
from analyses._probe_labels import Label, Samples
from analyses._probe_scores import Score
from analyses._select import Selection
from store import ActivationStore
from store.places import Location

PLACE: Final = "place"
PICTURE_FEATURES: Final = 1024
"""A frame of x̂0 is averaged in squares of cells until it has no more values than this."""
_YX: Final = ("place.y", "place.x")


class Told(NamedTuple):
    """What is known of the object of each sample, and where it is hidden."""

    labels: tuple[Label, ...]
    """Looks, in the order of `LOOKS`, as far as they can be told."""
    place: NDArray[np.float64]
    """`[s, F, 2]`"""
    hidden: NDArray[np.bool_]
    """`[s, F]`"""

    @property
    def names(self) -> tuple[str, ...]:
        """What is told: looks, then the place."""
        return (*(label.name for label in self.labels), PLACE)


class Plan(NamedTuple):
    """What is the same in all cells."""

    runs: tuple[str, ...]
    """Sorted by fold."""
    rows: NDArray[np.intp]
    """The sample of each run."""
    told: Told
    designs: tuple[Design, ...]
    """Of each latent frame: looks, and both coordinates of the place."""


def known_of(found: Sequence[Object], latent: int, *, folds: int) -> Told:
    """What can be told of these objects, one a sample.

    Args:
        found: The objects.
        latent: Latent frames.
        folds: Looks of fewer samples than this cannot be told.
    """
    labels: list[Label] = []
    for look in LOOKS:
        if all(look in one.looks for one in found):
            classes, values = np.unique([one.looks[look] for one in found], return_inverse=True)
            label = Label(look, values, tuple(str(one) for one in classes))
            if not _probe_labels.unfit(label, folds):
                labels.append(label)
    place = np.stack([one.place(latent) for one in found])
    return Told(tuple(labels), place, np.stack([one.is_hidden(latent) for one in found]))


def make_plan(chosen: Selection, samples: Samples, told: Told, *, folds: int) -> Plan:
    """Folds of whole samples, and the targets of each latent frame."""
    position = {id: at for at, id in enumerate(samples.ids)}
    rows = np.array([position[id] for id in chosen.sample_ids])
    fold = _probe_labels.split(samples, told.labels, group="sample", folds=folds)[rows]
    order = np.argsort(fold, kind="stable")
    edges = np.searchsorted(fold[order], np.arange(folds + 1)).tolist()
    designs = [
        _probe_labels.design([*told.labels, *_places(told.place[:, frame])], rows[order], edges)
        for frame in range(told.place.shape[1])
    ]
    return Plan(tuple(chosen.run_ids[at] for at in order), rows[order], told, tuple(designs))


def _places(place: NDArray[np.float64]) -> list[Label]:
    """Coordinates of one frame; one that is alike in all samples is replaced, and what is told of it not read."""
    return [Label(name, _varying(place[:, at]), ()) for at, name in enumerate(_YX)]


def _varying(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values if np.ptp(values) > 1e-6 else np.arange(len(values), dtype=np.float64)


def losses(features: Floats, plan: Plan) -> Floats:
    """Of features `[n, F, d]`: whether looks were told wrong, and squared pixels off the place, `[F, k, s]`."""
    told, frames = plan.told, features.shape[1]
    counts = np.bincount(plan.rows)
    found = np.empty((frames, len(told.names), len(counts)), np.float32)
    for frame in range(frames):
        held_out = fit(np.ascontiguousarray(features[:, frame]), plan.designs[frame]).held_out
        for at, label in enumerate(told.labels):
            wrong = held_out[at] != label.values[plan.rows]
            found[frame, at] = np.bincount(plan.rows, wrong) / counts
        off = np.zeros(len(plan.rows))
        for axis, one in enumerate(held_out[len(told.labels) :]):
            truth = told.place[:, frame, axis]
            # A coordinate that is alike in all samples is known without a probe.
            guess = truth.mean() + one * truth.std()
            off += (guess - truth[plan.rows]) ** 2 * (np.ptp(truth) > 1e-6)
        found[frame, -1] = np.bincount(plan.rows, off) / counts
    return found


def of_cells(acts: ActivationStore, grid: Grid, plan: Plan) -> Floats:
    """The same of every cell of a grid with frames, `[step, layer, F, k, s]`, a dask task a block of cells."""
    blocks = _features.blocks(grid, runs=len(plan.runs))
    with threadpool_limits(1, user_api="blas"):
        parts: list[Floats] = list(compute(*[delayed(_block)(acts.path, grid, block, plan) for block in blocks]))
    steps, layers = grid.labels["step"], grid.labels["layer"]
    out = np.empty((len(steps), len(layers), *parts[0].shape[2:]), np.float32)
    for block, part in zip(blocks, parts, strict=True):
        place = [[steps.index(one) for one in block.steps], [layers.index(one) for one in block.layers or layers]]
        out[np.ix_(*place)] = part
    return out


def _block(path: Location, grid: Grid, block: Block, plan: Plan) -> Floats:
    values = _features.read(store.open(path), grid, block, plan.runs)  # [n, step, layer, F, d]
    return np.stack(
        [
            np.stack([losses(values[:, step, layer], plan) for layer in range(values.shape[2])])
            for step in range(values.shape[1])
        ]
    )


def of_picture(acts: ActivationStore, steps: Sequence[int], plan: Plan) -> Floats:
    """The same of x̂0 of each step, frame by frame, `[step, F, k, s]`."""
    with threadpool_limits(1, user_api="blas"):
        found: list[Any] = list(compute(*[delayed(_picture)(acts.path, step, plan) for step in steps]))
    return np.stack(found)


def _picture(path: Location, step: int, plan: Plan) -> Floats:
    acts = store.open(path)
    each: list[Floats] = []
    for run in plan.runs:
        frames = acts.load("x0_hat", "full", runs=[run], step=step, lazy=False).isel(run=0).transpose("frame", ...)
        each.append(
            np.stack([_features.coarse(frames.isel(frame=at), PICTURE_FEATURES) for at in range(frames.sizes["frame"])])
        )
    return losses(np.stack(each), plan)


def on_words(prompts: Sequence[str], plan: Plan) -> Floats:
    """The same of the words of the prompts, in every frame, `[F, k, s]`."""
    words = _features.words(prompts)
    return losses(np.repeat(words[:, None], len(plan.designs), axis=1), plan)


def judged(loss: Floats, told: Told, shown: NDArray[np.bool_]) -> list[Score]:
    """Scores over the samples and frames that are shown, of losses `[F, k, s]`.

    Accuracy of looks; of the place, 1 minus squared pixels off over those of always telling a frame's mean place. What
    a sample adds is its mean over its frames. Samples without such a frame have influence NaN.

    Args:
        loss: Of one cell.
        told: What is known.
        shown: Which frames count, `[s, F]`.
    """
    frames = shown.sum(axis=1)
    there = frames > 0
    weights = shown[there] / frames[there, None]
    found: list[Score] = []
    for at, name in enumerate(told.names):
        lost = np.einsum("fs,sf->s", loss[:, at, there], weights, dtype=np.float64)
        pull = np.full(len(shown), np.nan, np.float32)
        if name == PLACE:
            off = ((told.place - told.place.mean(axis=0)) ** 2).sum(axis=-1)
            spread = (off[there] * weights).sum(axis=1)
            ratio = lost.mean() / spread.mean() if spread.mean() > 0 else np.nan
            pull[there] = (ratio * spread - lost) / spread.mean() if spread.mean() > 0 else np.nan
            found.append(Score(float(1 - ratio), pull))
        else:
            pull[there] = lost.mean() - lost
            found.append(Score(float(1 - lost.mean()), pull))
    return found
