"""Statistics of every energy map, taken while it is written: what SQL answers without touching arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from store import dims

REDUCTION = "energy"
"""The reduction whose maps are summarised."""


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
    cell: Mapping[str, Any],
    block: NDArray[Any],
    frames: NDArray[np.int64] | None,
) -> TokenStats:
    """Mean, population standard deviation, maximum and 99th percentile over all tokens of each frame.

    Args:
        site: Where in the model.
        cell: Labels of the block: `step`, `branch`, `layer`, as far as the array has them.
        block: Energies, e.g. `[frame, y, x]`.
        frames: Labels of the frames, or None if `frame` is none of the axes.
    """
    rows = 1 if frames is None else len(frames)
    tokens = block.reshape(rows, -1).astype(np.float64)
    # A model that diverged writes NaN and inf: keep them as they are.
    with np.errstate(invalid="ignore", over="ignore"):
        return TokenStats(
            site=site,
            branch=None if dims.BRANCH not in cell else str(cell[dims.BRANCH]),
            step=None if dims.STEP not in cell else int(cell[dims.STEP]),
            layer=None if dims.LAYER not in cell else int(cell[dims.LAYER]),
            frame=frames,
            mean=tokens.mean(axis=1),
            std=tokens.std(axis=1),
            max=tokens.max(axis=1),
            p99=np.percentile(tokens, 99, axis=1),
        )
