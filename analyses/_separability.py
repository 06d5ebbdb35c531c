"""How far the tokens of a head tell frames apart, and what shuffled frames would give.

Of all variance of tokens, the share that lies between frames (η² of a one-way analysis of variance, all channels of the
head together), less what it would be if the frames of each place were shuffled. That expectation is known without
shuffling, so the share is 0 on average where frames tell nothing; its null distribution comes from shuffles of the same
tokens.

Shapes: f frames, t places of a frame, a heads, d channels of a head, b shuffles.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Floats = NDArray[np.float64]
SHUFFLES: Final = 199
"""Shuffles behind each p value: none is below 1/200."""


class Shares(NamedTuple):
    """Of each head."""

    observed: Floats
    """`[a]`; NaN where a head's tokens are all alike."""
    null: Floats
    """The same of shuffled frames `[b, a]`, 0 on average."""


def shuffles(rng: np.random.Generator, *, count: int, places: int, frames: int) -> csr_array:
    """Matrices that take tokens `[t·f]` to the means of shuffled frames `[b·f]`; every place is shuffled for itself.

    Frames of a place are exchangeable where frames tell nothing, whatever the place shows; places of a frame are not.
    """
    order = rng.permuted(np.broadcast_to(np.arange(frames), (count, places, frames)), axis=2)
    columns = (np.arange(places)[None, :, None] * frames + order).swapaxes(1, 2)  # [b, f, t]
    rows = count * frames
    starts = np.arange(rows + 1) * places
    values = np.full(rows * places, 1 / places, np.float32)
    return csr_array((values, columns.ravel(), starts), shape=(rows, places * frames))


def shares(tokens_ftad: NDArray[np.float32], shuffled: csr_array) -> Shares:
    """Shares of variance between frames, corrected for what shuffled frames give on average.

    Args:
        tokens_ftad: Tokens `[f, t, a, d]`.
        shuffled: As `shuffles` makes them, for the same frames and places.
    """
    frames, places, heads, width = tokens_ftad.shape
    tokens = tokens_ftad - tokens_ftad.mean(axis=(0, 1))
    total = _squares(tokens.reshape(-1, heads, width)).sum(axis=0)
    around = tokens - tokens.mean(axis=0)
    expected = _squares(around.reshape(-1, heads, width)).sum(axis=0) / places
    between = places * _squares(tokens.mean(axis=1)).sum(axis=0)
    flat = np.ascontiguousarray(tokens.swapaxes(0, 1)).reshape(places * frames, heads * width)
    means = np.asarray(shuffled @ flat).reshape(-1, frames, heads, width)
    drawn = places * np.stack([_squares(one).sum(axis=0) for one in means])
    with np.errstate(invalid="ignore", divide="ignore"):
        return Shares((between - expected) / total, (drawn - expected) / total)


def _squares(values: NDArray[np.float32]) -> Floats:
    return np.einsum("...d,...d->...", values, values, dtype=np.float64)


def family_wise(observed: Floats, null: Floats) -> Floats:
    """P values that at no cell at all shuffled frames would give as much, corrected for looking at all cells.

    The largest standardised share over all cells of each shuffle is the null of every cell (Westfall and Young 1993),
    so that cells that go together do not count as many.

    Args:
        observed: Mean over samples `[cells]`; NaN is a cell without a value.
        null: The same of each shuffle `[b, cells]`, every sample shuffled alike in all cells.

    Returns:
        `[cells]`, at least 1 / (b + 1).
    """
    scale = np.sqrt((null**2).mean(axis=0))
    known = np.isfinite(observed) & (scale > 0)
    found = np.ones(observed.shape)
    if known.any():
        most = (null[:, known] / scale[known]).max(axis=1)
        above = most[:, None] >= (observed[known] / scale[known])[None]
        found[known] = (1 + above.sum(axis=0)) / (1 + len(null))
    return found
