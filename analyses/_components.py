"""Candidates that nobody named: parts of what x̂0 paints on its way, found without masks.

Two kinds of parts. What a sample's runs end in: their last changes, each one that the earlier ones cannot explain. And
what they give up on the way: blobs in space and time that x̂0 of some step holds, that the endings do not explain, and
that the next step still holds. Noise has no such blobs, since no two steps agree on it.

Shapes: r runs of one sample (its seeds), S steps, c components, F frames, h×w cells.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from analyses._evidence import SHOWN, non_negative

MOST: Final = 6
"""Components of one sample, at most; the strongest."""
NEW: Final = 0.25
"""Share of an ending's energy that earlier endings must leave unexplained for it to be another one."""
SMALLEST: Final = 0.002
"""Share of all cells, over space and time, that a given-up blob takes up at least."""
COHERENT: Final = 0.5
"""Cosine between a blob at its step and at the next one, at least."""
STRONG: Final = 0.99
"""Quantile of an ending's cells that says how strong a painted thing is."""

Change = NDArray[np.float32]
"""What x̂0 changes in the first frame, on the coarse grid."""


class Component(NamedTuple):
    """One part, and where it was found."""

    change: Change
    """What it changes when fully painted, `[F, h, w, channel]`."""
    run: int
    """Position of the run."""
    step: int
    """Position of the step; the last one for an ending."""

    @property
    def map(self) -> NDArray[np.float32]:
        """How strongly it shows, `[F, h, w]`."""
        return np.linalg.norm(self.change, axis=-1)


class Parts(NamedTuple):
    """The components of a sample, and how much of each x̂0 holds."""

    found: tuple[Component, ...]
    """Endings first, then what was given up."""
    weights: NDArray[np.float64]
    """Not negative, about 1 when fully painted, `[r, S, c]`."""


def components(changes: Change) -> Parts:
    """Parts of the changes of one sample.

    Args:
        changes: `[r, S, F, h, w, channel]`, a fade of the whole picture taken out.
    """
    endings = _endings(changes)
    given_up = [blob for run in range(len(changes)) for blob in _given_up(changes[run], run, endings)]
    given_up.sort(key=lambda one: -float((one.change**2).sum()))
    found = _without_doubles(endings, given_up)
    runs, steps = changes.shape[:2]
    if not found:
        return Parts((), np.zeros((runs, steps, 0)))
    flat = changes.reshape(runs * steps, -1)
    return Parts(tuple(found), _weights(flat, found).reshape(runs, steps, len(found)))


def _endings(changes: Change) -> list[Component]:
    """The distinct last changes."""
    last = changes.shape[1] - 1
    found: list[Component] = []
    for run in range(len(changes)):
        ending = changes[run, last]
        energy = float((ending**2).sum())
        left = ending.ravel() - _explained(ending.reshape(1, -1), found)[0]
        if energy > 0 and float((left**2).sum()) > NEW * energy and len(found) < MOST:
            found.append(Component(ending, run, last))
    return found


def _given_up(path: Change, run: int, endings: list[Component]) -> list[Component]:
    """Blobs of one run, `[S, F, h, w, channel]`, that it holds at a step and the next, and that no ending explains."""
    if len(path) < 2 or not endings:
        return []
    left = path - _explained(path.reshape(len(path), -1), endings).reshape(path.shape)
    strength = max(float(np.quantile(ending.map, STRONG)) for ending in endings)
    for ending in endings:
        left = _across(left, ending, painted=SHOWN * strength)
    size = np.linalg.norm(left, axis=-1)
    held = (left[:-1] * left[1:]).sum(axis=-1) * (size[:-1] > SHOWN * strength)
    step = int(held.sum(axis=(1, 2, 3)).argmax())
    marks = np.empty(size[step].shape, np.int32)
    ndimage.label(size[step] > SHOWN * strength, structure=np.ones((3, 3, 3)), output=marks)
    blobs: list[Component] = []
    for mark in range(1, int(marks.max()) + 1):
        inside = marks == mark
        if inside.mean() < SMALLEST or _cosine(left[step][inside], left[step + 1][inside]) < COHERENT:
            continue
        blob = np.where(inside[..., None], left[step], 0)
        full = strength / float(np.quantile(size[step][inside], STRONG))
        blobs.append(Component((blob * full).astype(np.float32), run, step))
    return blobs


def _without_doubles(endings: list[Component], given_up: list[Component]) -> list[Component]:
    """Endings, then blobs that are not nearly one of those before, `MOST` in all."""
    found = list(endings)
    for blob in given_up:
        alike = (_cosine(blob.change, other.change) for other in found)
        if len(found) < MOST and all(cosine < COHERENT for cosine in alike):
            found.append(blob)
    return found


def _across(left: Change, ending: Component, *, painted: float) -> Change:
    """`left` without what goes along the painted ending's own colour: more or less of it is no alternative."""
    square = (ending.change**2).sum(axis=-1)
    along = (left * ending.change).sum(axis=-1) / np.where(square > 0, square, 1)
    return left - np.where(square > painted**2, along, 0)[..., None] * ending.change


def _explained(flat: Change, found: list[Component]) -> Change:
    """The best mixture of the components for each row, `[n, cells]`."""
    if not found:
        return np.zeros_like(flat)
    columns = np.stack([one.change.ravel() for one in found])
    return (_weights(flat, found) @ columns).astype(np.float32)


def _weights(flat: Change, found: list[Component] | tuple[Component, ...]) -> NDArray[np.float64]:
    columns = np.stack([one.change.ravel() for one in found])
    gram = (columns @ columns.T).astype(np.float64)
    return np.stack([non_negative(gram, target) for target in (flat @ columns.T).astype(np.float64)])


def _cosine(one: Change, other: Change) -> float:
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / norms if norms > 0 else 0.0
