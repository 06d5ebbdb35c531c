"""Draws a `channels` result: how much few channels carry, and which."""

from __future__ import annotations

import numpy as np
import xarray as xr

from analyses import Result
from reports._figure import MUTED, SERIES, Figure, canvas, drawing, matrix, to_svg
from reports._section import Context, Section, draws
from reports._words import extremes, some, typical
from store import dims


@draws("channels", place=6)
def section(result: Result, context: Context, salt: str) -> Section:
    """The share of the outliers, and every channel of the layer in which it is largest."""
    data = result.to_dataset().compute()
    with drawing():
        figures = (_share(data, salt), _spectrum(data, salt))
    return Section(
        title="Channels",
        lead=(
            f"Few channels of {data.attrs['site']} can carry most of the norm. An outlier exceeds the median channel "
            "ten times, in its root mean square or its largest magnitude; what sums over channels is mostly them."
        ),
        films=(),
        figures=figures,
    )


def _share(data: xr.Dataset, salt: str) -> Figure:
    quantity = data["outlier_share"]
    figure = canvas()
    matrix(
        figure,
        quantity.transpose(dims.LAYER, dims.STEP).to_numpy(),
        x=data[dims.STEP].to_numpy(),
        y=data[dims.LAYER].to_numpy(),
        x_label="denoising step",
        y_label="layer",
        scale_label="share of the squared norm",
    )
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-share"),
        quantities=("outlier_share",),
        title="What outlier channels carry",
        caption=typical(quantity),
        alt=f"Colour map of their share: {extremes(quantity, rows=dims.LAYER, columns=dims.STEP)}.",
    )


def _spectrum(data: xr.Dataset, salt: str) -> Figure:
    own = data.isel({dims.LAYER: int(data["mean_outlier_share"].to_numpy().argmax())})
    rms, outlier = own["rms"].to_numpy(), own["outlier_rate"].to_numpy() > 0
    order = np.argsort(-rms)
    rank = np.arange(1, len(rms) + 1)
    figure = canvas()
    axes = figure.subplots()
    axes.plot(rank, rms[order], linestyle="none", marker=".", markersize=3, color=MUTED)
    marked = outlier[order]
    axes.plot(rank[marked], rms[order][marked], linestyle="none", marker="o", markersize=5, color=SERIES[0])
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(lambda value, _: "")
    axes.set_xlabel("rank of the channel")
    axes.set_ylabel("root mean square")
    layer = int(own[dims.LAYER])
    strongest = ", ".join(str(int(at)) for at in order[:3])
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-spectrum"),
        quantities=("rms", "outlier_rate"),
        title=f"Every channel of layer {layer}, by size",
        caption=f"Over samples and steps, n = {some(int(data.attrs['n']), 'sample')}, without interval. Large dots: "
        f"outliers in some step, {int(outlier.sum())} of {len(rms)}. Strongest: {strongest}.",
        alt=f"Dots by rank, from {rms[order][0]:.3g} to {rms[order][-1]:.3g}; {int(outlier.sum())} outliers.",
    )
