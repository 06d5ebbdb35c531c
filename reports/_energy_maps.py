"""The energy maps: where in the frame the norm is, by step and layer, over all samples and of single ones."""

from __future__ import annotations

from typing import Any, Final

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.colors import LogNorm, Normalize
from numpy.typing import NDArray

from reports._figure import CMAP
from reports._media import Sheet, evenly, map_sheet, picture
from reports._section import Axis, Context, Film, Group, Pane, Readout
from reports._words import some, typical
from store import dims

MAP_FRAMES: Final = 9
"""Latent frames whose maps are shown at most."""
MAP_LAYERS: Final = 24
"""Layers whose maps are shown at most."""
OTHERS: Final = ("masked", "standardised")
"""Kinds of energy whose maps stand below the raw ones, where whole tokens were kept."""
POSTERS: Final = 6
"""Layers that are shown on paper and without JavaScript."""
LOG_FROM: Final = 10.0
"""A colour scale whose ends are further apart than this factor is logarithmic."""


def film(data: xr.Dataset, context: Context, salt: str) -> Film | None:
    """A slider for the step, a slider for the layer, the frames beside each other; None if even one does not fit.

    Args:
        data: The dataset of an `energy` result.
        context: For the samples' prompts and first frames, and what the page may weigh.
        salt: Short id, unique on the page.
    """
    layers = evenly(data.sizes[dims.LAYER], MAP_LAYERS)
    frames = evenly(data.sizes[dims.FRAME], MAP_FRAMES)
    kinds = [kind for kind in OTHERS if f"maps_{kind}" in data]
    chosen = data[["maps", *(f"maps_{kind}" for kind in kinds), "sample_maps"]].isel(
        {dims.LAYER: layers, dims.FRAME: frames}
    )
    samples = [str(sample) for sample in data["map_sample"].to_numpy()]
    n = int(data["maps"].attrs["n"])
    sheets: list[Sheet] = []
    groups: list[Group] = []
    means = {f"Mean of {some(n, 'sample')}": "maps"} if n > 1 else {}
    means |= {f"{kind.capitalize()} energy, {some(n, 'sample')}": f"maps_{kind}" for kind in kinds}
    for row in [*means, *samples]:
        maps = chosen[means[row]] if row in means else chosen["sample_maps"].sel(map_sample=row)
        sheet, scales = _sheet(maps)
        if not context.afford(sheet.nbytes):
            break
        panes = _panes(chosen, len(sheets), scales)
        groups.append(Group("", row, None, panes) if row in means else _group(context, row, panes))
        sheets.append(sheet)
    if not sheets:
        return None
    overall = f"First row: {typical(data['maps'])} " if n > 1 else ""
    return Film(
        id=f"{salt}-maps",
        title="Where in the picture",
        axes=_axes(data, chosen),
        sheets=tuple(sheets),
        groups=tuple(groups),
        caption=(
            f"{overall}A single sample has no interval. Each map has its own colour scale, told under it: it shows "
            "where in the frame; frames, layers and steps are compared in the matrices below. "
            f"{data.sizes[dims.Y]} × {data.sizes[dims.X]} cells, drawn without loss."
        ),
        pixelated=True,
        rows=True,
        left_out=_left_out(data, frames=len(frames), layers=len(layers), samples=max(0, len(sheets) - len(means))),
    )


def is_wide(values: NDArray[Any]) -> bool:
    """Whether a colour scale for `values` should be logarithmic."""
    low, high = float(values.min()), float(values.max())
    return low > 0 and high / low > LOG_FROM


def _sheet(maps: xr.DataArray) -> tuple[Sheet, list[list[str]]]:
    """Steps and their layers down, frames across; and the words of each map's scale, `[row][column]`."""
    values = maps.transpose("map_step", dims.LAYER, dims.FRAME, dims.Y, dims.X).to_numpy()
    coloured = [[_coloured(cell) for cell in row] for row in values.reshape(-1, *values.shape[2:])]
    sheet = map_sheet(np.array([[places for places, _ in row] for row in coloured]), _palette())
    return sheet, [[words for _, words in row] for row in coloured]


def _panes(chosen: xr.Dataset, sheet: int, scales: list[list[str]]) -> tuple[Pane, ...]:
    labels = [f"layer {layer}" for layer in chosen[dims.LAYER].to_numpy()]
    middle = chosen.sizes["map_step"] // 2 * len(labels)
    return tuple(
        Pane(
            sheet=sheet,
            row=0,
            column=column,
            title=f"frame {int(frame)}",
            alt=f"energy of the tokens of latent frame {int(frame)}",
            readouts=(Readout("", tuple(row[column] for row in scales), axis=None),),
            poster=tuple((middle + int(at), column, labels[at]) for at in evenly(len(labels), POSTERS)),
        )
        for column, frame in enumerate(chosen[dims.FRAME].to_numpy())
    )


def _group(context: Context, sample: str, panes: tuple[Pane, ...]) -> Group:
    record = context.acts.sample(sample)
    return Group(sample, record.record.prompt, picture(record.first_frame), panes)


def _axes(data: xr.Dataset, chosen: xr.Dataset) -> tuple[Axis, Axis]:
    sigmas = data["sigma"].sel(step=data["map_step"].to_numpy()).to_numpy()
    steps = tuple(f"{step} · σ {sigma:.2f}" for step, sigma in zip(data["map_step"].to_numpy(), sigmas, strict=True))
    layers = tuple(str(layer) for layer in chosen[dims.LAYER].to_numpy())
    return (
        Axis("step", steps, len(layers), 0, len(steps) // 2, 1.5, tuple(map(int, data["map_step"].to_numpy()))),
        Axis("layer", layers, 1, 0, len(layers) // 2, 3.0, tuple(map(int, layers))),
    )


def _coloured(values: NDArray[Any]) -> tuple[NDArray[np.uint8], str]:
    """One map as positions in the palette, and the words of its scale."""
    low, high = float(values.min()), float(values.max())
    wide = is_wide(values)
    norm = LogNorm(low, high) if wide else Normalize(low, high)
    places = np.asarray(norm(values)) * 255 if high > low else np.zeros(values.shape)
    return places.round().astype(np.uint8), f"{low:.3g} to {high:.3g}{', log' if wide else ''}"


def _palette() -> NDArray[np.uint8]:
    colours = mpl.colormaps[CMAP](np.arange(256))
    return (np.asarray(colours)[:, :3] * 255).round().astype(np.uint8)


def _left_out(data: xr.Dataset, *, frames: int, layers: int, samples: int) -> str:
    shown = (
        (dims.STEP, data.sizes[dims.STEP], data.sizes["map_step"]),
        (dims.LAYER, data.sizes[dims.LAYER], layers),
        (dims.FRAME, data.sizes[dims.FRAME], frames),
        ("sample", int(data["maps"].attrs["n"]), samples),
    )
    left = [f"{count - kept} of {some(count, name)}" for name, count, kept in shown if kept < count]
    return f"Not shown: {', '.join(left)}." if left else ""
