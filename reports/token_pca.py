"""Draws a `token_pca` result: tokens as colours that mean the same in every picture of a layer."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import xarray as xr

from analyses import Result
from reports._figure import SERIES, Figure, canvas, drawing, integer_steps, line, to_svg
from reports._media import evenly
from reports._section import Context, Section, draws
from reports._words import behind, ends, some
from store import dims

LAYERS: Final = 5
"""Layers that are drawn of one run."""
RUNS: Final = 6
"""Runs that are drawn of one layer."""


@draws("token_pca", place=6)
def section(result: Result, context: Context, salt: str) -> Section:
    """Runs of one layer, layers of one run, and what the colours hold."""
    data = result.to_dataset()[["colour", *_EXPLAINED]].compute()
    with drawing():
        figures = (_runs(data, salt), _layers(data, salt), _explained(data, salt))
    return Section(
        title="Tokens as colours",
        lead=(
            f"The three main directions of a layer of {data.attrs['site']} as red, green and blue, channels "
            "standardised. One basis serves all steps, seeds and samples of a layer, so a colour means the same in all "
            "its pictures; the colours of two layers do not compare."
        ),
        films=(),
        figures=figures,
    )


_EXPLAINED: Final = ("explained_by_three", "explained_by_three_low", "explained_by_three_high")


def _runs(data: xr.Dataset, salt: str) -> Figure:
    layer = int(data[dims.LAYER][data.sizes[dims.LAYER] // 2])
    own = data["colour"].sel({dims.LAYER: layer}).isel(map_run=slice(RUNS))
    samples = [str(one) for one in own["map_sample"].to_numpy()]
    known = list(dict.fromkeys(samples))
    names = [f"sample {known.index(one) + 1}\nrun {samples[:at].count(one) + 1}" for at, one in enumerate(samples)]
    told = f"n = {some(len(known), 'sample')}, {some(len(names), 'run')}, each alone, so no interval."
    return _gallery(own, "map_run", names, f"{salt}-runs", title=f"Layer {layer}: samples and seeds", told=told)


def _layers(data: xr.Dataset, salt: str) -> Figure:
    shown = evenly(data.sizes[dims.LAYER], LAYERS)
    own = data["colour"].isel(map_run=0).isel({dims.LAYER: shown})
    names = [f"layer {int(one)}" for one in own[dims.LAYER].to_numpy()]
    title, told = "First run: layers, each with its own basis", "n = 1 run, so no interval."
    return _gallery(own, dims.LAYER, names, f"{salt}-layers", title=title, told=told)


def _gallery(own: xr.DataArray, rows: str, names: list[str], salt: str, *, title: str, told: str) -> Figure:
    """A row for each run or layer, a column a step, one latent frame in the middle."""
    frame = int(own[dims.FRAME][own.sizes[dims.FRAME] // 2])
    picked = own.sel({dims.FRAME: frame}).transpose(rows, "map_step", dims.Y, dims.X, "component").to_numpy()
    figure = canvas(height=0.95 * len(names) + 0.3)
    grid: Any = figure.subplots(len(names), picked.shape[1], squeeze=False)
    for row, name, pictures in zip(grid, names, picked, strict=True):
        row[0].set_ylabel(name, fontsize=7)
        for axes, picture, step in zip(row, pictures, own["map_step"].to_numpy(), strict=True):
            axes.imshow(picture)
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
            if name == names[0]:
                axes.set_title(f"step {int(step)}", fontsize=7)
    return Figure(
        svg=to_svg(figure, salt=salt),
        quantities=("colour",),
        title=title,
        caption=f"Latent frame {frame}; {told}",
        alt=f"Pictures of tokens as colours: {', '.join(name.replace(chr(10), ' ') for name in names)}.",
    )


def _explained(data: xr.Dataset, salt: str) -> Figure:
    figure = canvas()
    axes = figure.subplots()
    layers = data[dims.LAYER].to_numpy()
    mean, low, high = (data[name].to_numpy() for name in _EXPLAINED)
    line(axes, layers, mean, low, high, color=SERIES[0], label="explained")
    integer_steps(axes, np.asarray(layers))
    axes.set_ylim(0, 1)
    axes.set_xlabel("layer")
    axes.set_ylabel("share of a sample's variance")
    quantity = data[_EXPLAINED[0]]
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-explained"),
        quantities=_EXPLAINED[:1],
        title="What the three colours hold",
        caption=behind(quantity),
        alt=f"Line chart by layer: {ends(quantity, dims.LAYER)}.",
    )
