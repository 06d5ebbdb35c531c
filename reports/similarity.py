"""Draws a `similarity` result: which layers or steps are alike, or where two runs are."""

from __future__ import annotations

import xarray as xr

from analyses import Result
from reports._figure import Figure, canvas, drawing, matrix, to_svg
from reports._section import Context, Section, draws
from reports._words import extremes, typical
from store import dims


@draws("similarity", place=5)
def section(result: Result, context: Context, salt: str) -> Section:
    """A figure for each quantity that has two axes left when its first is averaged."""
    data = result.to_dataset().compute()
    ends = ("_low", "_high")
    names = [str(name) for name in data.data_vars if not str(name).endswith(ends)]
    with drawing():
        figures = tuple(_map(data[name], f"{salt}-{at}") for at, name in enumerate(names) if data[name].ndim >= 2)
    return Section(
        title=f"Likeness between {data.attrs['between']}",
        lead=(
            f"How alike representations of {data.attrs['site']} are. CKA is linear and debiased: 1 for the same up to "
            "rotation and scale, about 0 for nothing in common."
        ),
        films=(),
        figures=figures,
    )


def _map(quantity: xr.DataArray, salt: str) -> Figure:
    over = [str(dim) for dim in quantity.dims[:-2]]
    drawn = quantity.mean(over, keep_attrs=True)
    rows, columns = (str(dim) for dim in drawn.dims)
    if columns == dims.LAYER:  # steps along the horizontal axis, as everywhere
        rows, columns = columns, rows
    drawn = drawn.transpose(rows, columns)
    words = str(quantity.attrs["long_name"])
    figure = canvas()
    matrix(
        figure,
        drawn.to_numpy(),
        x=drawn[columns].to_numpy(),
        y=drawn[rows].to_numpy(),
        x_label=columns.replace("_", " "),
        y_label=rows.replace("_", " "),
        scale_label=str(quantity.name).rpartition("_")[0],
    )
    return Figure(
        svg=to_svg(figure, salt=salt),
        quantities=(str(quantity.name),),
        title=f"{words[:1].upper()}{words[1:]}",
        caption=typical(quantity, over=", ".join(f"{dim.replace('_', ' ')}s" for dim in over)),
        alt=f"Colour map: {extremes(drawn, rows=rows, columns=columns)}.",
    )
