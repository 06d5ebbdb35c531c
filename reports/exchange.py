"""Draws `swap`, `windows` and `patch` results: what a donor's states have flipped or brought back, and where."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from analyses import Result
from reports._figure import Figure, canvas, drawing, to_svg
from reports._links import counts_windows
from reports._section import Context, Section, draws
from reports._words import quantity_with_interval

_TITLES: Final = {
    "swap": "States of one layer put into another run",
    "windows": "Which steps and layers carry the decision",
    "patch": "How much of the answer comes back",
}
_LEAD: Final = (
    "Each cell is an arm: the donor's values at these layers and steps, in the tokens that the panel names; and what "
    "part of the runs then ends in the donor's answer, or how much of it comes back. A stranger's states are a control."
)
_PARTS: Final = ("whole", "target", "background", "text", "stranger")


@draws("swap", place=7)
@draws("windows", place=7)
@draws("patch", place=7)
def section(result: Result, context: Context, salt: str) -> Section:
    """A grid of layers × steps for each part, one figure a site; text is drawn beside the residual stream."""
    data = result.to_dataset().compute()
    name = str(data.attrs["headline"])
    # The text part has a site of its own, and belongs to the arms of the residual stream.
    sites = [
        "resid_post" if part == "text" else str(site)
        for part, site in zip(data["part"].to_numpy().tolist(), data["site"].to_numpy().tolist(), strict=True)
    ]
    with drawing():
        figures = tuple(
            grid(data.isel(arm=[place for place, site in enumerate(sites) if site == one]), name, one, f"{salt}-{at}")
            for at, one in enumerate(dict.fromkeys(sites))
        )
        if "flip_by_group" in data:
            figures += (_by_group(data, f"{salt}-groups"),)
    return Section(title=_TITLES[result.record.analysis], lead=_LEAD, films=(), figures=figures)


def grid(arms: xr.Dataset, name: str, site: str, salt: str) -> Figure:
    """A quantity of the arms of one site, layers × steps, a panel a region.

    Args:
        arms: With the quantity and its interval, and the labels of arms.
        name: Of the quantity; of shares, 0 to 1, the scale does not follow the values.
        site: For the title.
        salt: Unique on the page.
    """
    parts = [part for part in _PARTS if (arms["part"] == part).any()]
    layers, steps = (_windows(arms, f"first_{axis}", f"last_{axis}") for axis in ("layer", "step"))
    figure = canvas(height=1.3 + 0.3 * max(3, len(layers)))
    panels: NDArray[Any] = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    low, high = (float(find(arms[name].to_numpy())) for find in (np.nanmin, np.nanmax))
    scale = Normalize(min(low, 0), max(high, 1))
    image: Any = None
    for panel, part in zip(panels, parts, strict=True):
        values = np.full((len(layers), len(steps)), np.nan)
        for at in np.flatnonzero((arms["part"] == part).to_numpy()):
            one = arms.isel(arm=at)
            row, column = layers.index(_window(one, "layer")), steps.index(_window(one, "step"))
            values[row, column] = float(one[name])
        image = _panel(panel, values, part, [_span(window) for window in steps], scale)
        counts_windows(panel, "x", "step", steps)
        counts_windows(panel, "y", "layer", layers)
    panels[0].set_yticks(range(len(layers)), [_span(window) for window in layers])
    panels[0].set_ylabel("layers")
    figure.supxlabel("steps", fontsize=9)
    bar = figure.colorbar(image, ax=list(panels), pad=0.02, label=name)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    best = arms.isel(arm=int(np.nanargmax(arms[name].to_numpy())))
    told = (
        f"{best['part'].item()} at layers {_span(_window(best, 'layer'))}, steps {_span(_window(best, 'step'))}: "
        f"{quantity_with_interval(best, name)}"
    )
    return Figure(
        svg=to_svg(figure, salt=salt),
        quantities=(name,),
        title=f"{str(arms[name].attrs['long_name']).capitalize()}, {site}",
        caption=f"Highest: {told}. n = {arms[name].attrs['n']}; {arms[name].attrs['interval']}.",
        alt=f"Colour maps of {', '.join(parts)}, layers by steps; highest {told}.",
    )


def _panel(axes: Axes, values: NDArray[np.float64], part: str, steps: list[str], scale: Normalize) -> Any:
    """One part: coloured cells with their numbers."""
    axes.grid(visible=False)
    image = axes.imshow(values, aspect="auto", origin="lower", norm=scale)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            # On the colour map itself, which is the same on a dark page.
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=_on(float(scale(value))))
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks(range(len(steps)), steps, rotation=90 if max(map(len, steps)) > 2 else 0)
    axes.tick_params(length=0, labelsize=7.5)
    axes.set_title(part)
    return image


def _on(value: float) -> str:
    """Of text on a colour, from the dark end of the map (0) to the light one (1)."""
    return "white" if value < 0.5 else "black"


def _by_group(data: xr.Dataset, salt: str) -> Figure:
    """A row a family and difficulty, a column a window of steps: all layers at once, whole states."""
    widest = int((data["last_layer"] - data["first_layer"]).max())
    chosen = (data["part"] == "whole") & (data["last_layer"] - data["first_layer"] == widest)
    arms = data.isel(arm=np.flatnonzero(chosen.to_numpy()))
    arms = arms.sortby(["first_step", "last_step"])
    groups = [f"{group or 'no family'} (n = {int(n)})" for group, n in _samples_of(data)]
    windows = [_window(arms.isel(arm=at), "step") for at in range(arms.sizes["arm"])]
    steps = [_span(window) for window in windows]
    figure = canvas(height=1.3 + 0.3 * max(3, len(groups)))
    axes = figure.subplots()
    values = arms["flip_by_group"].transpose("group", "arm").to_numpy()
    image = _panel(axes, values, "all layers, whole", steps, Normalize(0, 1))
    counts_windows(axes, "x", "step", windows)
    axes.set_yticks(range(len(groups)), groups, fontsize=7.5)
    axes.set_xlabel("steps")
    figure.colorbar(image, ax=axes, pad=0.02, label="flip").outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    told: list[str] = []
    for at, group in enumerate(groups):
        row = arms.isel(group=at)
        if not row["flip_by_group"].notnull().any():
            told.append(f"{group}: not tested")
            continue
        best = row.isel(arm=int(np.nanargmax(row["flip_by_group"].to_numpy())))
        told.append(
            f"{group}: most at steps {_span(_window(best, 'step'))}, {quantity_with_interval(best, 'flip_by_group')}"
        )
    return Figure(
        svg=to_svg(figure, salt=salt),
        quantities=("flip_by_group", "samples_of_group"),
        title="Which steps decide, by family and difficulty",
        caption=f"{'; '.join(told)}. Intervals: {data['flip_by_group'].attrs['interval']}; every window of layers is "
        "in the table.",
        alt=f"Colour map of families and difficulties by steps. {'; '.join(told)}.",
    )


def _samples_of(data: xr.Dataset) -> list[tuple[str, float]]:
    groups, counts = data["group"].to_numpy().tolist(), data["samples_of_group"].to_numpy().tolist()
    return [(str(group), float(count)) for group, count in zip(groups, counts, strict=True)]


def _windows(arms: xr.Dataset, first: str, last: str) -> list[tuple[int, int]]:
    """Every window, single ones and narrow ones first."""
    found = {(int(a), int(b)) for a, b in zip(arms[first].to_numpy(), arms[last].to_numpy(), strict=True)}
    return sorted(found, key=lambda window: (window[1] - window[0] == max(b - a for a, b in found) > 0, window))


def _window(one: xr.Dataset, axis: str) -> tuple[int, int]:
    return int(one[f"first_{axis}"]), int(one[f"last_{axis}"])


def _span(window: tuple[int, int]) -> str:
    first, last = window
    return str(first) if first == last else f"{first}-{last}"
