"""Charts that answer when they are pointed at: numbers of a result as altair draws them, by what they run along.

The page draws a chart when it is opened and comes into view, with Vega's own script, which it carries once. What is
drawn is what an analysis has averaged already, so that a chart is small.
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
"""Labels that are told apart by colour and dashes; more are rows of a map."""
MOST_CHOICES: Final = 3
"""Axes that the reader chooses a label of."""
ACROSS: Final = (dims.STEP, dims.LAYER, dims.FRAME)
"""What runs from left to right, the first that a quantity has."""
LINKED: Final = (dims.STEP, dims.LAYER)
"""Of these the page has one choice, which a chart marks and takes where they run from left to right."""
MOST_TICKS: Final = 12
"""Labels of a horizontal axis that have a tick each; of more Vega chooses round ones."""
HEIGHT: Final = 220
"""Pixels of a chart between its axes; its width is the page's."""
ROW: Final = 16
"""Pixels of an entry of a table."""
_BESIDE_STEPS: Final = ("sigma", "timestep", "expert")
"""Labels that say no more than the step that stands beside them."""
_NUMBERS: Final = "table"
_CHOSEN: Final = "chosen"


class Chart(NamedTuple):
    """One quantity of a result, as the page's script takes it."""

    name: str
    title: str
    across: str
    """Which choice of the page runs from left to right, or empty."""
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
    if not axes or {dims.Y, dims.X} <= set(axes) or values.size > MOST_ROWS or values.dtype.kind not in "fiu":
        return None
    if not all(one.isidentifier() for one in (name, *axes)):  # they become parts of expressions
        return None
    if len(axes) == 1 and axes[0] not in values.coords:
        return _table(result, name, axes[0])
    across = next((axis for axis in ACROSS if axis in axes), axes[0])
    rest = sorted((axis for axis in axes if axis != across), key=lambda axis: values.sizes[axis], reverse=True)
    if len(rest) > 1 + MOST_CHOICES:
        return None
    frame = _frame(result, name, axes)
    title = f"{_title(values, name)}, by {' and '.join(axes)}"
    spec = _spec(_layers(frame, name, across, rest[0] if rest else None), frame, across, rest[1:], _words(title))
    return Chart(name, title, across if across in LINKED else "", *_written(spec, frame))


def _table(result: Result, name: str, axis: str) -> Chart:
    """A row for each arm or other entry of a table, which has no place on an axis but labels of its own."""
    values = result.to_dataset()[name]
    frame = _frame(result, name, [axis])
    frame[axis] = _entries(values, axis)
    y = alt.Y(f"{axis}:N", title=None, sort=None, axis=alt.Axis(labelLimit=260))
    told: dict[str, Any] = {"y": y, "tooltip": _tooltip(frame, name), "color": alt.value("var(--series-0)")}
    level = alt.X(f"{name}:Q", title=None, scale=alt.Scale(zero=_is_level(frame, name)))
    parts = [alt.Chart().mark_point(filled=True, opacity=1, size=40).encode(x=level, **told)]
    if f"{name}_low" in frame:
        ends: dict[str, Any] = {"x": alt.X(f"{name}_low:Q", title=None), "x2": f"{name}_high:Q"}
        parts.insert(0, alt.Chart().mark_rule().encode(**told, **ends))
    title = f"{_title(values, name)}, by {axis}"
    spec = _spec(parts, frame, axis, [], _words(title), height=ROW * len(frame))
    return Chart(name, title, "", *_written(spec, frame))


def _entries(values: xr.DataArray, axis: str) -> list[str]:
    """What tells the entries of a table apart, of the labels that they carry; -1 stands for none."""
    labels = {str(name): one.to_numpy().tolist() for name, one in values.coords.items() if one.dims == (axis,)}
    varying = {name: of for name, of in labels.items() if name not in _BESIDE_STEPS and len(set(of)) > 1}
    each = ([_label(name, of[at]) for name, of in varying.items()] for at in range(len(values)))
    found = [", ".join(filter(None, words)) for words in each]
    return [f"{at}: {words}" if found.count(words) > 1 else words for at, words in enumerate(found)]


