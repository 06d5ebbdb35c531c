"""What a page is made of: sections with figures and films, one section for each kind of result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple

from analyses import Result
from reports._figure import Figure
from reports._media import Sheet
from reports._words import change
from store import ActivationStore, Json

MEDIA_BYTES: Final = 100_000_000
"""What all pictures and videos of a report may weigh together, inside its page or beside it."""


class Axis(NamedTuple):
    """One slider of a film."""

    name: str
    """What the slider moves along: `step`, `frame`, `layer`."""
    labels: tuple[str, ...]
    """What it says at each position."""
    rows: int
    """How many rows of the sheet one position is further down."""
    columns: int
    """How many columns one position is further right."""
    start: int
    """Position at which the page opens."""
    fps: float
    """Positions a second when it plays."""
    values: tuple[int, ...]
    """The step, frame or layer at each position: what other figures of the page are moved to."""
    places: tuple[int, ...] = ()
    """Position in the sheet for each of the slider, where the sheet holds fewer; empty if they are the same."""


class Readout(NamedTuple):
    """A short text under a pane that follows a slider, or what the pane shows."""

    name: str
    texts: tuple[str, ...]
    """One for each position of the slider, or each row of the sheet."""
    axis: int | None = 0
    """Which slider; None for the row of the sheet that the pane shows."""


class Curve(NamedTuple):
    """A number by position of the first slider, drawn under a pane."""

    name: str
    values: tuple[float, ...]
    """NaN where there is none."""


class Curves(NamedTuple):
    """Curves that share one scale, which begins at 0."""

    name: str
    """What they are, for who cannot see them."""
    curves: tuple[Curve, ...]
    """At most three, in the page's series colours."""
    top: float
    """Upper end of the scale."""

    @property
    def lines(self) -> tuple[tuple[str, ...], ...]:
        """`x,y x,y …` of each unbroken part of each curve; x counts positions, y goes down from 1 to 0."""
        return tuple(tuple(_parts(curve.values, self.top)) for curve in self.curves)


def _parts(values: tuple[float, ...], top: float) -> Iterator[str]:
    points = [None if math.isnan(value) else f"{at},{1 - value / top:.4f}" for at, value in enumerate(values)]
    for known, part in groupby(points, key=lambda point: point is not None):
        if known:
            yield " ".join(point for point in part if point)


class Under(NamedTuple):
    """The x̂0 that lies under a map, at will: a sheet that the page already has."""

    sheet: str
    """Its CSS class."""
    rows: tuple[int, ...]
    """Row of that sheet for each position of the first slider."""
    column: int


class Still(NamedTuple):
    """What is there of a pane before its sheet is decoded, on paper, and without JavaScript."""

    sheet: Sheet
    """A row of cells."""
    labels: tuple[str, ...]
    """Of its first cells, which are shown beside each other."""
    first: int
    """The cell at which the page opens."""


class Pane(NamedTuple):
    """One moving picture of a film: a sheet, of which it shows one cell."""

    sheet: int
    """Position in `Film.sheets`."""
    row: int
    """Row of the sheet when all sliders are at 0."""
    column: int
    """Column of the sheet when all sliders are at 0."""
    title: str
    alt: str
    still: Still
    readouts: tuple[Readout, ...] = ()
    note: str = ""
    strip: tuple[float, ...] = ()
    """Heights of the bars under the pane, 0 to 1, one for each position of the first slider."""
    strip_name: str = ""
    curves: Curves | None = None
    """What is drawn in the place of the bars, where there is more than one number by step."""
    mark: int | None = None
    """Position of the first slider that is marked on the strip."""
    under: Under | None = None
    choice: tuple[str, str] | None = None
    """What choosing the pane chooses, e.g. `("run", its id)` or `("latent_frame", "3")`; None where it is no choice."""


class Group(NamedTuple):
    """Panes that belong together: the runs of a sample."""

    title: str
    text: str
    """The prompt, or empty."""
    picture: Sheet | None
    """The first frame, or None."""
    panes: tuple[Pane, ...]


class Statistic(NamedTuple):
    """A number by layer and step."""

    id: str
    """Its name in addresses; unique on the page."""
    name: str
    units: str
    caption: str
    """With n and interval."""
    steps: tuple[int, ...]
    layers: tuple[int, ...]
    values: tuple[tuple[float | None, ...], ...]
    """`[layer][step]`."""
    low: tuple[tuple[float | None, ...], ...]
    """Lower ends of the intervals, or empty."""
    high: tuple[tuple[float | None, ...], ...]
    picture: Sheet
    """A pixel a cell, the first layer at the bottom."""
    scale: str
    python: str

    @property
    def nbytes(self) -> int:
        """What it adds to a page, about."""
        return self.picture.nbytes + 8 * sum(map(len, (*self.values, *self.low, *self.high)))

    @property
    def alt(self) -> str:
        """What the picture shows, in numbers."""
        return (
            f"{self.name} by layer ({self.layers[0]} to {self.layers[-1]}, upwards) and step ({self.steps[0]} to "
            f"{self.steps[-1]}): {self.scale}"
        )


