"""Where in a video something shows, on a coarse grid, and how far two such places are one.

Shapes: k maps, F frames, h×w cells.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

CELLS: Final = 24
"""Cells along the longer side, at most."""
SMEAR: Final = 1 / 12
"""How far a place reaches beyond what is painted: standard deviation as a share of the longer side. Two poses of one
arrow share no pixel and yet one place; two fields of a board do not. Of the worlds' answers, those at one place
overlap by 0.75 to 1 with it, those in different places by 0.1 to 0.5."""


def pooled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of square blocks, so that the longer side has at most `CELLS` cells.

    Args:
        values: `[F, H, W, channel]`; rows and columns beyond the last whole block are cut.
    """
    frames, height, width, channels = values.shape
    block = -(-max(height, width) // CELLS)
    high, wide = max(height // block, 1), max(width // block, 1)
    cut = values[:, : high * block, : wide * block]
    return cut.reshape(frames, high, cut.shape[1] // high, wide, cut.shape[2] // wide, channels).mean(axis=(2, 4))


def overlaps(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far each pair of maps lies at one place in space and time.

    Each map is scaled to a largest value of 1 and smeared in space (`SMEAR`). The overlap of two is what both hold,
    over the sum of the smaller one (an overlap coefficient): 1 for a place inside the other, 0 for places far apart.

    Args:
        maps: How strongly each thing shows, not negative, `[k, F, h, w]`.

    Returns:
        float64 `[k, k]`; 0 with a map that is empty.
    """
    sigma, top = SMEAR * max(maps.shape[-2:]), maps.max(axis=(1, 2, 3), keepdims=True)
    even = np.divide(maps, top, out=np.zeros(maps.shape), where=top > 0)
    near = gaussian_filter(even, (0, 0, sigma, sigma)).reshape(len(maps), -1)
    both = np.array([[np.minimum(one, other).sum() for other in near] for one in near])
    total = near.sum(axis=1)
    smaller = np.minimum(total[:, None], total[None])
    return np.divide(both, smaller, out=np.zeros_like(both), where=smaller > 0)
