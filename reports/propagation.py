"""Draws a `propagation` result: injected step by later step, and how sensitive each step is."""

from __future__ import annotations

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
    mark_switches,
    matrix,
    to_svg,
    whiskers,
)
from reports._section import Context, Section, draws
from reports._words import extremes, quantity_with_interval, typical
from store import dims

INJECTED = "injected"


@draws("propagation", place=5)
def section(result: Result, context: Context, salt: str) -> Section:
    """The map of either noise over tokens and, where there is one, over samples; and the sensitivity of each step."""
    data = result.to_dataset().compute()
    names = [name for name in ("dissimilarity_tokens", "dissimilarity_samples") if name in data]
    with drawing():
        maps = [
            _map(data[name].sel(noise=noise), list(data.attrs["switches"]), str(noise), f"{salt}-{name}-{noise}")
            for name in names
            for noise in data["noise"].to_numpy().tolist()
            if data[name].sel(noise=noise).notnull().any()
        ]
        figures = (_sensitivity(data, f"{salt}-sensitivity"), *maps)
    return Section(
        title="Noise at a step, and the steps after it",
        lead=(
            "How far the hidden states are from those of the clean run (0: as alike as they can be, 1: nothing in "
            "common) at each step after noise was put into x_s. A row that fades has healed; the mean of a row is the "
            "sensitivity of its step."
        ),
        films=(),
        figures=figures,
    )


def _map(quantity: xr.DataArray, switches: list[int], noise: str, salt: str) -> Figure:
    drawn = quantity.mean(dims.LAYER, keep_attrs=True)
    drawn = drawn.isel({INJECTED: np.flatnonzero(drawn.notnull().any(dims.STEP))})
    figure = canvas()
    axes = matrix(
        figure,
        drawn.to_numpy(),
        x=drawn[dims.STEP].to_numpy(),
        y=drawn[INJECTED].to_numpy(),
        x_label="step",
        y_label="noise put in at step",
        scale_label="dissimilarity",
    )
    steps = drawn[dims.STEP].to_numpy().tolist()
    for switch in switches:
        axes.axvline(steps.index(switch) - 0.5, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
    rows = str(quantity.attrs["long_name"]).rpartition("; ")[2]
    layers = ", ".join(map(str, quantity[dims.LAYER].to_numpy().tolist()))
    switched = f" Dotted: another expert takes over at step {', '.join(map(str, switches))}." if switches else ""
    return Figure(
        svg=to_svg(figure, salt=salt),
        quantities=(str(quantity.name),),
        title=f"Dissimilarity after {noise} noise; {rows}",
        caption=f"1 - debiased linear CKA. {typical(quantity, over=f'layers {layers}')}{switched}",
        alt=f"Colour map: {extremes(drawn, rows=INJECTED, columns=dims.STEP)}.",
    )


def _sensitivity(data: xr.Dataset, salt: str) -> Figure:
    figure = canvas()
    axes = figure.subplots()
    told: list[str] = []
    for color, noise in zip(SERIES, data["noise"].to_numpy().tolist(), strict=False):
        one = data.sel(noise=noise)
        one = one.isel({INJECTED: np.flatnonzero(one["sensitivity"].notnull())})
        if not one.sizes[INJECTED]:
            continue
        mean, low, high = (one[f"sensitivity{end}"].to_numpy() for end in ("", "_low", "_high"))
        whiskers(axes, one[INJECTED].to_numpy(), mean, low, high, color=color, label=str(noise))
        at = int(np.argmax(mean))
        step, height = one[INJECTED].to_numpy()[at], quantity_with_interval(one.isel({INJECTED: at}), "sensitivity")
        told.append(f"{noise} noise is highest at step {step}, {height}")
    integer_steps(axes, data[INJECTED].to_numpy())
    mark_switches(axes, list(data.attrs["switches"]))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("noise put in at step")
    axes.set_ylabel("sensitivity")
    axes.legend()
    attrs = data["sensitivity"].attrs
    return Figure(
        svg=to_svg(figure, salt=salt),
        quantities=("sensitivity",),
        title="Sensitivity of each step",
        caption=f"{str(attrs['long_name']).capitalize()}. n = {attrs['n']}; {attrs['interval']}.",
        alt=f"Line chart: {'; '.join(told)}.",
    )
