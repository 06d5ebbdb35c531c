"""Draws `ensemble` and `early-selection` results: what each arm gains, beside what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr

from analyses import Result
from reports._figure import INK, MUTED, SERIES, Figure, canvas, drawing, integer_steps, line, to_svg
from reports._section import Context, Section, draws
from reports._words import behind, ends
from store import dims

ROW: Final = 0.2
"""Inches of a row."""
ENSEMBLE: Final = {
    "one": "one seed",
    "hidden": "hidden states",
    "latent": "x_s",
    "long": "one longer run",
    "best": "best (oracle)",
    "medoid": "medoid",
}
"""Methods in words."""
EARLY: Final = {
    "any": "any seed",
    "settled": "most settled",
    "agreeing": "most agreeing",
    "sharp": "sharpest",
    "faithful": "most faithful",
    "long": "one longer run",
    "fewer": "fewer whole runs",
    "best": "best of all (oracle)",
}
"""The same."""


@draws("ensemble", place=8)
def ensemble(result: Result, context: Context, salt: str) -> Section:
    """Every arm in a row, in the order of its cost."""
    data = result.to_dataset().compute()
    names = [_ensemble_name(one) for one in _arms(data)]
    with drawing():
        figures = (_rows(data, names, against="the first seed alone", salt=salt), _plane(data, names, salt))
    return Section(
        title="Averaging seeds inside the model",
        lead=(
            "What each ensemble gains over its first seed alone, and what the same number of forwards buys otherwise: "
            "one run of more steps, or several of fewer. Compare rows with like numbers of forwards. An oracle looks "
            "at the scores: it bounds what choosing can give, and is no method."
        ),
        films=(),
        figures=figures,
    )


@draws("early-selection", place=13)
def early_selection(result: Result, context: Context, salt: str) -> Section:
    """Every arm in a row, and the commitment curve."""
    data = result.to_dataset().compute()
    names = [_early_name(one) for one in _arms(data)]
    with drawing():
        figures = (_rows(data, names, against="any seed", salt=salt), _committed(data, salt))
    return Section(
        title="Choosing a seed early",
        lead=(
            "Several seeds are begun, one is continued: the one that a criterion prefers, which sees x̂0 and nothing "
            "else. Compare rows with like numbers of forwards. Where answers are right or wrong from early on as they "
            "are at the end, there is something to choose by."
        ),
        films=(),
        figures=figures,
    )


def _arms(data: xr.Dataset) -> list[xr.Dataset]:
    return [data.isel(arm=at) for at in range(data.sizes["arm"])]


def _ensemble_name(one: xr.Dataset) -> str:
    method, members, steps = str(one["method"].item()), int(one["members"]), int(one["steps"])
    if method in ("one", "long"):
        return f"{ENSEMBLE[method]}, {steps} steps"
    if method in ("best", "medoid"):
        return f"{members} × {steps} steps, {ENSEMBLE[method]}"
    layers = f", layers {one['layers'].item()}" if method == "hidden" else ""
    weights = "" if one["weights"].item() == "uniform" else f", {one['weights'].item()}"
    return f"{ENSEMBLE[method]} of {members}{layers}, step {one['window'].item()}{weights}"


def _early_name(one: xr.Dataset) -> str:
    method, at, seeds, steps = str(one["method"].item()), int(one["at"]), int(one["seeds"]), int(one["steps"])
    if method in ("any", "long"):
        return f"{EARLY[method]}, {steps} steps"
    if method == "best":
        return f"{EARLY[method]}, {seeds} × {steps} steps"
    if method == "fewer":
        return f"{EARLY[method]}, {seeds} × {steps} steps"
    return f"{EARLY[method]} of {seeds} after {at} steps"


def _rows(data: xr.Dataset, names: Sequence[str], *, against: str, salt: str) -> Figure:
    """A forest plot: gain with its interval, a mark for the longer run of the same cost, forwards at the right."""
    forwards = data["forwards"].to_numpy()
    order = np.lexsort((np.arange(len(names)), forwards))[::-1]
    figure = canvas(height=ROW * len(names) + 0.9)
    axes = figure.subplots()
    gain, low, high = (data[f"gain{end}"].to_numpy()[order] for end in ("", "_low", "_high"))
    rows = np.arange(len(order))
    oracle = np.array([data["method"].to_numpy()[at] == "best" for at in order])
    for chosen, color, label in ((~oracle, SERIES[0], "arm"), (oracle, SERIES[1], "oracle")):
        axes.hlines(rows[chosen], low[chosen], high[chosen], color=color, linewidth=1.2)
        axes.plot(gain[chosen], rows[chosen], color=color, marker="o", markersize=3.6, linestyle="none", label=label)
    if "equal" in data:
        equal = data["equal"].to_numpy()[order]
        axes.plot(equal, rows, color=INK, marker="|", markersize=7, linestyle="none", label="longer run of this cost")
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set_yticks(rows, [str(names[at]) for at in order], fontsize=7)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.set_xlabel(f"score less that of {against}")
    _costs(axes, rows, [f"{forwards[at]:.0f}" for at in order])
    figure.legend(loc="outside upper left", ncols=3)
    told = "; ".join(
        f"{names[at]}: {float(data['gain'][at]):+.3f} for {forwards[at]:.0f} forwards" for at in order[::-1]
    )
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-gain"),
        quantities=("gain", "equal", "forwards"),
        title="What is gained, by cost",
        caption=f"{behind(data['gain'], mark='line')} Right: forwards for one video, all runs together.",
        alt=f"Rows with gains, cheapest first. {told}.",
    )


def _plane(data: xr.Dataset, names: Sequence[str], salt: str) -> Figure:
    """Score by cost: one run of more and more steps as a line, everything else as points beside it."""
    figure = canvas()
    axes = figure.subplots()
    method, x, y = (data[name].to_numpy() for name in ("method", "forwards", "score"))
    for color, label, methods in (
        (SERIES[0], "one run", ("one", "long")),
        (SERIES[1], "averages of seeds", ("hidden", "latent")),
        (SERIES[2], "medoid of several runs", ("medoid",)),
    ):
        at = np.flatnonzero(np.isin(method, methods))
        at = at[np.argsort(x[at], kind="stable")]
        style = "-" if label == "one run" else "none"
        axes.plot(x[at], y[at], color=color, label=label, marker="o", markersize=3.2, linestyle=style)
    axes.set_xlabel("forwards for one video")
    axes.set_ylabel("overall score")
    figure.legend(loc="outside upper left", ncols=3)
    told = "; ".join(f"{name}: {score:.2f} for {cost:.0f}" for name, score, cost in zip(names, y, x, strict=True))
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-plane"),
        quantities=("score", "forwards"),
        title="Score by cost",
        caption=f"Mean over n = {int(data['score'].attrs['n'])} samples; intervals of the paired gains stand in the "
        "other figure. What lies above the line is worth more than a longer run. Oracles are left out.",
        alt=f"Scatter chart of score by forwards. {told}.",
    )


def _costs(axes: Any, rows: np.ndarray, texts: Sequence[str]) -> None:
    """Numbers of forwards along the right side."""
    other = axes.twinx()
    other.set_ylim(axes.get_ylim())
    other.set_yticks(rows, list(texts), fontsize=7)
    other.tick_params(length=0)
    other.grid(visible=False)
    other.set_ylabel("forwards", fontsize=8)


def _committed(data: xr.Dataset, salt: str) -> Figure:
    figure = canvas()
    axes = figure.subplots()
    step = data[dims.STEP].to_numpy()
    mean, low, high = (data[f"committed{end}"].to_numpy() for end in ("", "_low", "_high"))
    line(axes, step, mean, low, high, color=SERIES[0], label="as at the end")
    axes.set_xlabel("denoising step")
    axes.set_ylabel("share of runs")
    axes.set_ylim(0, 1.05)
    integer_steps(axes, step)
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-commit"),
        quantities=("committed",),
        title="When the answer is that of the end",
        caption=f"Runs whose answer, read from x̂0, is right or wrong as that of the finished video. "
        f"{behind(data['committed'])}",
        alt=f"Line chart by step: {ends(data['committed'], dims.STEP)}.",
    )
