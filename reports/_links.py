"""Where steps, layers and frames lie in a still figure, so that the page can mark what the reader has chosen."""

from __future__ import annotations

import json
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

_LABELS: Final = {"denoising step": "step", "step": "step", "layer": "layer"}
"""What an axis is called, and what the page calls that choice."""
_CELLS: Final[WeakKeyDictionary[Axes, dict[str, NDArray[Any]]]] = WeakKeyDictionary()
"""Axes that count cells: the values of these, by `x` and `y`."""


def counts_cells(axes: Axes, *, x: NDArray[Any], y: NDArray[Any]) -> None:
    """Say that `axes` shows cells, whose values are these."""
    _CELLS[axes] = {"x": x, "y": y}


def links(figure: Figure) -> str:
    """The linked axes of a drawn figure as JSON: name, direction, values, their places, and the ends across.

    Places are fractions of the figure's width from the left and of its height from the top.
    """
    found = [_link(figure, axes, along) for axes in figure.axes for along in ("x", "y")]
    return json.dumps([link for link in found if link is not None], separators=(",", ":"))


def _link(figure: Figure, axes: Axes, along: str) -> dict[str, Any] | None:
    name = _LABELS.get(axes.get_xlabel() if along == "x" else axes.get_ylabel())
    if name is None:
        return None
    values = _values(axes, along)
    if len(values) < 2:
        return None
    cells = axes in _CELLS
    at = np.arange(len(values)) if cells else values
    points = np.zeros((len(values), 2))
    points[:, 0 if along == "x" else 1] = at
    size = np.array([figure.bbox.width, figure.bbox.height])
    placed = axes.transData.transform(points) / size
    low, high = axes.bbox.min / size, axes.bbox.max / size
    across = (1 - high[1], 1 - low[1]) if along == "x" else (low[0], high[0])
    places = placed[:, 0] if along == "x" else 1 - placed[:, 1]
    return {
        "name": name,
        "along": along,
        "values": values.tolist(),
        "at": [round(float(place), 4) for place in places],
        "across": [round(float(end), 4) for end in across],
    }


def _values(axes: Axes, along: str) -> NDArray[np.int64]:
    """Whole numbers that the axis shows; empty if it shows other things."""
    if axes in _CELLS:
        held = _CELLS[axes][along]
        return held.astype(np.int64) if held.dtype.kind in "iu" else np.empty(0, np.int64)
    if along == "y":
        return np.empty(0, np.int64)
    each = [np.asarray(line.get_xdata(orig=True), np.float64) for line in axes.get_lines()]
    drawn = [x for x in each if len(x) > 2]  # shorter ones are reference lines
    known = np.unique(np.concatenate(drawn)) if drawn else np.empty(0)
    return np.unique(known[np.isfinite(known)].round()).astype(np.int64)
