"""Draws `frames` and `steps` results: the score against a number, and the smallest number that is sufficient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.ticker import NullLocator

from analyses import Result
from reports._figure import INK, MUTED, SERIES, Figure, canvas, drawing, to_svg, whiskers
from reports._section import Context, Section, draws
from reports._words import behind


@draws("frames", place=9)
def frames(result: Result, context: Context, salt: str) -> Section:
    """One curve."""
    data = result.to_dataset().compute()
    found = result.summary()["smallest_sufficient"]
    with drawing():
        score = _curves(data, "frames", [("score", data)], {"score": found}, axis="video frames", salt=salt)
        cost = _cost(data, salt)
    return Section(
        title="How many frames it takes",
        lead=(
            "The same questions at other lengths of video, scored in the time of the true one. A model that was "
            "trained on one number of frames is out of its training at all others: a fall on both sides of that number "
            "says nothing of how many frames reasoning needs."
        ),
        films=(),
        figures=(score, cost),
    )


@draws("steps", place=10)
def steps(result: Result, context: Context, salt: str) -> Section:
    """A curve for teacher and student, and what their x̂0 hold."""
    data = result.to_dataset().compute()
    parts = [(name, data.isel(arm=(data["model"] == name).to_numpy())) for name in ("teacher", "student")]
    parts = [(name, part) for name, part in parts if part.sizes["arm"]]
    found = {name: result.summary().get(f"smallest_sufficient_{name}") for name, _ in parts}
    known = bool(np.isfinite(data["effective_first"]).any())
    with drawing():
        figures = [_curves(data, "steps", parts, found, axis="denoising steps", salt=salt)]
        figures += [_exploration(data, parts, salt)] if known else []
    return Section(
        title="How many steps it takes",
        lead=(
            "The same questions in fewer and in more denoising steps, and by a model that was distilled to few. The "
            "first x̂0 of one model does not depend on the number of steps; whether a distilled model still begins with "
            "several candidates shows in its own."
        ),
        films=(),
        figures=tuple(figures),
        notes=() if known else ("No sample has several valid answers, so exploration is not drawn.",),
    )


def _curves(
    data: xr.Dataset,
    number: str,
    parts: Sequence[tuple[str, xr.Dataset]],
    found: dict[str, Any],
    *,
    axis: str,
    salt: str,
) -> Figure:
    figure = canvas()
    axes = figure.subplots()
    told: list[str] = []
    for color, (name, part) in zip(SERIES, parts, strict=False):
        x = part[number].to_numpy()
        mean, low, high = (part[f"score{end}"].to_numpy() for end in ("", "_low", "_high"))
        whiskers(axes, x, mean, low, high, color=color, label=name)
        told.append(f"{name}: " + ", ".join(f"{value:.2f} at {at}" for at, value in zip(x, mean, strict=True)))
        at = found.get(name)
        if at is not None:
            place = mean[list(x).index(at)]
            axes.plot([at], [place], color=INK, marker="o", markersize=9, fillstyle="none", linestyle="none")
        told.append(f"smallest sufficient: {at if at is not None else 'none is proven'}")
    _scale(axes, data[number].to_numpy(), log=number == "steps")
    own = int(data["own"].to_numpy().argmax())
    axes.axvline(float(data[number].to_numpy()[own]), color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
    axes.set_ylim(-0.03, 1.05)
    axes.set_xlabel(axis)
    axes.set_ylabel("overall score")
    if len(parts) > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-score"),
        quantities=("score",),
        title=f"Score by number of {number}",
        caption=f"{behind(data['score'], mark='bar')} Dotted: the number of the clean runs. Ring: the smallest "
        "sufficient number, where one is proven.",
        alt=f"Line chart. {'; '.join(told)}.",
    )


def _cost(data: xr.Dataset, salt: str) -> Figure:
    """Time by number of frames: each forward takes longer the more there are."""
    figure = canvas()
    axes = figure.subplots()
    x, y = data["frames"].to_numpy(), data["seconds"].to_numpy()
    axes.plot(x, y, color=SERIES[0], marker="o", markersize=2.6)
    _scale(axes, x, log=False)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("video frames")
    axes.set_ylabel("seconds for one video")
    told = ", ".join(f"{value:.3g} s at {at}" for at, value in zip(x, y, strict=True))
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-cost"),
        quantities=("seconds",),
        title="What a video costs",
        caption=f"Mean over the runs of n = {int(data['score'].attrs['n'])} samples as they were made, capture and "
        "decoding included; no interval. "
        f"{float(data['forwards'][0]):.0f} forwards at any number of frames.",
        alt=f"Line chart. {told}.",
    )


def _exploration(data: xr.Dataset, parts: Sequence[tuple[str, xr.Dataset]], salt: str) -> Figure:
    figure = canvas()
    axes = figure.subplots()
    told: list[str] = []
    for color, (name, part) in zip(SERIES, parts, strict=False):
        x = part["steps"].to_numpy()
        for quantity, label, style in (("effective_first", "first x̂0", "-"), ("effective_last", "last x̂0", ":")):
            mean, low, high = (part[f"{quantity}{end}"].to_numpy() for end in ("", "_low", "_high"))
            axes.vlines(x, low, high, color=color, linewidth=0.9, alpha=0.45)
            axes.plot(x, mean, color=color, linestyle=style, marker="o", markersize=2.6, label=f"{name}, {label}")
            values = ", ".join(f"{value:.2f} at {at}" for at, value in zip(x, mean, strict=True))
            told.append(f"{name}, {label}: {values}")
    _scale(axes, data["steps"].to_numpy(), log=True)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("denoising steps")
    axes.set_ylabel("effective number of answers")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-explored"),
        quantities=("effective_first", "effective_last"),
        title="How many valid answers x̂0 holds",
        caption=f"{behind(data['effective_first'], mark='bar')} Samples with several valid answers.",
        alt=f"Line chart by number of steps. {'; '.join(told)}.",
    )


def _scale(axes: Any, numbers: np.ndarray, *, log: bool) -> None:
    """The tested numbers along the horizontal axis."""
    if log:
        axes.set_xscale("log")
    at = sorted({int(number) for number in numbers})
    axes.set_xticks(at, [str(number) for number in at])
    axes.xaxis.set_minor_locator(NullLocator())
