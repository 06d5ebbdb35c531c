"""Draws the results of `working_memory`, `self_correction` and `perception_first`."""

from __future__ import annotations

from typing import Final

import numpy as np
import xarray as xr

from analyses import Result
from reports._figure import MUTED, SERIES, Figure, canvas, drawing, integer_steps, line, mark_switches, matrix, to_svg
from reports._section import Context, Section, draws
from reports._words import behind, ends, extremes, some, typical
from store import dims

CURVES: Final = 3
"""Labels of a group that are drawn."""


@draws("working_memory", place=11)
def memory(result: Result, context: Context, salt: str) -> Section:
    """A figure for each label: hidden frames by step and layer, remembered cells marked."""
    data = result.to_dataset().compute()
    with drawing():
        figures = tuple(_remembered(data.isel(label=at), f"{salt}-{at}") for at in range(data.sizes["label"]))
    return Section(
        title="Working memory",
        lead=(
            f"Looks and place of an object in frames that hide it, read from {data.attrs['site']} by probes. Memory is "
            "what neither the prompt's words nor x̂0 of the same frame tells."
        ),
        films=(),
        figures=figures,
    )


def _remembered(own: xr.Dataset, salt: str) -> Figure:
    hidden = own.sel(seen="hidden")
    score = hidden["score"].transpose(dims.LAYER, dims.STEP)
    name = str(own["label"].item())
    figure = canvas()
    axes = matrix(
        figure,
        score.to_numpy(),
        x=own[dims.STEP].to_numpy(),
        y=own[dims.LAYER].to_numpy(),
        x_label="denoising step",
        y_label="layer",
        scale_label="R²" if name == "place" else "accuracy",
    )
    y, x = np.nonzero(own["remembered"].transpose(dims.LAYER, dims.STEP).to_numpy())
    axes.plot(x, y, linestyle="none", marker=".", markersize=3, color=MUTED)
    beside = [("chance", float(hidden["chance"])), ("the prompt's words", float(own["prompt_score"]))]
    if "picture_score" in own:
        beside.append(("x̂0 of the frame, mean over steps", float(own["picture_score"].mean())))
    beside.append(("frames that show it, mean over cells", float(own["score"].sel(seen="visible").mean())))
    told = ", ".join(f"{what} {value:.2f}" for what, value in beside if np.isfinite(value))
    return Figure(
        svg=to_svg(figure, salt=salt),
        quantities=("score", "remembered"),
        title=f"{name}, while hidden: {own['verdict'].item()}",
        caption=f"{typical(score)} Dots: remembered. Beside it: {told}.",
        alt=f"Colour map of the score of {name}: {extremes(score, rows=dims.LAYER, columns=dims.STEP)}; {told}.",
    )


@draws("self_correction", place=11)
def correction(result: Result, context: Context, salt: str) -> Section:
    """Changes by step, and the share of right answers."""
    data = result.to_dataset().compute()
    with drawing():
        figures = (_changes(data.sel(since="formed picture"), f"{salt}-changes"), _right(data, f"{salt}-right"))
    return Section(
        title="Self-correction",
        lead=(
            "How often the answer read from x̂0 turns from wrong to right, and back. Only changes after the picture has "
            "formed count: the blur of the first steps is a wrong answer that every right one leaves."
        ),
        films=(),
        figures=figures,
    )


def _changes(data: xr.Dataset, salt: str) -> Figure:
    names = {"corrected": "wrong to right", "spoiled": "right to wrong"}
    return _by_step(
        data, names, salt, title="Changes of the answer, since the picture has formed", label="share of runs"
    )


def _right(data: xr.Dataset, salt: str) -> Figure:
    return _by_step(data, {"right": "right"}, salt, title="Right answers of x̂0", label="share of runs")


