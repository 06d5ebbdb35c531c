"""Draws an `energy` result: which layers, frames and steps carry the norm, and where in the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from analyses import Result
from reports._colours import is_wide
from reports._energy_parts import figures as of_parts
from reports._figure import (
    MUTED,
    SERIES,
    Figure,
    canvas,
    drawing,
    integer_steps,
    line,
    mark_switches,
    matrix,
    to_svg,
)
from reports._section import Context, Section, draws
from reports._words import behind, ends, extremes, typical
from store import dims


@draws("energy", place=6)
def section(result: Result, context: Context, salt: str) -> Section:
    """The matrices and profiles; the maps stand in the microscope."""
    data = result.to_dataset().compute()
    with drawing():
        figures = (
            _layers_by_frames(data, salt),
            _steps_by_layers(data, salt),
            _profile(data, salt),
            _share(data, salt),
            *of_parts(data, salt),
        )
    return Section(
        title="Token energy",
        lead=(
            f"The L2 norm over channels of each token of {data.attrs['site']}. Raw, a few channels with massive "
            "activations can carry most of it, so bright says where the norm is, not where the content is. Masked is "
            "without these channels; standardised brings all to one scale."
        ),
        films=(),
        figures=figures,
    )


def _layers_by_frames(data: xr.Dataset, salt: str) -> Figure:
    quantity = data["energy"]
    figure = canvas()
    matrix(
        figure,
        quantity.transpose(dims.LAYER, dims.FRAME).to_numpy(),
        x=data[dims.FRAME].to_numpy(),
        y=data[dims.LAYER].to_numpy(),
        x_label="latent frame",
        y_label="layer",
        scale_label="energy (raw L2)",
        log=is_wide(quantity.to_numpy()),
    )
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-layers"),
        quantities=("energy",),
        title="Energy by layer and frame",
        caption=typical(quantity, over="steps and tokens"),
        alt=f"Colour map of the raw energy: {extremes(quantity, rows=dims.LAYER, columns=dims.FRAME)}.",
    )


def _steps_by_layers(data: xr.Dataset, salt: str) -> Figure:
    quantity = data["energy_by_step"]
    figure = canvas()
    axes = matrix(
        figure,
        quantity.transpose(dims.LAYER, dims.STEP).to_numpy(),
        x=data[dims.STEP].to_numpy(),
        y=data[dims.LAYER].to_numpy(),
        x_label="denoising step",
        y_label="layer",
        scale_label="energy (raw L2)",
        log=is_wide(quantity.to_numpy()),
    )
    steps = data[dims.STEP].to_numpy()
    for switch in data.attrs["switches"]:
        axes.axvline(float(np.searchsorted(steps, switch)) - 0.5, color="white", linewidth=1.2, linestyle=(0, (2, 2)))
    switched = " Dashed: another expert takes over." if len(data.attrs["switches"]) else ""
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-steps"),
        quantities=("energy_by_step",),
        title="Energy by step and layer",
        caption=typical(quantity, over="frames and tokens") + switched,
        alt=f"Colour map of the raw energy: {extremes(quantity, rows=dims.LAYER, columns=dims.STEP)}.",
    )


def _profile(data: xr.Dataset, salt: str) -> Figure:
    quantity = data["step_profile"]
    figure = canvas()
    axes = figure.subplots()
    _curve(axes, data, "step_profile", dims.STEP, color=SERIES[0])
    integer_steps(axes, data[dims.STEP].to_numpy())
    mark_switches(axes, [int(step) for step in data.attrs["switches"]])
    peak = data.attrs.get("peak_step")
    if peak is not None:
        at = float(quantity.sel(step=peak))
        axes.plot([peak], [at], marker="o", markersize=7, color=SERIES[1])
        axes.annotate(f"peak, step {peak}", (peak, at), xytext=(7, 4), textcoords="offset points", color=SERIES[1])
    axes.set_xlabel("denoising step")
    axes.set_ylabel("energy (raw L2)")
    axes.set_ylim(0, 1.12 * axes.get_ylim()[1])
    said = f"The peak is at step {peak}." if peak is not None else "No peak by the rule of the analysis."
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-profile"),
        quantities=("step_profile",),
        title="Energy by step",
        caption=f"{behind(quantity, over='layers, frames and tokens')} {said}",
        alt=f"Line chart of the raw energy by step: {ends(quantity, dims.STEP)}. {said}",
    )


def _share(data: xr.Dataset, salt: str) -> Figure:
    quantity = data["first_frame_share"]
    equal = 1 / data.sizes[dims.FRAME]
    figure = canvas()
    axes = figure.subplots()
    _curve(axes, data, "first_frame_share", dims.LAYER, color=SERIES[0])
    axes.axhline(equal, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    below = float(quantity[-1]) > equal  # on the side of the line where the curve does not end
    axes.annotate(
        "all frames equal",
        (1, equal),
        xycoords=("axes fraction", "data"),
        xytext=(-2, -3 if below else 3),
        textcoords="offset points",
        ha="right",
        va="top" if below else "bottom",
        fontsize=8,
        color=MUTED,
    )
    integer_steps(axes, data[dims.LAYER].to_numpy())
    axes.set_ylim(0, 1)
    axes.set_xlabel("layer")
    axes.set_ylabel("share of the first frame")
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-share"),
        quantities=("first_frame_share",),
        title="Share of the first frame, by layer",
        caption=f"Energy of latent frame 0 over that of all frames. {behind(quantity, over='steps')}",
        alt=f"Line chart of the first frame's share: {ends(quantity, dims.LAYER)}; equal frames: {equal:.2f}.",
    )


def _curve(axes: Any, data: xr.Dataset, name: str, dim: str, *, color: str) -> None:
    mean, low, high = (data[f"{name}{end}"].to_numpy() for end in ("", "_low", "_high"))
    line(axes, data[dim].to_numpy(), mean, low, high, color=color, label=name)
