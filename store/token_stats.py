"""Statistics of every energy map, taken while it is written: what SQL answers without touching arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from store import dims

REDUCTION = "energy"
"""The reduction whose maps are summarised."""

_TOGETHER: Final = 1 << 18
"""Tokens that are summarised in one call: 2 MiB as float64, and as much again on the way."""


class TokenStats(NamedTuple):
    """Rows of the view `token_stats` for one block, columns of equal length."""

    site: str
    branch: str | None
    step: int | None
    layer: int | None
    frame: NDArray[np.int64] | None
    """Label of each row's frame, or None where the array has no frames (then there is one row)."""
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    max: NDArray[np.float64]
    p99: NDArray[np.float64]


def measure(
    site: str,
    cells: Sequence[Mapping[str, Any]],
    block: NDArray[Any],
    frames: NDArray[np.int64] | None,
) -> list[TokenStats]:
    """Mean, population standard deviation, maximum and 99th percentile over all tokens of each frame.

    Args:
        site: Where in the model.
        cells: Labels of each cell: `step`, `branch`, `layer`, as far as the array has them.
        block: Energies of the cells one after the other, e.g. `[cell, frame, y, x]`.
        frames: Labels of the frames, or None if `frame` is none of the axes.
    """
    rows = 1 if frames is None else len(frames)
    tokens = block.reshape(len(cells), rows, -1)
    # NumPy takes longer to be called than to add up a small map, so that many cells go into one call.
    together = max(1, _TOGETHER // tokens[0].size)
    found: list[TokenStats] = []
    for start in range(0, len(cells), together):
        found += _measure(site, cells[start : start + together], tokens[start : start + together], frames)
    return found


def _measure(
    site: str, cells: Sequence[Mapping[str, Any]], block: NDArray[Any], frames: NDArray[np.int64] | None
) -> list[TokenStats]:
    tokens = block.astype(np.float64)
    # A model that diverged writes NaN and inf: keep them as they are.
    with np.errstate(invalid="ignore", over="ignore"):
        mean, std, most = tokens.mean(axis=2), tokens.std(axis=2), tokens.max(axis=2)
        p99 = np.percentile(tokens, 99, axis=2)
    return [
        TokenStats(
            site=site,
            branch=None if dims.BRANCH not in cell else str(cell[dims.BRANCH]),
            step=None if dims.STEP not in cell else int(cell[dims.STEP]),
            layer=None if dims.LAYER not in cell else int(cell[dims.LAYER]),
            frame=frames,
            mean=mean[number],
            std=std[number],
            max=most[number],
            p99=p99[number],
        )
        for number, cell in enumerate(cells)
    ]