def _label(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name if value else ""
    told = f"{value:g}" if isinstance(value, float) else str(value)
    return "" if told in ("", "-1", "nan") else f"{name} {told}"


def _words(title: str) -> str:
    return f"{title}; its numbers are under Data and code."


def _written(spec: dict[str, Any], frame: pd.DataFrame) -> tuple[str, str]:
    """Specification and data as JSON."""
    columns = {str(column): [_told(value) for value in frame[column].tolist()] for column in frame}
    spec_json, data = (
        json.dumps(one, sort_keys=True, allow_nan=False, separators=(",", ":")) for one in (spec, columns)
    )
    return spec_json, data


def _title(values: xr.DataArray, name: str) -> str:
    units = str(values.attrs.get("units", ""))
    return str(values.attrs.get("long_name", name)) + (f" ({units})" if units not in ("", "1") else "")


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


def _spec(
    layers: list[Any], frame: pd.DataFrame, across: str, choices: Sequence[str], words: str, *, height: int = HEIGHT
) -> dict[str, Any]:
    """Vega-Lite of these layers, with an input for each further axis and a mark at what the page looks at."""
    labels = {axis: _labels(frame, axis) for axis in choices}
    params: list[Any] = [
        alt.VariableParameter(
            name=f"of_{axis}", value=of[0], bind=alt.BindRadioSelect(input="select", options=of, name=axis)
        )
        for axis, of in labels.items()
    ]
    if across in LINKED:
        layers = [*layers, _mark(layers[-1], across)]
        params.append(alt.VariableParameter(name=_CHOSEN, value=None))
    drawn = alt.LayerChart(
        layer=layers,
        data=alt.NamedData(name=_NUMBERS),
        params=params or alt.Undefined,
        transform=[alt.FilterTransform(filter=f"datum['{axis}'] == of_{axis}") for axis in labels] or alt.Undefined,
        width="container",
        height=height,
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        description=words,
    )
    spec = drawn.to_dict(validate=False)  # which took a quarter of a page's time; tests do
    del spec["config"]  # chart.js gives the page's own
    return spec


def _layers(frame: pd.DataFrame, name: str, across: str, down: str | None) -> list[Any]:
    """Lines with bands where `across` is numbers, else points with rules; a map where there are many of them."""
    numbers = pd.api.types.is_numeric_dtype(frame[across])
    labels = [] if down is None else _labels(frame, down)
    if down is not None and len(labels) > MOST_LINES:
        return [_map(frame, name, across, down, numbers=numbers)]
    x = alt.X(f"{across}:N", title=across)
    if numbers:
        x = alt.X(f"{across}:Q", title=across, scale=alt.Scale(nice=False), axis=_ticks(_labels(frame, across)))
    told: dict[str, Any] = {"x": x, "tooltip": _tooltip(frame, name), "color": alt.value("var(--series-0)")}
    dashes: dict[str, Any] = {}
    if down is not None:
        # The same labels for both, so that Vega makes one legend of two.
        scale = alt.Scale(domain=labels)
        legend = alt.Legend(orient="top", symbolOpacity=1, symbolType="stroke", symbolStrokeWidth=2)
        told["color"] = alt.Color(f"{down}:N", title=down, scale=scale, legend=legend)
        dashes["strokeDash"] = alt.StrokeDash(f"{down}:N", title=down, scale=scale, legend=legend)
    level = alt.Y(f"{name}:Q", title=None, scale=alt.Scale(zero=_is_level(frame, name)))
    parts = [alt.Chart().mark_line().encode(y=level, **told, **dashes)] if numbers else []
    parts.append(alt.Chart().mark_point(filled=True, opacity=1, size=40).encode(y=level, **told))
    if f"{name}_low" in frame:
        band = alt.Chart().mark_area(opacity=0.18) if numbers else alt.Chart().mark_rule()
        ends: dict[str, Any] = {"y": alt.Y(f"{name}_low:Q", title=None), "y2": f"{name}_high:Q"}
        parts.insert(0, band.encode(**told, **ends))
    return parts


def _labels(frame: pd.DataFrame, axis: str) -> list[Any]:
    """Those of an axis, once each, in their order."""
    return list(dict.fromkeys(frame[axis].tolist()))


def _ticks(labels: list[Any]) -> Any:
    """An axis whose ticks are at the labels, where there are few of them."""
    return alt.Axis(values=labels if len(labels) <= MOST_TICKS else alt.Undefined, labelOverlap=True, format="~g")


def _map(frame: pd.DataFrame, name: str, across: str, down: str, *, numbers: bool) -> Any:
    """Cells of a colour."""
    level = alt.Axis(labelAngle=0, labelOverlap="greedy") if numbers else alt.Undefined
    x = alt.X(f"{across}:O", title=across, axis=level)
    y = alt.Y(f"{down}:O", title=down, sort="descending")
    color = alt.Color(f"{name}:Q", title=None, scale=alt.Scale(scheme="cividis"))
    return alt.Chart().mark_rect().encode(x=x, y=y, color=color, tooltip=_tooltip(frame, name))


def _tooltip(frame: pd.DataFrame, name: str) -> list[Any]:
    """Labels as they are, numbers with four digits."""
    values = {name, f"{name}_low", f"{name}_high"}
    labels = [alt.Tooltip(str(column), type="nominal") for column in frame if column not in values]
    return labels + [
        alt.Tooltip(str(column), type="quantitative", format=".4g") for column in frame if column in values
    ]


def _is_level(frame: pd.DataFrame, name: str) -> bool:
    """Whether all values are one number, between whose ends an axis would have no place."""
    values = frame.filter(regex=f"^{name}(_low|_high)?$").to_numpy(float)
    known = values[~pd.isna(values)]
    return known.size > 0 and bool(known.max() - known.min() <= 1e-6 * abs(known).max())


def _mark(layer: Any, across: str) -> Any:
    """Where the page's choice is, on the chart's own axis."""
    kind = layer.encoding.x.to_dict()["type"]
    return (
        alt.Chart(alt.InlineData(values=[{}]), name="at")
        .transform_calculate(at=_CHOSEN)
        .transform_filter("isValid(datum.at)")
        .mark_rule()
        .encode(x=alt.X("at", type=kind, title=across))
    )
