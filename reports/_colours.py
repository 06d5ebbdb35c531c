"""Numbers as positions in the palette of dense pictures."""

from __future__ import annotations

from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LogNorm, Normalize
from numpy.typing import NDArray

from reports._figure import CMAP

LOG_FROM: Final = 10.0
"""A colour scale whose ends are further apart than this factor is logarithmic."""


def is_wide(values: NDArray[Any]) -> bool:
    """Whether a colour scale for `values` should be logarithmic; NaN counts for nothing."""
    low, high = _ends(values)
    return low > 0 and high / low > LOG_FROM


def coloured(values: NDArray[Any]) -> tuple[NDArray[np.uint8], str]:
    """Values of any shape as positions in the palette, NaN as the lowest, and the words of their scale."""
    low, high = _ends(values)
    wide = is_wide(values)
    norm = LogNorm(low, high) if wide else Normalize(low, high)
    known = np.where(np.isfinite(values), values, low)
    places = np.asarray(norm(known)) * 255 if high > low else np.zeros(values.shape)
    return places.round().astype(np.uint8), f"{low:.3g} to {high:.3g}{', log' if wide else ''}"


def palette() -> NDArray[np.uint8]:
    """The page's colour map, uint8 `[256, channel]`."""
    colours = mpl.colormaps[CMAP](np.arange(256))
    return (np.asarray(colours)[:, :3] * 255).round().astype(np.uint8)


def _ends(values: NDArray[Any]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
