"""Draws a `probes` result: where each label becomes readable, beside what needs no network to be read."""

from __future__ import annotations

from typing import Final

import numpy as np
import xarray as xr

from analyses import Result
from reports._figure import MUTED, Figure, canvas, drawing, matrix, to_svg
from reports._section import Context, Section, draws
from reports._words import extremes, typical
from store import dims

LABELS: Final = 6
"""Labels that are drawn; the others stand in the table of the result."""


@draws("probes", place=12)
def section(result: Result, context: Context, salt: str) -> Section:
    """A figure for each label."""
    data = result.to_dataset().drop_vars("direction", errors="ignore").compute()
    names = [str(name) for name in data["label"].to_numpy()]
    with drawing():
        figures = tuple(_grid(data.isel(label=at), name, f"{salt}-{at}") for at, name in enumerate(names[:LABELS]))
    notes = (f"Not drawn: {', '.join(names[LABELS:])}.",) if len(names) > LABELS else ()
    return Section(
        title="Linear probes",
        lead=(
            f"How well a linear map reads a label off the mean token of {data.attrs['site']}, on samples that it was "
            "not trained on. A high score says that the label is there, not that the network worked it out: compare "
            "it with the same probe on the prompt's words and on the step's latent."
        ),
        films=(),
        figures=figures,
        notes=notes,
    )


def _grid(own: xr.Dataset, name: str, salt: str) -> Figure:
    """Score by step and layer (or frame), decodable cells marked; of more axes, the mean over the others."""
    score = own["score"]
    rows = next((dim for dim in (dims.LAYER, dims.FRAME) if dim in score.dims), None)
    if rows is None:
        score, rows = score.expand_dims({dims.LAYER: [0]}), dims.LAYER
    over = [str(dim) for dim in score.dims if dim not in (rows, dims.STEP)]
    drawn = score.mean(over, keep_attrs=True).transpose(rows, dims.STEP)
    marked = own["decodable"].mean([dim for dim in over if dim in own["decodable"].dims])
    is_class = str(own["kind"].item()) == "class"
    figure = canvas()
    axes = matrix(
        figure,
        drawn.to_numpy(),
        x=drawn[dims.STEP].to_numpy(),
        y=drawn[rows].to_numpy(),
        x_label="denoising step",
        y_label=rows if rows != dims.FRAME else "latent frame",
        scale_label="accuracy" if is_class else "R²",
    )
    y, x = np.nonzero(np.atleast_2d(marked.transpose(..., dims.STEP).to_numpy()) > 0)
    axes.plot(x, y, linestyle="none", marker=".", markersize=3, color=MUTED)
    beside = [("chance", float(own["chance"])), ("labels drawn by lot", float(own["control_score"].mean()))]
    beside.append(("the prompt's words", float(own["prompt_score"])))
    if "latent_score" in own:
        beside.append(("latents, mean over steps", float(own["latent_score"].mean())))
    told = ", ".join(f"{what} {value:.2f}" for what, value in beside)
    return Figure(
        svg=to_svg(figure, salt=salt),
        quantities=("score", "decodable"),
        title=f"{name}: {own['verdict'].item()}",
        caption=f"{typical(drawn, over=', '.join(over))} Dots: decodable. Beside it: {told}.",
        alt=f"Colour map of the score of {name}: {extremes(drawn, rows=rows, columns=dims.STEP)}; {told}.",
    )
