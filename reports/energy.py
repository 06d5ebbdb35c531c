"""Draws an `energy` result: which layers, frames and steps carry the norm, and where in the picture."""

from __future__ import annotations

from typing import Any, Final

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.colors import LogNorm, Normalize
from numpy.typing import NDArray

from analyses import Result
from reports._figure import (
    CMAP,
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
from reports._media import evenly, map_sheet
from reports._section import Axis, Context, Film, Group, Pane, Readout, Section, draws
from reports._words import behind, ends, extremes, typical
from store import dims

MAP_FRAMES: Final = 9
"""Latent frames whose maps are shown at most."""
MAP_LAYERS: Final = 48
"""Layers whose maps are shown at most."""
POSTERS: Final = 5
"""Layers that are shown on paper and without JavaScript."""
LOG_FROM: Final = 10.0
"""A colour scale whose ends are further apart than this factor is logarithmic."""


@draws("energy")
def section(result: Result, context: Context, salt: str) -> Section:
    """The matrices and profiles, then the maps."""
    data = result.to_dataset().compute()
    film = _film(data, context, salt)
    with drawing():
        figures = (
            _layers_by_frames(data, salt),
            _steps_by_layers(data, salt),
            _profile(data, salt),
            _share(data, salt),
        )
    return Section(
        title="Token energy",
        lead=(
            f"The L2 norm over channels of each token of {data.attrs['site']}, raw: a few channels with massive "
            "activations can carry most of it, so bright says where the norm is, not where the content is."
        ),
        films=() if film is None else (film,),
        figures=figures,
        notes=() if film is not None else ("The maps are larger than a page may be and are left out.",),
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
        log=_is_wide(quantity.to_numpy()),
    )
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-layers"),
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
        log=_is_wide(quantity.to_numpy()),
    )
    steps = data[dims.STEP].to_numpy()
    for switch in data.attrs["switches"]:
        axes.axvline(float(np.searchsorted(steps, switch)) - 0.5, color="white", linewidth=1.2, linestyle=(0, (2, 2)))
    switched = " Dashed: another expert takes over." if len(data.attrs["switches"]) else ""
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-steps"),
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
    axes.set_ylim(bottom=0)
    axes.margins(y=0.15)
    said = f"The peak is at step {peak}." if peak is not None else "No peak by the rule of the analysis."
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-profile"),
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
    axes.annotate(
        "all frames equal",
        (1, equal),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=MUTED,
    )
    integer_steps(axes, data[dims.LAYER].to_numpy())
    axes.set_ylim(0, 1)
    axes.set_xlabel("layer")
    axes.set_ylabel("share of the first frame")
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-share"),
        title="Share of the first frame, by layer",
        caption=f"Energy of latent frame 0 over that of all frames. {behind(quantity, over='steps')}",
        alt=f"Line chart of the first frame's share: {ends(quantity, dims.LAYER)}; equal frames: {equal:.2f}.",
    )


def _curve(axes: Any, data: xr.Dataset, name: str, dim: str, *, color: str) -> None:
    mean, low, high = (data[f"{name}{end}"].to_numpy() for end in ("", "_low", "_high"))
    line(axes, data[dim].to_numpy(), mean, low, high, color=color, label=name)


def _film(data: xr.Dataset, context: Context, salt: str) -> Film | None:
    """The maps: a slider for the step, a slider for the layer, the frames beside each other."""
    layers = evenly(data.sizes[dims.LAYER], MAP_LAYERS)
    frames = evenly(data.sizes[dims.FRAME], MAP_FRAMES)
    mean = data["mean_map"].expand_dims(map_step=[-1])
    maps = xr.concat([mean, data["maps"]], dim="map_step").isel({dims.LAYER: layers, dims.FRAME: frames})
    maps = maps.transpose("map_step", dims.LAYER, dims.FRAME, dims.Y, dims.X)
    steps, count = [int(step) for step in data["map_step"].to_numpy()], len(layers)
    values = maps.to_numpy()
    coloured = [[_coloured(values[:, i, j]) for j in range(len(frames))] for i in range(count)]
    cells = np.array([[places for places, _ in row] for row in coloured])  # [layer, frame, map_step, y, x]
    sheet = map_sheet(cells.transpose(2, 0, 1, 3, 4).reshape(-1, *cells.shape[1:2], *cells.shape[3:]), _palette())
    if not context.afford(sheet.nbytes):
        return None
    panes = tuple(
        Pane(
            sheet=0,
            row=0,
            column=column,
            title=f"frame {int(frame)}",
            alt=f"energy of the tokens of latent frame {int(frame)}",
            readouts=(Readout("scale", tuple(row[column][1] for row in coloured), axis=1),),
            poster=tuple((int(row), column, f"layer {int(maps[dims.LAYER][row])}") for row in evenly(count, POSTERS)),
        )
        for column, frame in enumerate(maps[dims.FRAME].to_numpy())
    )
    return Film(
        id=f"{salt}-maps",
        title="Where in the picture",
        axes=(
            Axis("step", ("mean over steps", *(_step_label(data, step) for step in steps)), count, 0, start=0, fps=1.5),
            Axis("layer", tuple(str(layer) for layer in maps[dims.LAYER].to_numpy()), 1, 0, start=count - 1, fps=3.0),
        ),
        sheets=(sheet,),
        groups=(Group("", "", None, panes),),
        caption=(
            f"{typical(data['mean_map'])} Each frame of a layer has its own colour scale, the same at all steps, so "
            "that it shows where in the frame; frames are compared in the matrix below. "
            f"{data.sizes[dims.Y]} × {data.sizes[dims.X]} cells, drawn without loss."
        ),
        pixelated=True,
        left_out=_left_out(data, frames=len(frames), layers=count, steps=len(steps)),
    )


def _coloured(values: NDArray[Any]) -> tuple[NDArray[np.uint8], str]:
    """The maps of one layer and frame as positions in the palette, and the words of their scale."""
    low, high = float(values.min()), float(values.max())
    wide = _is_wide(values)
    norm = LogNorm(low, high) if wide else Normalize(low, high)
    places = np.asarray(norm(values)) * 255 if high > low else np.zeros(values.shape)
    return places.round().astype(np.uint8), f"{low:.3g} to {high:.3g}{', log' if wide else ''}"


def _palette() -> NDArray[np.uint8]:
    colours = mpl.colormaps[CMAP](np.arange(256))
    return (np.asarray(colours)[:, :3] * 255).round().astype(np.uint8)


def _step_label(data: xr.Dataset, step: int) -> str:
    return f"{step} · σ {float(data['sigma'].sel(step=step)):.2f}"


def _is_wide(values: NDArray[Any]) -> bool:
    low, high = float(values.min()), float(values.max())
    return low > 0 and high / low > LOG_FROM


def _left_out(data: xr.Dataset, *, frames: int, layers: int, steps: int) -> str:
    shown = ((dims.STEP, steps), (dims.LAYER, layers), (dims.FRAME, frames))
    left = [f"{data.sizes[dim] - n} of {data.sizes[dim]} {dim}s" for dim, n in shown if n < data.sizes[dim]]
    return f"Not shown: {', '.join(left)}, evenly left out." if left else ""