def _by_step(data: xr.Dataset, names: dict[str, str], salt: str, *, title: str, label: str) -> Figure:
    figure = canvas()
    axes = figure.subplots()
    steps = data[dims.STEP].to_numpy()
    for (name, what), color in zip(names.items(), SERIES, strict=False):
        mean, low, high = (data[f"{name}{end}"].to_numpy() for end in ("", "_low", "_high"))
        line(axes, steps, mean, low, high, color=color, label=what)
    integer_steps(axes, steps)
    mark_switches(axes, [int(switch) for switch in data.attrs["switches"]])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("denoising step")
    axes.set_ylabel(label)
    if len(names) > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(names), borderaxespad=0.2)
    told = "; ".join(f"{what}: {ends(data[name], dims.STEP)}" for name, what in names.items())
    return Figure(
        svg=to_svg(figure, salt=salt),
        quantities=tuple(names),
        title=title,
        caption=behind(data[next(iter(names))]),
        alt=f"Line chart by step. {told}.",
    )


@draws("perception_first", place=11)
def perception(result: Result, context: Context, salt: str) -> Section:
    """The curves of each group, and the steps of their rise."""
    data = result.to_dataset().compute()
    with drawing():
        figures = (
            *(_curves(data, group, f"{salt}-{group}") for group in data["group"].to_numpy().tolist()),
            _rises(data, f"{salt}-rises"),
        )
    return Section(
        title="Perception before action",
        lead=(
            f"When what and where are readable from {data.attrs['site']}, and when the way is. The step of a rise is "
            "where a curve that jumps to its plateau would jump."
        ),
        films=(),
        figures=figures,
    )


def _curves(data: xr.Dataset, group: str, salt: str) -> Figure:
    own = data.isel(label=np.flatnonzero(data["of"].to_numpy() == group)[:CURVES])
    figure = canvas()
    axes = figure.subplots()
    steps = data[dims.STEP].to_numpy()
    told: list[str] = []
    for name, color in zip(own["label"].to_numpy().tolist(), SERIES, strict=False):
        one = own.sel(label=name)
        mean, low, high = (one[f"gain{end}"].to_numpy() for end in ("", "_low", "_high"))
        line(axes, steps, mean, low, high, color=color, label=name)
        told.append(f"{name}: {ends(one['gain'], dims.STEP)}")
    integer_steps(axes, steps)
    axes.axhline(0, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlabel("denoising step")
    axes.set_ylabel("score minus chance")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=CURVES, borderaxespad=0.2)
    left = int((data["of"] == group).sum()) - own.sizes["label"]
    return Figure(
        svg=to_svg(figure, salt=salt),
        quantities=("gain",),
        title=f"Readable by step: {group}",
        caption=behind(own["gain"], over="layers") + (f" Not drawn: {some(left, 'label')} more." if left else ""),
        alt=f"Line chart by step. {'; '.join(told)}.",
    )


def _rises(data: xr.Dataset, salt: str) -> Figure:
    names = data["label"].to_numpy().tolist()
    mean, low, high = (data[f"rise_step{end}"].to_numpy() for end in ("", "_low", "_high"))
    figure = canvas(height=0.28 * len(names) + 1.0)
    axes = figure.subplots()
    for at, of in enumerate(data["of"].to_numpy()):
        color = SERIES[0] if of == "perception" else SERIES[1]
        axes.hlines(at, low[at], high[at], color=color, linewidth=1.2)
        axes.plot([mean[at]], [at], marker="o", markersize=5, color=color)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("denoising step")
    ends_ = [float(data[f"difference{end}"]) for end in ("", "_low", "_high")]
    said = (
        f"Perception minus action: {ends_[0]:.1f} ({ends_[1]:.1f} to {ends_[2]:.1f}) steps."
        if np.isfinite(ends_[0])
        else "A label that cannot be read in the last steps has none."
    )
    told = ", ".join(f"{name} {value:.1f}" for name, value in zip(names, mean, strict=True) if np.isfinite(value))
    return Figure(
        svg=to_svg(figure, salt=salt),
        quantities=("rise_step", "difference"),
        title="Step of the rise",
        caption=f"{said} {behind(data['rise_step'], mark='line')}",
        alt=f"Dots with intervals: {told or 'none'}. {said}",
    )
