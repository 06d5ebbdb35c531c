"""Draws a `features` result: the tokens that fire the strongest features, when these fire, and which come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from analyses import Result
from reports._figure import RULE, SERIES, Figure, canvas, drawing, matrix, to_svg
from reports._media import shrunk
from reports._section import Context, Section, draws
from reports._words import extremes, some
from store import dims

ROWS = 8
"""Features in the gallery, at most."""
COLUMNS = 4
"""Examples of each."""
STEPWISE = 24
"""Features whose firing by step is drawn, at most."""
BOX = "#ff2fd0"
"""Round a token: no colour of the worlds."""


@draws("features", place=15)
def section(result: Result, context: Context, salt: str) -> Section:
    """The gallery, firing by step, and likeness to the other half's dictionary."""
    data = result.to_dataset().compute()
    with drawing():
        figures = (_gallery(data, context, salt), _firing(data, salt), _likeness(data, salt))
    told = data.attrs
    return Section(
        title="Sparse features",
        lead=(
            f"A dictionary of {told['features']} features, {told['k']} active at a token, of {told['site']} at layer "
            f"{told['layer']}, judged on {told['held_out']}. Pictures always tell a story: look at the gain over "
            "Gaussian tokens, in which nothing is sparse, and at which features come back, before you believe one."
        ),
        films=(),
        figures=figures,
    )


def _gallery(data: xr.Dataset, context: Context, salt: str) -> Figure:
    """A row for each of the strongest features that come back, with the tokens at which it is most active."""
    chosen = _chosen(data)
    figure = canvas(height=1.2 * len(chosen) + 0.2)
    grid: Any = figure.subplots(len(chosen), COLUMNS, squeeze=False)
    rows, columns = (int(size) for size in data.attrs["grid"][1:])
    for row, at in zip(grid, chosen, strict=True):
        one = data.isel(feature=at)
        weight, likeness = 100 * float(one["weight"]), float(one["likeness"])
        row[0].set_ylabel(f"feature {at}\n{weight:.1f} %\nlike {likeness:.2f}", fontsize=7)
        for place, axes in enumerate(row):
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
            run = str(one["example_run"].to_numpy()[place]) if place < one.sizes["example"] else ""
            if not run:
                for spine in axes.spines.values():
                    spine.set_visible(False)
                continue
            step, frame, y, x = (int(one[f"example_{name}"][place]) for name in ("step", "frame", "y", "x"))
            picture = _picture(context, run, step, int(one["example_pixel_frame"][place]))
            high, wide = picture.shape[:2]
            axes.imshow(picture)
            corner = (x * wide / columns - 0.5, y * high / rows - 0.5)
            axes.add_patch(Rectangle(corner, wide / columns, high / rows, fill=False, edgecolor=BOX, linewidth=1.2))
            axes.set_title(f"step {step}, frame {frame}: {float(one['example_value'][place]):.1f}", fontsize=6.5)
    names = ", ".join(f"{at} ({float(data['likeness'][at]):.2f})" for at in chosen)
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-look"),
        quantities=("weight", "likeness", "example_value"),
        title="What fires the strongest features",
        caption=f"n = {some(len(chosen), 'feature')}, the strongest with a likeness of 0.7 or more first; held-out "
        "tokens, one of each run, each alone, so no interval. Left: share of all squared activations, and largest "
        "cosine with a feature of the other half's dictionary. Box: the token, on x̂0 of its step if that was kept, "
        "else on the finished video.",
        alt=f"Pictures with a token marked in each. Features, likeness in brackets: {names}.",
    )


def _chosen(data: xr.Dataset) -> list[int]:
    """Positions of features: those that come back first, in the order of their weights."""
    stable = data["likeness"].to_numpy() >= 0.7
    live = np.flatnonzero(data["weight"].to_numpy() > 0)
    order = [*live[stable[live]], *live[~stable[live]]]
    return [int(at) for at in order[:ROWS]] or [0]


def _picture(context: Context, run: str, step: int, frame: int) -> NDArray[np.uint8]:
    held = {(array.site, array.reduction) for array in context.acts.run(run).arrays}
    if ("x0_hat", "pixels") in held:
        pixels = context.acts.load("x0_hat", "pixels", runs=[run], step=step, frame=[frame])
    else:
        pixels = context.acts.load("output", "pixels", runs=[run], frame=[frame])
    return shrunk(pixels.isel(run=0).to_numpy())[0]


def _firing(data: xr.Dataset, salt: str) -> Figure:
    firing = data["firing"].isel(feature=slice(0, STEPWISE))
    firing = firing.assign_coords(feature=np.arange(firing.sizes["feature"]))
    figure = canvas()
    matrix(
        figure,
        firing.transpose("feature", dims.STEP).to_numpy(),
        x=firing[dims.STEP].to_numpy(),
        y=firing["feature"].to_numpy(),
        x_label="denoising step",
        y_label="feature, strongest first",
        scale_label="share of tokens",
    )
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-firing"),
        quantities=("firing",),
        title="When they fire",
        caption=f"Share of the held-out tokens of a step at which a feature is active, all samples together, so no "
        f"interval; n = {int(data.attrs['n'])} samples, of which half are held out.",
        alt=f"Colour map: {extremes(firing, rows='feature', columns=dims.STEP)}.",
    )


def _likeness(data: xr.Dataset, salt: str) -> Figure:
    figure = canvas()
    axes = figure.subplots()
    found = np.sort(data["likeness"].to_numpy())[::-1]
    none = np.sort(data["gaussian_likeness"].to_numpy())[::-1]
    for color, values, label in ((SERIES[0], found, "these features"), (SERIES[1], none, "of Gaussian tokens")):
        axes.plot(np.linspace(0, 100, len(values)), values, color=color, label=label)
    axes.axhline(0.7, color=RULE, linewidth=1)
    axes.set_xlabel("features, % (most alike first)")
    axes.set_ylabel("largest cosine")
    axes.set_ylim(min(0.0, float(found.min())), 1.02)
    axes.legend(loc="lower left")
    told = data.attrs
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-alike"),
        quantities=("likeness", "gaussian_likeness"),
        title="Which come back from other samples",
        caption=f"Largest cosine of each feature with one of the other half's dictionary, beside the same of two "
        f"dictionaries of Gaussian tokens of equal covariance; n = {some(len(found), 'feature')}, each alone, so no "
        f"interval. From 0.7 on it is the same feature: "
        f"{100 * told['stable']:.0f} % against {100 * told['gaussian_stable']:.0f} %; {100 * told['dead']:.0f} % are "
        "dead.",
        alt=f"Two falling curves: median {np.median(found):.2f} against {np.median(none):.2f} for Gaussian tokens.",
    )
