"""The comparison: the same analysis of several groups of runs, its verdicts, numbers and curves side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from textwrap import shorten
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr

from analyses import DIFFERENCE_INTERVAL, Result, paired
from reports._figure import SERIES, Figure, canvas, drawing, integer_steps, line, matrix, to_svg
from reports._section import Context
from reports._words import change, ends, some
from store import dims

MOST_FIGURES: Final = 6
"""Figures of one analysis."""
MOST_PARTS: Final = 3
"""Parts of a quantity (metrics, branches) that get a figure each, at most."""
_AXES: Final = {dims.STEP: "denoising step", dims.LAYER: "layer"}


class Column(NamedTuple):
    """One group."""

    name: str
    verdict: str
    n: int
    runs: int


class Line(NamedTuple):
    """One number of every group."""

    name: str
    cells: tuple[str, ...]
    """With its interval; a dash where the group has none."""


class Compared(NamedTuple):
    """One analysis."""

    analysis: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    figures: tuple[Figure, ...]
    together: Result
    """What the figures draw, of all groups along `group`."""
    python: str
    samples: str
    """One line where the groups do not have the same samples, or empty."""
    paired: tuple[Line, ...]
    """Differences from the first group on the samples that both have; the first cell is empty."""
    paired_by: str
    """What these are and how their intervals are made, or why there are none; empty where runs have no number each."""


def group_name(by: Sequence[str], values: Sequence[Any]) -> str:
    """What a group is called, `tinywan · seed 0`, from the columns that part it and its values there."""
    return " · ".join(_named(column, value) for column, value in zip(by, values, strict=True))


def _named(column: str, value: Any) -> str:
    if column == "interventions":
        return change(json.loads(value))
    if column == "model":
        return str(value)
    return (
        f"{column.replace('_', ' ')} {shorten(str(value), 40, placeholder='…') if value not in (None, '') else 'none'}"
    )


def compared(context: Context) -> tuple[Compared, ...]:
    """Every analysis of which at least two groups of the page have a result, in the order of the page.

    Args:
        context: Its `names` say which results are groups, and what they are called.
    """
    names = dict.fromkeys(result.record.analysis for result in context.results if result.id in context.names)
    found: list[Compared] = []
    for analysis in names:
        groups = [result for result in context.of(analysis) if result.id in context.names]
        if len(groups) > 1:
            found.append(_compared(analysis, groups, context, salt=f"c{len(found)}"))
    return tuple(found)


def _compared(analysis: str, groups: Sequence[Result], context: Context, *, salt: str) -> Compared:
    names = [context.names[result.id] for result in groups]
    with drawing():
        figures = tuple(_figures(groups, names, salt))
    drawn = list(dict.fromkeys(name for figure in figures for name in figure.quantities))
    return Compared(
        analysis=analysis,
        columns=tuple(
            Column(name, result.verdict, result.record.n, len(result.record.run_ids))
            for name, result in zip(names, groups, strict=True)
        ),
        lines=tuple(_lines([result.summary() for result in groups])),
        figures=figures,
        together=Result(record=groups[0].record, data=_together(groups, names, drawn)),
        python=_python(groups, names),
        samples=_samples(groups, context),
        **_paired(groups, names, context),
    )


def _paired(groups: Sequence[Result], names: Sequence[str], context: Context) -> dict[str, Any]:
    """The fields `paired` and `paired_by`."""
    first, *others = groups
    differences = [{one.name: one.over for one in paired(first, other)} for other in others]
    known = dict.fromkeys(name for each in differences for name in each)
    lines = [
        Line(name.replace("_", " "), ("", *(_difference(each.get(name)) for each in differences))) for name in known
    ]
    told = [line for line in lines if any(cell not in ("", _NONE) for cell in line.cells)]
    if told:
        by = f"less that of {names[0]}, on the samples that both have: mean ({DIFFERENCE_INTERVAL}), n samples."
        return {"paired": tuple(told), "paired_by": by}
    apart = not any(_of(first, context) & _of(other, context) for other in others)
    return {
        "paired": (),
        "paired_by": f"No paired differences: no group shares a sample with {names[0]}." if apart and known else "",
    }


def _difference(over: Any) -> str:
    if over is None or not over.n:
        return _NONE
    ends_ = f" ({over.low:+.3g} to {over.high:+.3g})" if np.isfinite(over.low) else ""
    return f"{over.mean:+.3g}{ends_}, n = {over.n}"


def _of(result: Result, context: Context) -> set[str]:
    return {context.acts.run(run_id).run.sample_id for run_id in result.record.run_ids}


def _lines(summaries: Sequence[dict[str, Any]]) -> list[Line]:
    """A line for each headline number that any group has, its interval beside it."""
    keys = dict.fromkeys(key for summary in summaries for key in summary)
    ends_of = {f"{key}{end}" for key in keys for end in ("_low", "_high")}
    plain = [key for key in keys if key not in ends_of]
    told = [Line(key.replace("_", " "), tuple(_cell(summary, key) for summary in summaries)) for key in plain]
    return [one for one in told if any(cell != _NONE for cell in one.cells)]


_NONE: Final = "–"


def _cell(summary: dict[str, Any], key: str) -> str:
    value, low, high = (summary.get(f"{key}{end}") for end in ("", "_low", "_high"))
    if value is None or isinstance(value, dict | list):
        return _NONE
    if isinstance(low, int | float) and isinstance(high, int | float):
        return f"{_number(value)} ({_number(low)} to {_number(high)})"
    return _number(value)


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return shorten(str(value), 60, placeholder="…")
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _samples(groups: Sequence[Result], context: Context) -> str:
    sets = [_of(result, context) for result in groups]
    if all(one == sets[0] for one in sets):
        return ""
    shared, all_ = len(set.intersection(*sets)), len(set.union(*sets))
    return (
        f"The groups have different samples: of {all_}, {shared} {'is' if shared == 1 else 'are'} in every group. "
        "Numbers differ for that reason too; choose the same ones with --where."
    )


def _figures(groups: Sequence[Result], names: Sequence[str], salt: str) -> list[Figure]:
    found: list[Figure] = []
    data = [result.to_dataset() for result in groups]
    for quantity in _in_order(data[0]):
        if len(found) == MOST_FIGURES or not all(_is_curve(one, quantity) for one in data):
            continue
        axis = next(dim for dim in _AXES if dim in data[0][quantity].dims)
        for part in _parts(data, quantity, axis):
            if len(found) < MOST_FIGURES:
                shown = [one[[quantity, f"{quantity}_low", f"{quantity}_high"]].sel(part).compute() for one in data]
                found.append(_drawn(shown, quantity, axis, list(part.values()), names, f"{salt}-{len(found)}"))
    return found


def _in_order(data: xr.Dataset) -> list[str]:
    """The quantity that stands for the result, then those with one axis, then those with a further one."""
    headline = str(data.attrs.get("headline", ""))
    return sorted(map(str, data.data_vars), key=lambda name: (name != headline, data[name].ndim, name))


def _is_curve(data: xr.Dataset, name: str) -> bool:
    """Whether a quantity has intervals, one of the axes that are drawn, and beside it at most a few named parts."""
    if not {name, f"{name}_low", f"{name}_high"} <= set(data.data_vars):
        return False
    dims_ = [str(dim) for dim in data[name].dims]
    others = [dim for dim in dims_ if dim not in _AXES]
    named = all(dim in data.coords and data[dim].dtype.kind not in "iuf" for dim in others)
    return len(dims_) - len(others) == 1 and len(others) <= 1 and named


def _parts(data: Sequence[xr.Dataset], name: str, axis: str) -> list[dict[str, Any]]:
    """What chooses each curve of a quantity: its label on the other axis, if there is one that all groups know."""
    others = [str(dim) for dim in data[0][name].dims if dim != axis]
    if not others:
        return [{}]
    known = [set(one[others[0]].to_numpy().tolist()) for one in data]
    labels = [label for label in data[0][others[0]].to_numpy().tolist() if all(label in one for one in known)]
    return [{others[0]: label} for label in labels] if len(labels) <= MOST_PARTS else []


def _drawn(
    data: Sequence[xr.Dataset], name: str, axis: str, part: list[Any], names: Sequence[str], salt: str
) -> Figure:
    """Curves with bands for as many groups as there are colours, else a row of colours for each."""
    quantity = data[0][name]
    words = str(quantity.attrs.get("long_name", name.replace("_", " ")))
    title = ", ".join([words, *map(str, part)])
    figure = canvas()
    if len(data) <= len(SERIES):
        axes = figure.subplots()
        for color, one, label in zip(SERIES, data, names, strict=False):
            _curve(axes, one, name, axis, color=color, label=shorten(label, 32, placeholder="…"))
        integer_steps(axes, np.unique(np.concatenate([one[axis].to_numpy() for one in data])))
        axes.set_xlabel(_AXES[axis])
        axes.set_ylabel(str(quantity.attrs.get("units", "")))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(SERIES), borderaxespad=0.2)
        mark = "band"
    else:
        places = np.unique(np.concatenate([one[axis].to_numpy() for one in data]))
        values = np.stack([one[name].reindex({axis: places}).to_numpy() for one in data])
        short = np.array([shorten(label, 24, placeholder="…") for label in names])
        matrix(
            figure,
            values,
            x=places,
            y=short,
            x_label=_AXES[axis],
            y_label="",
            scale_label=str(quantity.attrs.get("units", "")),
        )
        mark = "interval, in the table"
    told = "; ".join(f"{label}: {ends(one[name], axis)}" for label, one in zip(names, data, strict=True))
    return Figure(
        svg=to_svg(figure, salt=salt),
        quantities=(name,),
        title=f"{title[:1].upper()}{title[1:]}",
        caption=_caption([one[name] for one in data], names, mark),
        alt=f"{'Line chart' if len(data) <= len(SERIES) else 'Colour map'} by {_AXES[axis]}, a group each. {told}.",
    )


def _curve(axes: Any, data: xr.Dataset, name: str, axis: str, *, color: str, label: str) -> None:
    mean, low, high = (data[f"{name}{end}"].to_numpy() for end in ("", "_low", "_high"))
    known = np.isfinite(mean)
    line(axes, data[axis].to_numpy()[known], mean[known], low[known], high[known], color=color, label=label)


def _caption(quantities: Sequence[xr.DataArray], names: Sequence[str], mark: str) -> str:
    """`n = 3 samples in each group; band: …`, or n by group where they differ."""
    counts = [int(quantity.attrs["n"]) for quantity in quantities]
    interval = next((str(one.attrs["interval"]) for one in quantities if int(one.attrs["n"]) > 1), "")
    if len(set(counts)) == 1:
        text = f"n = {some(counts[0], 'sample')} in each group"
    else:
        text = "n = " + ", ".join(f"{count} ({name})" for count, name in zip(counts, names, strict=True)) + " samples"
    return f"{text}; {mark}: {interval}." if interval else f"{text}, so no interval."


def _together(groups: Sequence[Result], names: Sequence[str], quantities: Sequence[str]) -> xr.Dataset:
    """The quantities with the ends of their intervals, the groups along `group`."""
    chosen = [f"{name}{end}" for name in quantities for end in ("", "_low", "_high")]
    data = [result.to_dataset()[chosen].reset_coords(drop=True) for result in groups]
    return xr.concat(data, dim="group", join="outer", combine_attrs="override").assign_coords(group=list(names))


def _python(groups: Sequence[Result], names: Sequence[str]) -> str:
    """Lines that read the results again and draw the comparison."""
    called = ", ".join(f"{result.id!r}: {name!r}" for result, name in zip(groups, names, strict=True))
    return "\n".join(
        [
            "import analyses, reports, store",
            'acts = store.open("ACTS")  # the folder or address of the store',
            f"names = {{{called}}}",
            "results = [analyses.load(acts, id) for id in names]",
            'reports.write(acts, "again.html", results=results, names=names)',
        ]
    )
