"""Draws a `trajectory` result: the x̂0 of each step as video, its distance to the end, and its score."""

from __future__ import annotations

import math
from textwrap import shorten
from typing import Any, Final

import numpy as np
import xarray as xr

from analyses import Result
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
    whiskers,
)
from reports._links import run_line
from reports._section import Context, Section, draws
from reports._words import behind, ends, extremes, typical
from reports._x0_viewer import film
from store import dims


@draws("trajectory", place=1)
def section(result: Result, context: Context, salt: str) -> Section:
    """The x̂0 viewer, then the curves."""
    data = result.to_dataset().compute()
    moving, notes = film(result, context, salt)
    with drawing():
        figures = [draw(data, salt) for needs, draw in _FIGURES if needs in data]
    return Section(
        title="x̂0 trajectory",
        lead=(
            "At each denoising step the model has a guess of the clean video, x̂0 = x − σ·v: what it would paint if it "
            "stopped there."
        ),
        hint="Move the step slider to see the guess become the answer; choose a video to find its run in the figures.",
        films=() if moving is None else (moving,),
        figures=tuple(figures),
        notes=notes,
    )


def _distance(data: xr.Dataset, salt: str) -> Figure:
    quantity = data["latent_distance"]
    figure = canvas()
    axes = figure.subplots()
    _runs(axes, data["latent_distance_by_run"])
    _curve(axes, data, "latent_distance", color=SERIES[0], label="distance to the last x̂0")
    _curve(axes, data, "latent_change", color=SERIES[1], label="change since the step before")
    _finish(axes, data, "fraction of the norm of the last x̂0")
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-distance"),
        quantities=("latent_distance", "latent_change", "latent_distance_by_run"),
        title="How far x̂0 is from the final answer, in latents",
        caption=f"{behind(quantity)} Thin lines: distance of each run.",
        alt=f"Line chart. Distance of x̂0 to the last one: {ends(quantity, dims.STEP)}. "
        f"Change from step to step: {ends(data['latent_change'], dims.STEP)}.",
    )


def _pixels(data: xr.Dataset, salt: str) -> Figure:
    quantity = data["pixel_distance"]
    figure = canvas()
    axes = figure.subplots()
    _runs(axes, data["pixel_distance_by_run"])
    _curve(axes, data, "pixel_distance", color=SERIES[0], label="mean absolute difference")
    _finish(axes, data, "fraction of the range of a pixel")
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-pixels"),
        quantities=("pixel_distance", "pixel_distance_by_run"),
        title="How far the decoded x̂0 is from the finished video, in pixels",
        caption=f"{behind(quantity)} Thin lines: each run.",
        alt=f"Line chart. Difference of the decoded x̂0 to the finished video: {ends(quantity, dims.STEP)}.",
    )


def _score(data: xr.Dataset, salt: str) -> Figure:
    figure = canvas()
    axes = figure.subplots()
    metrics = sorted((str(metric) for metric in data["metric"].to_numpy()), key=lambda name: name != "answer")
    shown = metrics[: len(SERIES)]
    for place, (color, metric) in enumerate(zip(SERIES, shown, strict=False)):
        mean, low, high = (data[f"score{end}"].sel(metric=metric).to_numpy() for end in ("", "_low", "_high"))
        # Beside each other, not over each other: the intervals of scores are wide.
        beside = data[dims.STEP].to_numpy() + 0.2 * (place - (len(shown) - 1) / 2)
        whiskers(axes, beside, mean, low, high, color=color, label=shorten(metric, 24, placeholder="…"))
    caption = behind(data["score"], mark="bars")
    if "answer_commit" in data and math.isfinite(float(data["answer_commit"])):
        caption += _commit(axes, data)
    if len(shown) < len(metrics):
        caption += f" Not drawn: {', '.join(metrics[len(shown) :])}."
    _finish(axes, data, "score (0 wrong, 1 right)")
    axes.set_ylim(-0.04, 1.12)
    told = "; ".join(f"{metric}: {ends(data['score'].sel(metric=metric), dims.STEP)}" for metric in shown)
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-score"),
        quantities=("score",),
        title="What the scorer reads off x̂0",
        caption=caption,
        alt=f"Line chart of the score of x̂0 by step. {told}.",
    )


def _commit(axes: Any, data: xr.Dataset) -> str:
    """The mean step of commitment above the curves, and what the caption says of it."""
    commit = data["answer_commit"]
    mean, low, high = (float(data[f"answer_commit{end}"]) for end in ("", "_low", "_high"))
    if math.isfinite(low):
        axes.plot([low, high], [1.07, 1.07], color=MUTED, linewidth=1.4)
    axes.plot([mean], [1.07], color=MUTED, marker="v", markersize=6)
    bar = f", line: its interval over n = {int(commit.attrs['n'])} samples" if math.isfinite(low) else ""
    return f" Triangle: step from which the right answer stays, mean {mean:.1f}, over the runs that end right{bar}."


def _frames(data: xr.Dataset, salt: str) -> Figure:
    quantity = data["latent_distance_by_frame"]
    figure = canvas()
    matrix(
        figure,
        quantity.transpose(dims.FRAME, dims.STEP).to_numpy(),
        x=data[dims.STEP].to_numpy(),
        y=quantity[dims.FRAME].to_numpy(),
        x_label="denoising step",
        y_label="latent frame",
        scale_label="distance to the last x̂0",
    )
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-frames"),
        quantities=("latent_distance_by_frame",),
        title="Do the frames settle together, or one after another?",
        caption=f"{typical(quantity)} A column of one colour: all frames are equally far on their way.",
        alt=f"Colour map of the distance to the last x̂0: {extremes(quantity, rows=dims.FRAME, columns=dims.STEP)}.",
    )


def _runs(axes: Any, by_run: xr.DataArray) -> None:
    """A thin line for each run, which the page can mark."""
    step = by_run[dims.STEP].to_numpy()
    for run_id in by_run[dims.RUN].to_numpy():
        values = by_run.sel({dims.RUN: run_id}).to_numpy()
        axes.plot(step, values, color=MUTED, linewidth=0.6, alpha=0.5, gid=run_line(str(run_id)))


def _curve(axes: Any, data: xr.Dataset, name: str, *, color: str, label: str) -> None:
    ends_ = (data[name], data[f"{name}_low"], data[f"{name}_high"])
    mean, low, high = (array.to_numpy() for array in ends_)
    known = np.isfinite(mean)
    line(axes, data[dims.STEP].to_numpy()[known], mean[known], low[known], high[known], color=color, label=label)


def _finish(axes: Any, data: xr.Dataset, label: str) -> None:
    integer_steps(axes, data[dims.STEP].to_numpy())
    mark_switches(axes, [int(step) for step in data.attrs["switches"]])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("denoising step")
    axes.set_ylabel(label)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(SERIES), borderaxespad=0.2)


_FIGURES: Final = (
    ("latent_distance", _distance),
    ("score", _score),
    ("latent_distance_by_frame", _frames),
    ("pixel_distance", _pixels),
)
"""What a figure needs, and who draws it."""
