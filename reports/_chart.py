"""Charts that answer when they are pointed at: numbers of a result as altair draws them, by what they run along.

The page draws a chart when the reader opens it, with Vega's own script, which it carries once. What is drawn is what an
analysis has averaged already, so that a chart is small.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import altair as alt
import pandas as pd
import vl_convert
import xarray as xr

from analyses import Result
from store import dims

MOST_ROWS: Final = 2_000
"""A quantity with more cells has no chart."""
MOST_LINES: Final = 3
"""Labels that are told apart by colour; more are rows of a map."""
MOST_CHOICES: Final = 3
"""Axes that the reader chooses a label of."""
ACROSS: Final = (dims.STEP, dims.LAYER, dims.FRAME)
"""What runs from left to right, the first that a quantity has."""


class Chart(NamedTuple):
    """One quantity of a result, as the page's script takes it."""

    name: str
    spec: str
    """Vega-Lite without its data, JSON."""
    columns: str
    """The data, JSON: column → values."""


def charts(result: Result, quantities: Sequence[str]) -> tuple[Chart, ...]:
    """A chart of each quantity that has one: it runs along something, is no picture, and has few cells."""
    data = result.to_dataset()
    found = (_chart(result, name) for name in quantities if name in data)
    return tuple(chart for chart in found if chart is not None)


@cache
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, the same bytes at every call."""
    return vl_convert.javascript_bundle()  # pyright: ignore[reportCallIssue]: its stub lacks the default


def _chart(result: Result, name: str) -> Chart | None:
    values = result.to_dataset()[name]
    axes = [str(dim) for dim, size in values.sizes.items() if size > 1]
    if not axes or {dims.Y, dims.X} <= set(axes) or values.size > MOST_ROWS or values.dtype.kind not in "fiub":
        return None
    if not all(one.isidentifier() for one in (name, *axes)):  # they become parts of expressions
        return None
    across = next((axis for axis in ACROSS if axis in axes), axes[0])
    rest = sorted((axis for axis in axes if axis != across), key=lambda axis: values.sizes[axis], reverse=True)
    if len(rest) > 1 + MOST_CHOICES:
        return None
    frame = _frame(result, name, axes)
    drawn = _drawn(frame, name, values, across, rest[0] if rest else None)
    for axis in rest[1:]:
        drawn = _chosen(drawn, axis, frame[axis].drop_duplicates().tolist())
    if across == dims.STEP:
        drawn = alt.layer(drawn, _mark(drawn)).add_params(alt.param(name="chosen_step", value=None))
    units = str(values.attrs.get("units", ""))
    said = str(values.attrs.get("long_name", name)) + (f" ({units})" if units not in ("", "1") else "")
    title = alt.Title(said, anchor="start", fontSize=12, fontWeight="normal", color="var(--ink)", offset=12)
    room = alt.AutoSizeParams(type="fit-x", contains="padding")
    spec = drawn.properties(width="container", height=220, autosize=room, title=title, description=said)
    text = spec.to_dict()
    del text["config"]  # chart.js gives the page's own
    columns = {str(column): [_told(value) for value in frame[column].tolist()] for column in frame}
    return Chart(name, json.dumps(text, sort_keys=True), json.dumps(columns, allow_nan=False))


def _frame(result: Result, name: str, axes: Sequence[str]) -> pd.DataFrame:
    """Labels of the axes, the value, and the ends of its interval."""
    frame = result.to_dataframe(name)
    columns = [*axes, *(one for one in (name, f"{name}_low", f"{name}_high") if one in frame)]
    return frame.reindex(columns=columns)


def _told(value: Any) -> Any:
    """A cell as JSON has it: six digits, and nothing where there is no number."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _drawn(frame: pd.DataFrame, name: str, values: xr.DataArray, across: str, down: str | None) -> Any:
    """Lines with bands where `across` is numbers, else points with rules; a map where there are many of them."""
    numbers = pd.api.types.is_numeric_dtype(frame[across])
    base = alt.Chart(alt.NamedData(name="table"))
    tooltip = [alt.Tooltip(column, type="nominal") for column in frame if column in values.dims]
    tooltip += [alt.Tooltip(column, type="quantitative", format=".4g") for column in frame if column not in values.dims]
    if down is not None and values.sizes[down] > MOST_LINES:
        level = alt.Axis(labelAngle=0, labelOverlap="greedy") if numbers else alt.Undefined
        x = alt.X(f"{across}:O", title=across, axis=level)
        y = alt.Y(f"{down}:O", title=down, sort="descending")
        color = alt.Color(f"{name}:Q", title=None, scale=alt.Scale(scheme="cividis"))
        return alt.layer(base.mark_rect().encode(x=x, y=y, color=color, tooltip=tooltip))
    x = alt.X(f"{across}:N", title=across)
    if numbers:
        x = alt.X(f"{across}:Q", title=across, scale=alt.Scale(nice=False))
    color = alt.value("var(--series-0)") if down is None else alt.Color(f"{down}:N", title=down)
    y = alt.Y(f"{name}:Q", title=None, scale=alt.Scale(zero=False))
    marks = base.mark_line(point=True) if numbers else base.mark_point(filled=True, size=50)
    parts = [marks.encode(x=x, y=y, color=color, tooltip=tooltip)]
    if f"{name}_low" in frame:
        ends: dict[str, Any] = {"y": alt.Y(f"{name}_low:Q", title=None), "y2": f"{name}_high:Q"}
        ends |= {} if down is None else {"detail": f"{down}:N"}
        band = base.mark_area(opacity=0.18) if numbers else base.mark_rule()
        parts.insert(0, band.encode(x=x, color=color if down is None else alt.Color(f"{down}:N", legend=None), **ends))
    return alt.layer(*parts)


def _chosen(chart: Any, axis: str, labels: list[Any]) -> Any:
    """The chart of one label of an axis, which the reader chooses."""
    parameter = alt.param(name=f"of_{axis}", value=labels[0], bind=alt.binding_select(options=labels, name=f"{axis} "))
    return chart.add_params(parameter).transform_filter(f"datum['{axis}'] == of_{axis}")


def _mark(chart: Any) -> Any:
    """Where the page's chosen step is, on the chart's own axis."""
    kind = chart.layer[-1].encoding.x.to_dict()["type"]
    return (
        alt.Chart(alt.InlineData(values=[{}]))
        .transform_calculate(at="chosen_step")
        .transform_filter("isValid(datum.at)")
        .mark_rule(color="var(--ink)", strokeDash=[4, 3])
        .encode(x=alt.X("at", type=kind, title=dims.STEP))
    )
