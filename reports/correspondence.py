"""Draws a `correspondence` result: where tokens find what has moved, by layer, step and head, and tracks to look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from analyses import Result
from reports._figure import INK, MUTED, SERIES, Figure, canvas, drawing, matrix, to_svg
from reports._media import shrunk
from reports._section import Context, Section, draws
from reports._words import extremes, percent, typical
from store import dims


@draws("correspondence", place=13)
def section(result: Result, context: Context, salt: str) -> Section:
    """The mean over heads, each head, and tracks of a few samples."""
    data = result.to_dataset().compute()
    with drawing():
        figures = [_cells(data, salt)]
        figures += [_heads(data, salt)] if "head_accuracy" in data else []
        figures.append(_tracks(data, context, salt))
    away = data.attrs["direction"] == "from_first"
    who = (
        "Queries of the first frame look for keys of later frames"
        if away
        else "Later frames are asked which of their queries look most at the first frame's keys"
    )
    return Section(
        title=f"Temporal correspondence, {'from' if away else 'towards'} the first frame",
        lead=(
            f"{who}, for tokens of things that move; the largest counts. Read from {data.attrs['sites']}, and compared "
            "with the true tracks, in frames in which a thing is more than a token away from its first place: "
            "looking at the same place gets nothing right."
        ),
        films=(),
        figures=tuple(figures),
        notes=(f"{str(data.attrs['left_out']).capitalize()}.",),
    )


def _beside(data: xr.Dataset) -> str:
    return f"Beside it: nearest colour in the finished video {percent(float(data['colour']))}."


def _cells(data: xr.Dataset, salt: str) -> Figure:
    accuracy = data["accuracy"]
    figure = canvas()
    axes = matrix(
        figure,
        accuracy.transpose(dims.LAYER, dims.STEP).to_numpy(),
        x=data[dims.STEP].to_numpy(),
        y=data[dims.LAYER].to_numpy(),
        x_label="denoising step",
        y_label="layer",
        scale_label="found within one token",
    )
    y, x = np.nonzero(data["tracked"].transpose(dims.LAYER, dims.STEP).to_numpy())
    axes.plot(x, y, linestyle="none", marker=".", markersize=3, color=MUTED)
    chance = percent(float(data["chance"].mean()))
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-cells"),
        quantities=("accuracy", "tracked"),
        title="Tokens that are found, mean over heads",
        caption=f"{typical(accuracy)} Dots: above chance ({chance} on average). {_beside(data)}",
        alt=f"Colour map: {extremes(accuracy, rows=dims.LAYER, columns=dims.STEP)}; chance {chance}.",
    )


def _heads(data: xr.Dataset, salt: str) -> Figure:
    """Each head, at the step at which the best one is best."""
    every = data["head_accuracy"]
    at = int(np.unravel_index(int(np.nanargmax(data["head_gain"].to_numpy())), every.shape)[0])
    own = every.isel({dims.STEP: at})
    figure = canvas()
    axes = matrix(
        figure,
        own.transpose(dims.LAYER, dims.HEAD).to_numpy(),
        x=data[dims.HEAD].to_numpy(),
        y=data[dims.LAYER].to_numpy(),
        x_label="head",
        y_label="layer",
        scale_label="found within one token",
    )
    y, x = np.nonzero(data["head_tracked"].isel({dims.STEP: at}).transpose(dims.LAYER, dims.HEAD).to_numpy())
    axes.plot(x, y, linestyle="none", marker=".", markersize=3, color=MUTED)
    step = int(data[dims.STEP][at])
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-heads"),
        quantities=("head_accuracy", "head_tracked"),
        title=f"Each head by itself, step {step}",
        caption=f"{typical(every)} The step at which a head is best. Dots: above chance. {_beside(data)}",
        alt=f"Colour map of heads at step {step}: {extremes(own, rows=dims.LAYER, columns=dims.HEAD)}.",
    )


def _tracks(data: xr.Dataset, context: Context, salt: str) -> Figure:
    """The first frame of each shown sample, with the true track and those that were found."""
    found, true = data["track_by_sample"], data["true_track_by_sample"]
    count, kinds = true.sizes["shown"], [str(one) for one in found["by"].to_numpy()]
    figure = canvas(height=1.6)
    grid: Any = figure.subplots(1, max(count, 4), squeeze=False)
    high, wide = (int(data.attrs[name]) for name in ("rows", "columns"))
    for at, axes in enumerate(grid[0]):
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        if at >= count:
            axes.set_axis_off()
            continue
        run = str(true["shown_run"].to_numpy()[at])
        picture = context.acts.load("output", "pixels", runs=[run], frame=[0]).isel(run=0).to_numpy()
        axes.imshow(shrunk(picture)[0], extent=(-0.5, wide - 0.5, high - 0.5, -0.5), alpha=0.55)
        for thing in range(true.sizes["thing"]):
            first = at == 0 and thing == 0
            line = true[at, thing].to_numpy()
            axes.plot(line[:, 1], line[:, 0], color=INK, marker="o", markersize=2.5, label="true" if first else None)
            for color, kind in zip(SERIES, kinds, strict=False):
                own = found.sel(by=kind)[at, thing].to_numpy()
                axes.plot(
                    own[:, 1],
                    own[:, 0],
                    color=color,
                    linewidth=1,
                    marker="x",
                    markersize=3,
                    label=_who(found.sel(by=kind)) if first else None,
                )
        axes.set(xlim=(-0.5, wide - 0.5), ylim=(high - 0.5, -0.5))
    figure.legend(loc="outside upper left", ncols=1 + len(kinds))
    off = found.isel(frame=slice(1, None)) - true.isel(frame=slice(1, None))
    told = "; ".join(
        f"{_who(found.sel(by=kind))}: {float(np.nanmean(np.linalg.norm(off.sel(by=kind), axis=-1))):.1f} tokens off"
        for kind in kinds
    )
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-tracks"),
        quantities=("track_by_sample", "true_track_by_sample"),
        title="Tracks to look at",
        caption=f"n = {count} samples, the first by their ids, each alone, so no interval. True track (hidden frames "
        "left out) and found ones, frame by frame, over the first frame; each found track is of its best cell.",
        alt=f"Pictures of {count} first frames with tracks. On average over their frames: {told}.",
    )


def _who(one: xr.DataArray) -> str:
    head = int(one["by_head"])
    where = f"layer {int(one['by_layer'])}, step {int(one['by_step'])}"
    return f"mean of {where}" if head < 0 else f"head {head} of {where}"
