"""The energy maps: where in the frame the norm is, by step and layer, over all samples and of single ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from reports._colours import coloured, palette
from reports._media import Sheet, evenly, map_sheet, picture
from reports._section import Axis, Context, Film, Grid, Group, Pane, Readout, Still, Under
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


def film(data: xr.Dataset, context: Context, salt: str, *, grid: Grid | None = None) -> Film | None:
    """A slider for the step, a slider for the layer, the frames beside each other; None if even one does not fit.

    Args:
        data: The dataset of an `energy` result.
        context: For the samples' prompts and first frames, and what the page may weigh.
        salt: Short id, unique on the page.
        grid: Numbers by layer and step among whose cells the reader chooses; where no map was kept of a cell, that of
            the nearest one is shown, and said.
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
    axes = _axes(data, chosen, grid)
    means = {f"Mean of {some(n, 'sample')}": "maps"} if n > 1 else {}
    means |= {f"{kind.capitalize()} energy, {some(n, 'sample')}": f"maps_{kind}" for kind in kinds}
    for row in [*means, *samples]:
        maps = chosen[means[row]] if row in means else chosen["sample_maps"].sel(map_sample=row)
        cells, scales = _cells(maps)
        sheet = map_sheet(cells, palette())
        if not context.afford(sheet.nbytes):
            break
        panes = _panes(chosen, len(sheets), cells, scales)
        if row not in means:
            panes = _over_x0(panes, data, chosen, context, sample=row, steps=_kept(data, axes[0]))
        groups.append(Group("", row, None, panes) if row in means else _group(context, row, panes))
        sheets.append(sheet)
    if not sheets:
        return None
    overall = f"First row: {typical(data['maps'])} " if n > 1 else ""
    return Film(
        id=f"{salt}-maps",
        title="Where in the picture",
        axes=axes,
        sheets=tuple(sheets),
        groups=tuple(groups),
        caption=(
            f"{overall}A single sample has no interval. Each map has its own colour scale, told under it: it shows "
            "where in the frame; frames, layers and steps are compared in the grid and in the matrices. "
            f"{data.sizes[dims.Y]} × {data.sizes[dims.X]} cells, drawn without loss."
            + (" Under a sample's maps lies x̂0 of its first run." if _has_x0(groups) else "")
        ),
        pixelated=True,
        rows=True,
        grid=grid,
        quantities=("maps", *(f"maps_{kind}" for kind in kinds), "sample_maps"),
        left_out=_left_out(data, frames=len(frames), layers=len(layers), samples=max(0, len(sheets) - len(means))),
    )


def _cells(maps: xr.DataArray) -> tuple[NDArray[np.uint8], list[list[str]]]:
    """Palette positions, steps and their layers down, frames across; and the words of each map's scale."""
    values = maps.transpose("map_step", dims.LAYER, dims.FRAME, dims.Y, dims.X).to_numpy()
    shown = [[coloured(cell) for cell in row] for row in values.reshape(-1, *values.shape[2:])]
    return np.array([[places for places, _ in row] for row in shown]), [[words for _, words in row] for row in shown]