class Grid(NamedTuple):
    """Statistics from which the reader chooses one."""

    statistics: tuple[Statistic, ...]

    @property
    def told(self) -> list[dict[str, Any]]:
        """What the page's script needs of each."""
        return [{**one._asdict(), "picture": None, "uri": one.picture.uri, "alt": one.alt} for one in self.statistics]

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps that any of them has."""
        return tuple(sorted({step for one in self.statistics for step in one.steps}))

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that any of them has."""
        return tuple(sorted({layer for one in self.statistics for layer in one.layers}))


class Film(NamedTuple):
    """Moving pictures under common sliders."""

    id: str
    title: str
    axes: tuple[Axis, ...]
    sheets: tuple[Sheet, ...]
    groups: tuple[Group, ...]
    caption: str
    pixelated: bool
    rows: bool = False
    """Groups below each other, with small panes; else beside each other."""
    left_out: str = ""
    """One line on what is not shown, or empty."""
    grid: Grid | None = None
    """Chooses among the positions of the two sliders, step and layer."""
    quantities: tuple[str, ...] = ()
    """Names of what stands under the pictures, in its result."""
    of: Result | None = None
    """The result that it shows, where that is not its section's."""


class Shown(NamedTuple):
    """Where on the page the x̂0 of a run already is, so that another figure can show it again without its bytes."""

    sheet: str
    """CSS class of its sheet: steps down, frames across."""
    steps: tuple[int, ...]
    frames: tuple[int, ...]
    """Video frames."""


class Section(NamedTuple):
    """What a page shows of one result."""

    title: str
    lead: str
    """Two or three sentences on how to read it."""
    films: tuple[Film, ...]
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()
    """What is missing, and how to have it."""
    hint: str = ""
    """What the reader can do; not on paper, and not without JavaScript."""


class Context:
    """What a section may draw from, and how much it may weigh.

    Args:
        acts: For pictures, samples and records only; every number comes from a result.
        runs: Runs whose films are shown; None for all runs of the result.
        media_bytes: What pictures and videos of the page may weigh together.
        results: All results of the page, so that one section can show what another result says of the same runs.
        names: What the page calls a result beside others of its analysis, by its id, in the order of the page.
    """

    def __init__(
        self,
        acts: ActivationStore,
        *,
        runs: tuple[str, ...] | None,
        media_bytes: int,
        results: Sequence[Result] = (),
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.acts = acts
        self.runs = runs
        self.media_bytes = media_bytes
        self.results = tuple(results)
        self.names = dict(names or {})
        self.shown: dict[str, Shown] = {}
        """Runs whose x̂0 a section has drawn."""
        self._left = media_bytes

    def of(self, analysis: str) -> tuple[Result, ...]:
        """Results of `analysis` on the page, in the order of their names, those of clean runs first."""
        found = [result for result in self.results if result.record.analysis == analysis]
        return tuple(sorted(found, key=lambda one: (self.order(one), bool(self.changes(one)))))

    def order(self, result: Result) -> int:
        """Where `result` stands among the groups that are compared; behind them, where it belongs to none."""
        named = list(self.names)
        return named.index(result.id) if result.id in self.names else len(named)

    def name(self, result: Result) -> str:
        """What tells `result` from others of its analysis: its group, or what was changed; empty if nothing does."""
        if result.id in self.names:
            return self.names[result.id]
        others = self.of(result.record.analysis)
        told = change(self.changes(result)) if len({str(self.changes(one)) for one in others}) > 1 else ""
        settings = [self._settings(one) for one in others]
        own = self._settings(result)
        differing = [f"{key} {own[key]}" for key in own if len({str(one[key]) for one in settings}) > 1]
        return ", ".join(part for part in (told, *differing) if part)

    def _settings(self, result: Result) -> dict[str, object]:
        """What else tells conditions apart, by its name on a page."""
        run = self.acts.run(result.record.run_ids[0]).run
        adapters = " + ".join(PurePosixPath(one.path).stem for one in run.model.adapters) or "none"
        settings = run.settings
        return {
            "model": run.model.id,
            "adapters": adapters,
            "steps": settings.steps,
            "guidance": settings.guidance,
            "frames": settings.frames,
        }

    def changes(self, result: Result) -> tuple[Json, ...]:
        """Interventions of the first run behind `result`; of all its runs, where they are of one condition."""
        return self.acts.run(result.record.run_ids[0]).run.interventions

    def afford(self, nbytes: int, *, spare: int = 0) -> bool:
        """Take `nbytes` from what is left, if that leaves `spare` for others."""
        if nbytes + spare > self._left:
            return False
        self._left -= nbytes
        return True


Draw = Callable[[Result, Context, str], Section]
"""`(result, context, salt) -> Section`; `salt` is a short id that is unique on the page."""
_DRAWERS: dict[str, tuple[int, Draw]] = {}


def draws(analysis: str, *, place: int) -> Callable[[Draw], Draw]:
    """Make a function the one that draws the results of `analysis` (a decorator).

    Args:
        analysis: Name of the analysis.
        place: Where on the page: the number of the experiment, 1 for E1.
    """

    def register(draw: Draw) -> Draw:
        _DRAWERS[analysis] = (place, draw)
        return draw

    return register


def drawer(analysis: str) -> Draw | None:
    """Who draws the results of `analysis`; None if nobody does."""
    return _DRAWERS[analysis][1] if analysis in _DRAWERS else None


def place(analysis: str) -> float:
    """Where the results of `analysis` stand on the page; last if nobody draws them."""
    return _DRAWERS[analysis][0] if analysis in _DRAWERS else float("inf")
