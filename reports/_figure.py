"""Still figures: matplotlib once, in colours that the page replaces by its own for light and dark.

A figure is drawn with placeholder colours; in the SVG each becomes a CSS variable. So one drawing
serves both schemes and print, its text stays text, and its bytes are the same for the same numbers.
"""

from __future__ import annotations

import io
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from reports._links import counts_cells, links

INK: Final = "#010101"
"""Placeholder for text and the main line."""
MUTED: Final = "#020202"
"""Placeholder for axes and ticks."""
RULE: Final = "#030303"
"""Placeholder for grid lines and reference lines."""
SERIES: Final = ("#040404", "#050505", "#060606")
"""Placeholders for the series colours, told apart by the colour-blind; never more than three in a figure."""
_VARIABLES: Final = {INK: "--ink", MUTED: "--muted", RULE: "--rule"} | {
    color: f"--series-{position}" for position, color in enumerate(SERIES)
}
CMAP: Final = "cividis"
"""Colour map of every dense figure: even in lightness, and the same to the colour-blind."""
WIDTH: Final = 5.2
"""Inches of a figure; the page sets two beside each other where there is room."""
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "image.cmap": CMAP,
    "image.interpolation": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


class Figure(NamedTuple):
    """One still figure of the page."""

    svg: Markup
    title: str
    caption: str
    alt: str
    """What the figure shows, for who cannot see it; made from its numbers."""
    quantities: tuple[str, ...] = ()
    """Names of what it draws, in the result: the page offers them as tables, and the Python that gives them again."""


@contextmanager
def drawing() -> Generator[None]:
    """Everything between is drawn in the house's style; nothing outside notices."""
    with mpl.rc_context(_STYLE):
        yield


def canvas(height: float = 2.9) -> Canvas:
    """An empty figure, `height` inches high."""
    return Canvas(figsize=(WIDTH, height), layout="constrained")


def to_svg(figure: Canvas, *, salt: str) -> Markup:
    """The drawing as inline SVG whose colours follow the page.

    Args:
        figure: What was drawn.
        salt: Different for every figure of a page, so that their ids do not meet.
    """
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(<svg [^>]*?)width="[^"]*" height="[^"]*"', r'\1aria-hidden="true" focusable="false"', svg, count=1)
    svg = re.sub(r'\bid="run_(\w+)"', r'data-run="\1"', svg)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{salt}-", svg)
    svg = svg.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans'")
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    # After drawing, when the layout is settled; numbers and fixed names only, which need no escaping in single quotes.
    svg = svg.replace("<svg ", f"<svg data-links='{links(figure)}' ", 1)
    return Markup(svg)


def line(
    axes: Axes,
    x: NDArray[Any],
    mean: NDArray[Any],
    low: NDArray[Any],
    high: NDArray[Any],
    *,
    color: str,
    label: str,
) -> None:
    """A mean with its interval as a band; where there is no interval, no band."""
    axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
    axes.plot(x, mean, color=color, label=label, marker="o", markersize=2.6)


def whiskers(
    axes: Axes,
    x: NDArray[Any],
    mean: NDArray[Any],
    low: NDArray[Any],
    high: NDArray[Any],
    *,
    color: str,
    label: str,
) -> None:
    """A mean with its interval as a bar at each point: legible where several intervals overlap."""
    axes.vlines(x, low, high, color=color, linewidth=0.9, alpha=0.45)
    axes.plot(x, mean, color=color, label=label, marker="o", markersize=2.6)


def integer_steps(axes: Axes, x: NDArray[Any]) -> None:
    """Whole numbers along the horizontal axis, with a little room at both ends."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=9, min_n_ticks=1))
    room = 0.02 * max(float(x[-1] - x[0]), 1.0)
    axes.set_xlim(float(x[0]) - room, float(x[-1]) + room)


def mark_switches(axes: Axes, switches: list[int]) -> None:
    """A dotted line where another expert takes over, half a step before its first step."""
    for step in switches:
        axes.axvline(step - 0.5, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
        axes.annotate(
            "expert switch",
            (step - 0.5, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -3),
            textcoords="offset points",
            va="top",
            fontsize=8,
            color=MUTED,
        )


def matrix(
    figure: Canvas,
    values: NDArray[Any],
    *,
    x: NDArray[Any],
    y: NDArray[Any],
    x_label: str,
    y_label: str,
    scale_label: str,
    log: bool = False,
) -> Axes:
    """A dense figure: `values[y, x]` as coloured cells, the first row at the bottom, with its scale."""
    axes = figure.subplots()
    axes.grid(visible=False)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    norm = LogNorm(low, high) if log and low > 0 and high > low else Normalize(low, high)
    image = axes.imshow(values, aspect="auto", origin="lower", norm=norm)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _ticks(axes, x, y)
    counts_cells(axes, x=x, y=y)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    bar = figure.colorbar(image, ax=axes, pad=0.02, label=scale_label)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    if isinstance(norm, LogNorm):
        # The usual labels of a logarithmic scale are formulas, which plain text cannot show.
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.ax.yaxis.set_major_formatter(FuncFormatter(_plain))
    return axes


def _plain(value: float, _position: int | None) -> str:
    return f"{value:.3g}"


def _ticks(axes: Axes, x: NDArray[Any], y: NDArray[Any]) -> None:
    for axis, labels in ((axes.xaxis, x), (axes.yaxis, y)):
        every = -(-len(labels) // 12)
        axis.set_ticks(range(0, len(labels), every), [str(label) for label in labels[::every]])
        axis.set_tick_params(length=0)