def _panes(chosen: xr.Dataset, sheet: int, cells: NDArray[np.uint8], scales: list[list[str]]) -> tuple[Pane, ...]:
    labels = [f"layer {layer}" for layer in chosen[dims.LAYER].to_numpy()]
    middle = chosen.sizes["map_step"] // 2 * len(labels)
    posters = [int(at) for at in evenly(len(labels), POSTERS)]
    kept = cells[[middle + at for at in [*posters, len(labels) // 2]]]
    told = tuple(labels[at] for at in posters)
    return tuple(
        Pane(
            sheet=sheet,
            row=0,
            column=column,
            title=f"frame {int(frame)}",
            alt=f"energy of the tokens of latent frame {int(frame)}",
            still=Still(map_sheet(kept[None, :, column], palette()), told, len(posters)),
            readouts=(Readout("", tuple(row[column] for row in scales), axis=None),),
            choice=("latent_frame", str(int(frame))),
        )
        for column, frame in enumerate(chosen[dims.FRAME].to_numpy())
    )


def _group(context: Context, sample: str, panes: tuple[Pane, ...]) -> Group:
    record = context.acts.sample(sample)
    return Group(sample, record.record.prompt, picture(record.first_frame), panes)


def _axes(data: xr.Dataset, chosen: xr.Dataset, grid: Grid | None) -> tuple[Axis, Axis]:
    kept = tuple(map(int, data["map_step"].to_numpy())), tuple(map(int, chosen[dims.LAYER].to_numpy()))
    steps, layers = kept if grid is None else (grid.steps, grid.layers)
    sigmas = data["sigma"].reset_coords(drop=True).reindex(step=list(steps)).to_numpy()
    names = [
        f"{step} · σ {sigma:.2f}" if np.isfinite(sigma) else f"{step}"
        for step, sigma in zip(steps, sigmas, strict=True)
    ]
    return (
        _axis("step", steps, names, kept[0], rows=len(kept[1]), fps=1.5),
        _axis("layer", layers, list(map(str, layers)), kept[1], rows=1, fps=3.0),
    )


def _axis(
    name: str, values: tuple[int, ...], labels: Sequence[str], kept: tuple[int, ...], *, rows: int, fps: float
) -> Axis:
    """A slider over `values` whose pictures are those of the nearest value in `kept`."""
    places = tuple(_nearest(kept, value) for value in values)
    told = tuple(
        label if kept[place] == value else f"{label} (maps: {kept[place]})"
        for label, value, place in zip(labels, values, places, strict=True)
    )
    return Axis(name, told, rows, 0, places.index(len(kept) // 2), fps, values, places)


def _nearest(values: Sequence[int], wanted: float) -> int:
    return min(range(len(values)), key=lambda at: abs(values[at] - wanted))


def _over_x0(
    panes: tuple[Pane, ...],
    data: xr.Dataset,
    chosen: xr.Dataset,
    context: Context,
    *,
    sample: str,
    steps: Sequence[int],
) -> tuple[Pane, ...]:
    """The same panes above x̂0 of the sample's first run, where a section has drawn it."""
    of = [run_id for run_id in context.shown if context.acts.run(run_id).run.sample_id == sample]
    if not of:
        return panes
    shown = context.shown[of[0]]
    rows = tuple(_nearest(shown.steps, step) for step in steps)
    # The first video frame is the first latent frame; the others are spread evenly over the rest.
    video = context.acts.run(of[0]).run.settings.frames - 1
    latent = max(1, data.sizes[dims.FRAME] - 1)
    columns = [_nearest(shown.frames, int(frame) * video / latent) for frame in chosen[dims.FRAME].to_numpy()]
    return tuple(
        pane._replace(under=Under(shown.sheet, rows, column)) for pane, column in zip(panes, columns, strict=True)
    )


def _kept(data: xr.Dataset, axis: Axis) -> list[int]:
    """The step whose map is shown, for each position of the slider."""
    return [int(data["map_step"].to_numpy()[place]) for place in axis.places]


def _has_x0(groups: Sequence[Group]) -> bool:
    return any(pane.under is not None for group in groups for pane in group.panes)


def _left_out(data: xr.Dataset, *, frames: int, layers: int, samples: int) -> str:
    shown = (
        (dims.STEP, data.sizes[dims.STEP], data.sizes["map_step"]),
        (dims.LAYER, data.sizes[dims.LAYER], layers),
        (dims.FRAME, data.sizes[dims.FRAME], frames),
        ("sample", int(data["maps"].attrs["n"]), samples),
    )
    left = [f"{count - kept} of {some(count, name)}" for name, count, kept in shown if kept < count]
    return f"Not shown: {', '.join(left)}." if left else ""
