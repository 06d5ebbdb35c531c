"""Draws an `attribution` result: what the gradient foretold of each patch, beside what the patch then recovered."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from analyses import Result
from reports._figure import INK, MUTED, RULE, SERIES, Figure, canvas, drawing, to_svg
from reports._section import Context, Section, draws
from reports._words import quantity_with_interval
from reports.exchange import grid

USABLE: Final = 0.5
"""The rule's rho, from which on the cheap version is usable."""
PARTS: Final = {"whole": "o", "target": "^", "background": "s"}
"""Markers of regions."""
ROW: Final = 0.24
"""Inches of a row."""


@draws("attribution", place=7)
def section(result: Result, context: Context, salt: str) -> Section:
    """Foretold against real, rho by group, and both as grids of layers × steps for each site and region."""
    data = result.to_dataset().compute()
    sites = list(dict.fromkeys(map(str, data["site"].to_numpy())))
    with drawing():
        figures = [_scatter(data, sites, f"{salt}-scatter"), _rhos(data, f"{salt}-rho")]
        for at, site in enumerate(sites):
            arms = data.isel(arm=np.flatnonzero((data["site"] == site).to_numpy()))
            figures += [grid(arms, name, site, f"{salt}-{name}-{at}") for name in ("attributed", "recovered")]
    return Section(
        title="Which patches the gradient foretells",
        lead=(
            "Every arm of a patch (site, block of layers, window of steps, region), as gradients foretell it, and as "
            "it turned out. Only ranks are compared: a gradient is that of x̂0 of the same step, in latent space, and "
            "what a patch does through later steps is not in it."
        ),
        films=(),
        figures=tuple(figures),
    )


def _scatter(data: xr.Dataset, sites: list[str], salt: str) -> Figure:
    """An arm a point: a colour a site, a marker a region, intervals both ways."""
    figure = canvas(height=3.4)
    axes = figure.subplots()
    for color, site in zip(SERIES, sites, strict=False):
        for part, marker in PARTS.items():
            chosen = ((data["site"] == site) & (data["part"] == part)).to_numpy()
            if chosen.any():
                _points(axes, data.isel(arm=np.flatnonzero(chosen)), color, marker, f"{site}, {part}")
    axes.axhline(0, color=RULE, linewidth=0.8)
    axes.axvline(0, color=RULE, linewidth=0.8)
    axes.set_xlabel("foretold: attributed share of the donor's answer")
    axes.set_ylabel("real: recovered share")
    figure.legend(loc="outside upper left", ncols=3, fontsize=7)
    rho, size = (_rho(data, "all", name) for name in ("rho", "rho_of_size"))
    best = data.isel(arm=int(np.nanargmax(data["attributed"].to_numpy())))
    told = (
        f"Highest foretold, {float(best['attributed']):.2f}: {_name(best)}, which recovers "
        f"{quantity_with_interval(best, 'recovered')}"
    )
    attrs = data["recovered"].attrs
    return Figure(
        svg=to_svg(figure, salt=salt),
        quantities=("attributed", "recovered"),
        title="Foretold and real, arm by arm",
        caption=f"Spearman's rho {rho}, that of the size of the change alone {size}; {data.sizes['arm']} arms. {told}. "
        f"n = {attrs['n']}; bars: {attrs['interval']}.",
        alt=f"Scatter chart of {data.sizes['arm']} arms, recovered by attributed; rho {rho}. {told}.",
    )


def _points(axes: Axes, arms: xr.Dataset, color: str, marker: str, label: str) -> None:
    x, x_low, x_high = (arms[f"attributed{end}"].to_numpy() for end in ("", "_low", "_high"))
    y, y_low, y_high = (arms[f"recovered{end}"].to_numpy() for end in ("", "_low", "_high"))
    axes.hlines(y, x_low, x_high, color=color, linewidth=0.8, alpha=0.4)
    axes.vlines(x, y_low, y_high, color=color, linewidth=0.8, alpha=0.4)
    axes.plot(x, y, color=color, marker=marker, markersize=3.8, linestyle="none", label=label)


def _rhos(data: xr.Dataset, salt: str) -> Figure:
    """A row a group of arms: rho of the gradient, and of the size of the change, which needs no gradient."""
    names = [str(name) for name in data["group"].to_numpy()]
    figure = canvas(height=ROW * len(names) + 0.9)
    axes = figure.subplots()
    rows = np.arange(len(names))[::-1].astype(float)
    series: tuple[tuple[str, str, str, float], ...] = (
        ("rho", "attributed", SERIES[0], 0.12),
        ("rho_of_size", "size of the change", SERIES[1], -0.12),
    )
    for name, label, color, off in series:
        mean, low, high = (data[f"{name}{end}"].to_numpy() for end in ("", "_low", "_high"))
        axes.hlines(rows + off, low, high, color=color, linewidth=1.2)
        axes.plot(mean, rows + off, color=color, marker="o", markersize=3.6, linestyle="none", label=label)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.axvline(USABLE, color=INK, linewidth=0.9, linestyle=(0, (1, 2)))
    axes.set_yticks(rows, names, fontsize=7.5)
    axes.set_xlim(-1.05, 1.05)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.set_xlabel("Spearman's rho with what was recovered")
    figure.legend(loc="outside upper left", ncols=2)
    attrs = data["rho"].attrs
    told = "; ".join(f"{name}: {_rho(data, name, 'rho')}, size {_rho(data, name, 'rho_of_size')}" for name in names)
    return Figure(
        svg=to_svg(figure, salt=salt),
        quantities=("rho", "rho_of_size"),
        title="How well arms are ranked, by site, window and region",
        caption=f"Over the arms of each group. Dotted: {USABLE:g}, which the rule asks for. n = {attrs['n']}; "
        f"{attrs['interval']}.",
        alt=f"Rows with rho. {told}.",
    )


def _rho(data: xr.Dataset, group: str, name: str) -> str:
    """In words; where nothing varies over the arms of a group, there is none."""
    one = data.sel(group=group)
    return quantity_with_interval(one, name) if np.isfinite(one[name].item()) else "none"


def _name(one: xr.Dataset) -> str:
    labels: dict[str, Any] = {
        name: one[name].item() for name in ("part", "site", "first_layer", "last_layer", "first_step", "last_step")
    }
    return "{part} of {site} in layers {first_layer} to {last_layer} at steps {first_step} to {last_step}".format(
        **labels
    )
