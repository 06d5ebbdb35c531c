"""The microscope: any statistic as a grid of layers and steps, and what a chosen cell looks like over the frames."""

from __future__ import annotations

from typing import Final

from reports._energy_maps import film as film_of_maps
from reports._section import Axis, Context, Film, Grid, Section
from reports._statistics import statistics

ID: Final = "microscope"


def microscope(context: Context) -> Section | None:
    """The grid of all results of the page, with the maps of its energy; None where nothing has layers and steps.

    Args:
        context: With all results of the page, after its sections were drawn: it shows their x̂0 again under the maps.
    """
    maps = context.of("energy")
    grids = statistics(context)
    if not grids and not maps:
        return None
    grid = Grid(grids) if grids else None
    film = film_of_maps(maps[0].to_dataset().compute(), context, ID, grid=grid) if maps else None
    film = None if film is None else film._replace(of=maps[0])
    notes: tuple[str, ...] = ()
    if film is None and grid is not None:
        film = _without_maps(grid)
        notes = ("The maps are larger than a page may be and are left out.",) if maps else (_NO_MAPS,)
    return Section(
        title="Microscope",
        lead=(
            "A cell is a layer at a step; where there are maps, they show where in each frame the layer's energy is at "
            "that step."
        ),
        hint=(
            "Choose a statistic, then a cell, by a click or the arrow keys. All figures of the page follow, and the "
            "address holds what you see, so it can be sent to a colleague."
        ),
        films=() if film is None else (film,),
        figures=(),
        notes=notes or (() if film is not None else ("The maps are larger than a page may be and are left out.",)),
    )


_NO_MAPS: Final = "No result of `energy` is on the page, so there are no maps; run `stepscope analyze energy`."


def _without_maps(grid: Grid) -> Film:
    """Sliders and grid alone."""
    steps, layers = grid.steps, grid.layers
    return Film(
        id=f"{ID}-maps",
        title="By layer and step",
        axes=(
            Axis("step", tuple(map(str, steps)), 0, 0, len(steps) // 2, 1.5, steps),
            Axis("layer", tuple(map(str, layers)), 0, 0, len(layers) // 2, 3.0, layers),
        ),
        sheets=(),
        groups=(),
        caption="Each statistic has its own colour scale.",
        pixelated=True,
        grid=grid,
    )
