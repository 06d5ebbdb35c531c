"""Draws a `motion_heads` result: how far heads tell frames apart, the first ones, and whether that is motion."""

from __future__ import annotations

import numpy as np
import xarray as xr

from analyses import Result
from reports._figure import MUTED, SERIES, Figure, canvas, drawing, matrix, to_svg, whiskers
from reports._section import Context, Section, draws
from reports._words import behind, extremes, typical
from store import dims

RANKED = 12
"""Heads in the ranking, at most."""


@draws("motion_heads", place=14)
def section(result: Result, context: Context, salt: str) -> Section:
    """The map of heads, the ranking, and the correlation with motion where it is known."""
    data = result.to_dataset().compute()
    with drawing():
        figures = [_heads(data, salt), _ranking(data, salt)]
        figures += [_motion(data, salt)] if "with_motion" in data else []
    notes = () if "with_motion" in data else ("Too few samples have true tracks to compare with motion.",)
    return Section(
        title="Heads that tell frames apart",
        lead=(
            f"Of the variance of a head's tokens ({data.attrs['site']}, {data.attrs['reduction']}), the share that "
            "lies between frames, less what shuffled frames give. Heads with a large share have been called motion "
            "heads; whether motion has to do with it is the last figure."
        ),
        films=(),
        figures=tuple(figures),
        notes=notes,
    )


def _heads(data: xr.Dataset, salt: str) -> Figure:
    own = data["head_separability"]
    figure = canvas()
    axes = matrix(
        figure,
        own.transpose(dims.LAYER, dims.HEAD).to_numpy(),
        x=data[dims.HEAD].to_numpy(),
        y=data[dims.LAYER].to_numpy(),
        x_label="head",
        y_label="layer",
        scale_label="separability",
    )
    called = (data["p"] <= 0.05).any(dims.STEP).transpose(dims.LAYER, dims.HEAD).to_numpy()
    y, x = np.nonzero(called)
    axes.plot(x, y, linestyle="none", marker=".", markersize=3, color=MUTED)
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-heads"),
        quantities=("head_separability", "p"),
        title="Separability by layer and head",
        caption=f"{typical(own, over='steps')} Dots: beyond shuffled frames at some step, family-wise p ≤ 0.05 "
        f"({int(called.sum())} of {called.size} heads).",
        alt=f"Colour map: {extremes(own, rows=dims.LAYER, columns=dims.HEAD)}.",
    )


def _ranking(data: xr.Dataset, salt: str) -> Figure:
    flat = data[[f"head_separability{end}" for end in ("", "_low", "_high")] + ["rank", "rank_low", "rank_high"]]
    heads = flat.stack(one=(dims.LAYER, dims.HEAD)).sortby("rank").isel(one=slice(0, RANKED))
    names = [f"{layer}.{head}" for layer, head in heads["one"].to_numpy()]
    figure = canvas()
    axes = figure.subplots()
    at = np.arange(len(names))
    mean, low, high = (heads[f"head_separability{end}"].to_numpy() for end in ("", "_low", "_high"))
    whiskers(axes, at, mean, low, high, color=SERIES[0], label="separability")
    axes.set_xticks(at, names)
    axes.set_xlabel("layer.head, in the order of their ranks")
    axes.set_ylabel("separability")
    axes.set_ylim(bottom=min(0.0, float(np.nanmin(np.append(low, mean)))))
    ranks = "; ".join(
        f"{name}: {float(one['rank_low']):.0f} to {float(one['rank_high']):.0f}"
        for name, one in zip(names[:4], (heads.isel(one=place) for place in at), strict=False)
        if np.isfinite(float(one["rank_low"]))
    )
    told = f" Interval of the rank of {ranks}." if ranks else ""
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-ranks"),
        quantities=("head_separability", "rank"),
        title="The first heads",
        caption=f"{behind(data['head_separability'], over='steps', mark='bars')}{told}",
        alt=f"Heads in order, from {names[0]} with {mean[0]:.2f} to {names[-1]} with {mean[-1]:.2f}.",
    )


def _motion(data: xr.Dataset, salt: str) -> Figure:
    """Correlation with motion at the step at which the most separable head is most so."""
    every = data["with_motion"]
    at = int(np.unravel_index(int(np.nanargmax(data["separability"].to_numpy())), every.shape)[0])
    own = every.isel({dims.STEP: at})
    figure = canvas()
    matrix(
        figure,
        own.transpose(dims.LAYER, dims.HEAD).to_numpy(),
        x=data[dims.HEAD].to_numpy(),
        y=data[dims.LAYER].to_numpy(),
        x_label="head",
        y_label="layer",
        scale_label="Spearman's ρ",
    )
    apart = int(((data["with_motion_low"] > 0) | (data["with_motion_high"] < 0)).sum())
    half = float(((data["with_motion_high"] - data["with_motion_low"]) / 2).median())
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-motion"),
        quantities=("with_motion",),
        title=f"With how far things truly move, step {int(data[dims.STEP][at])}",
        caption=f"n = {int(every.attrs['n'])} samples with true tracks; {every.attrs['interval']}: ± {half:.2f} in the "
        f"median cell. The interval leaves out 0 in {apart} of {every.size} cells; {0.05 * every.size:.0f} would by "
        "chance.",
        alt=f"Colour map of rank correlations: {extremes(own, rows=dims.LAYER, columns=dims.HEAD)}.",
    )
