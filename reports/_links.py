"""Where steps, layers, frames, heads and runs lie in a still figure, so that a page can mark what is chosen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

_LABELS: Final = {
    "denoising step": "step",
    "step": "step",
    "layer": "layer",
    "latent frame": "latent_frame",
    "head": "head",
}
"""What an axis is called, and what the page calls that choice."""
_ACROSS: Final = {**_LABELS, "noise put in at step": "step", "latent frame with noise": "latent_frame"}
"""The same of horizontal axes; in a square of steps by steps the choice is that of the horizontal one."""
Window = tuple[int, int]
"""First and last of some steps or layers in a row."""
_CELLS: Final[WeakKeyDictionary[Axes, dict[str, NDArray[Any]]]] = WeakKeyDictionary()
"""Axes that count cells: the values of these, by `x` and `y`."""
_WINDOWS: Final[WeakKeyDictionary[Axes, dict[str, tuple[str, Sequence[Window]]]]] = WeakKeyDictionary()
"""Axes whose cells are windows: what they are windows of, and these, by `x` and `y`."""


def run_line(run_id: str) -> str:
    """The `gid` of the line of one run, by which the page finds it (`data-run`)."""
    return f"run_{run_id}"


def counts_windows(axes: Axes, along: str, name: str, windows: Sequence[Window]) -> None:
    """Say that the cells of `axes` along `x` or `y` are windows of `step` or `layer`."""
    _WINDOWS.setdefault(axes, {})[along] = (name, windows)


def counts_cells(axes: Axes, *, x: NDArray[Any], y: NDArray[Any]) -> None:
    """Say that `axes` shows cells, whose values are these."""
    _CELLS[axes] = {"x": x, "y": y}


def links(figure: Figure) -> str:
    """The linked axes of a drawn figure as JSON: name, direction, values, their places, and the ends across.

    Windows have `spans` as well, their values being the first of each.

    Places are fractions of the figure's width from the left and of its height from the top.
    """
    found = [_link(figure, axes, along) for axes in figure.axes for along in ("x", "y")]
    return json.dumps([link for link in found if link is not None], separators=(",", ":"))


def _link(figure: Figure, axes: Axes, along: str) -> dict[str, Any] | None:
    name, windows = _WINDOWS.get(axes, {}).get(along, ("", ()))
    if windows:
        at = np.arange(len(windows))
        told: dict[str, Any] = {"values": [first for first, _ in windows], "spans": [list(one) for one in windows]}
    else:
        label = axes.get_xlabel() if along == "x" else axes.get_ylabel()
        name = (_ACROSS if along == "x" else _LABELS).get(label, "")
        values = _values(axes, along) if name else np.empty(0, np.int64)
        at = np.arange(len(values)) if axes in _CELLS else values
        told = {"values": values.tolist()}
    if len(at) < 2:
        return None
    return {"name": name, "along": along, **told, **_places(figure, axes, along, at)}


def _places(figure: Figure, axes: Axes, along: str, at: NDArray[Any]) -> dict[str, list[float]]:
    """Where these positions of an axis are drawn, and between which ends across."""
    points = np.zeros((len(at), 2))
    points[:, 0 if along == "x" else 1] = at
    size = np.array([figure.bbox.width, figure.bbox.height])
    placed = axes.transData.transform(points) / size
    low, high = axes.bbox.min / size, axes.bbox.max / size
    across = (1 - high[1], 1 - low[1]) if along == "x" else (low[0], high[0])
    places = placed[:, 0] if along == "x" else 1 - placed[:, 1]
    return {
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
