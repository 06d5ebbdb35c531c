"""Figures of an `energy` result beyond the raw norm: its kinds, its classes of tokens, foreground and background."""

from __future__ import annotations

from typing import Final

import numpy as np
import xarray as xr

from reports._figure import MUTED, SERIES, Figure, canvas, integer_steps, line, matrix, to_svg
from reports._words import behind, ends, extremes, typical
from store import dims

DRAWN: Final = ("raw", "masked", "standardised")
"""Kinds that are drawn beside each other; `massive` stands in the table of the result."""


def figures(data: xr.Dataset, salt: str) -> tuple[Figure, ...]:
    """What the result has of them."""
    found = [_classes(data, kind, f"{salt}-classes-{kind}") for kind in _kinds(data, ("raw", "masked"))]
    if data.sizes["kind"] > 1:
        found.insert(0, _shares(data, f"{salt}-kinds"))
    if "foreground_ratio" in data:
        found.append(_foreground(data, f"{salt}-foreground"))
    if "specialisation" in data:
        found.append(_specialisation(data, f"{salt}-special"))
    return tuple(found)


def _kinds(data: xr.Dataset, wanted: tuple[str, ...]) -> list[str]:
    return [kind for kind in wanted if kind in data["kind"].to_numpy()]


def _shares(data: xr.Dataset, salt: str) -> Figure:
    equal = 1 / data.sizes[dims.FRAME]
    return _by_layer(
        {kind: data.sel(kind=kind) for kind in _kinds(data, DRAWN)},
        "kind_first_frame_share",
        salt,
        title="Share of the first frame, by kind of energy",
        label="share of the first frame",
        mark=equal,
        said="Masked: without outlier channels; standardised: all channels at one scale. Dashed: all frames equal.",
    )


def _classes(data: xr.Dataset, kind: str, salt: str) -> Figure:
    own = data.sel(kind=kind)
    return _by_layer(
        {str(name): own.sel(compared=name) for name in own["compared"].to_numpy()},
        "class_ratio",
        salt,
        title=f"Classes of tokens, {kind} energy",
        label="energy over that of interior tokens",
        mark=1.0,
        said="Frame border: first and last row of each later latent frame. Dashed: as interior tokens.",
    )


def _specialisation(data: xr.Dataset, salt: str) -> Figure:
    return _by_layer(
        {kind: data.sel(kind=kind) for kind in _kinds(data, DRAWN)},
        "specialisation",
        salt,
        title="Which layers follow the objects",
        label="specialisation",
        mark=0.0,
        said="Contrast of foreground and background, minus that under another sample's mask; dashed: none.",
    )


def _by_layer(
    series: dict[str, xr.Dataset], name: str, salt: str, *, title: str, label: str, mark: float, said: str
) -> Figure:
    figure = canvas()
    axes = figure.subplots()
    told: list[str] = []
    for (what, own), color in zip(series.items(), SERIES, strict=False):
        mean, low, high = (own[f"{name}{end}"].to_numpy() for end in ("", "_low", "_high"))
        line(axes, own[dims.LAYER].to_numpy(), mean, low, high, color=color, label=what)
        told.append(f"{what}: {ends(own[name], dims.LAYER)}")
    axes.axhline(mark, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    first = next(iter(series.values()))
    integer_steps(axes, first[dims.LAYER].to_numpy())
    axes.set_xlabel("layer")
    axes.set_ylabel(label)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(series), borderaxespad=0.2)
    return Figure(
        svg=to_svg(figure, salt=salt),
        quantities=(name,),
        title=title,
        caption=f"{said} {behind(first[name], over='steps')}",
        alt=f"Line chart by layer. {'; '.join(told)}.",
    )


def _foreground(data: xr.Dataset, salt: str) -> Figure:
    kind = _kinds(data, ("standardised", "masked", "raw"))[0]
    quantity = data["foreground_ratio"].sel(kind=kind)
    figure = canvas()
    axes = matrix(
        figure,
        quantity.transpose(dims.LAYER, dims.STEP).to_numpy(),
        x=data[dims.STEP].to_numpy(),
        y=data[dims.LAYER].to_numpy(),
        x_label="denoising step",
        y_label="layer",
        scale_label="foreground over background",
    )
    steps = data[dims.STEP].to_numpy()
    for switch in data.attrs["switches"]:
        axes.axvline(float(np.searchsorted(steps, switch)) - 0.5, color="white", linewidth=1.2, linestyle=(0, (2, 2)))
    return Figure(
        svg=to_svg(figure, salt=salt),
        quantities=("foreground_ratio",),
        title=f"Foreground over background, {kind} energy",
        caption=f"Objects of the true video against tokens without any. {typical(quantity, over='frames')}",
        alt=f"Colour map of the ratio: {extremes(quantity, rows=dims.LAYER, columns=dims.STEP)}.",
    )
