"""Draws an `exploration` result: how many answers x̂0 holds by step, what that rests on, and how kinds are told."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from analyses import Result
from reports._figure import CMAP, SERIES, Figure, canvas, drawing, integer_steps, line, mark_switches, matrix, to_svg
from reports._media import shrunk
from reports._section import Context, Section, draws
from reports._words import behind, ends, extremes, some
from store import dims

SHOWN_SAMPLES = 6
"""Samples in the gallery, at most."""
SHOWN_COMPONENTS = 3
"""Components of each, at most."""


@draws("exploration", place=2)
def section(result: Result, context: Context, salt: str) -> Section:
    """Curves, the gallery of evidence, and the confusion of kinds where there is one."""
    data = result.to_dataset().compute()
    prefix = "" if "effective" in data else "component_"
    with drawing():
        figures = [_curves(data, prefix, salt), _gallery(data, context, salt)]
        figures += [
            _confusion(data, str(basis), salt) for basis in (data["basis"].to_numpy() if "basis" in data else ())
        ]
    known = "the valid answers, which its world knows" if not prefix else "components that nobody named"
    return Section(
        title="Exploration: several answers at once?",
        lead=(
            "Early x̂0 can hold several answers: in different places (multi-path) or at one (superposition). Here x̂0 "
            f"is read as a mixture of {known}. Look at the pictures before you believe the curves."
        ),
        films=(),
        figures=tuple(figures),
        notes=() if not prefix else ("No sample has known valid answers, so no evidence of them is drawn.",),
    )


def _curves(data: xr.Dataset, prefix: str, salt: str) -> Figure:
    figure = canvas()
    axes = figure.subplots()
    step = data[dims.STEP].to_numpy()
    names = {
        f"{prefix}effective": "effective number",
        f"{prefix}second": "second strongest",
        f"{prefix}overlap": "overlap",
    }
    for color, (name, label) in zip(SERIES, names.items(), strict=False):
        mean, low, high = (data[f"{name}{end}"].to_numpy() for end in ("", "_low", "_high"))
        known = np.isfinite(mean)
        line(axes, step[known], mean[known], low[known], high[known], color=color, label=label)
    integer_steps(axes, step)
    mark_switches(axes, [int(switch) for switch in data.attrs["switches"]])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("denoising step")
    axes.set_ylabel("candidates; weight; overlap 0 to 1")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(names), borderaxespad=0.2)
    told = "; ".join(f"{label}: {ends(data[name], dims.STEP)}" for name, label in names.items())
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-mix"),
        quantities=tuple(names),
        title="How many candidates x̂0 holds",
        caption=f"{behind(data[f'{prefix}effective'])} Second strongest: its weight, 1 = fully painted. Overlap: of "
        "the places of candidates that share the weight.",
        alt=f"Line chart by step. {told}.",
    )


def _gallery(data: xr.Dataset, context: Context, salt: str) -> Figure:
    """A row a sample: x̂0 at the step to look at, then its components."""
    samples = _chosen(data)
    figure = canvas(height=1.15 * len(samples) + 0.3)
    grid: Any = figure.subplots(len(samples), 1 + SHOWN_COMPONENTS, squeeze=False)
    told: list[str] = []
    for row, one in zip(grid, samples, strict=True):
        name = " · ".join(part for part in (str(one["family"].item()), str(one["kind_of_world"].item())) if part)
        step, frame = int(one["peak_step_by_sample"]), float(one["component_frame_by_sample"][0])
        row[0].set_ylabel(name.replace(" · ", "\n"), fontsize=7)
        picture = _x0(data, context, str(one["sample"].item()), step, frame)
        if picture is not None:
            row[0].imshow(picture)
        row[0].set_title(f"x̂0, step {step}" + (f", frame {frame:.0f}" if math.isfinite(frame) else ""), fontsize=7)
        for place, axes in enumerate(row[1:]):
            found = float(one["component_step_by_sample"][place])
            if math.isfinite(found):
                axes.imshow(one["component_map_by_sample"][place].to_numpy(), cmap=CMAP, vmin=0)
                axes.set_title(f"component {place}, step {found:.0f}", fontsize=7)
            else:
                axes.set_axis_off()
        for axes in row:
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
        count = int(np.isfinite(one["component_step_by_sample"].to_numpy()).sum())
        told.append(f"{name}: {some(count, 'component')}, second strongest at step {step}")
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-look"),
        quantities=("component_map_by_sample", "component_step_by_sample", "peak_step_by_sample"),
        title="What it rests on",
        caption=f"n = {some(len(data['sample']), 'sample')}; up to two of each kind, each alone, so no interval. "
        "Left: x̂0 at the step where its second candidate is strongest. Right: where its components change the first "
        "frame most, over all frames; each map has its own scale.",
        alt=f"Pictures. {'; '.join(told)}.",
    )


def _chosen(data: xr.Dataset) -> list[xr.Dataset]:
    """Up to two samples of each kind, in the order of the result."""
    kinds = [str(kind) for kind in data["kind_of_world"].to_numpy()]
    order = [at for at, kind in enumerate(kinds) if kinds[:at].count(kind) < 2]
    return [data.isel(sample=at) for at in order[:SHOWN_SAMPLES]]


def _x0(data: xr.Dataset, context: Context, sample: str, step: int, frame: float) -> np.ndarray | None:
    """One frame of x̂0 of the sample's first run; None where its pixels were not kept."""
    owners = [str(owner) for owner in data["sample_id"].to_numpy()]
    run = str(data["run"].to_numpy()[owners.index(sample)])
    if not any((array.site, array.reduction) == ("x0_hat", "pixels") for array in context.acts.run(run).arrays):
        return None
    x0 = context.acts.load("x0_hat", "pixels", runs=[run], step=step).isel(run=0)
    return shrunk(x0.isel(frame=[int(frame) if math.isfinite(frame) else -1]).to_numpy())[0]


def _confusion(data: xr.Dataset, basis: str, salt: str) -> Figure:
    one = data.sel(basis=basis)
    auroc = ", ".join(
        f"{kind} {float(one['auroc'].sel(kind=kind)):.2f} ({float(one['auroc_low'].sel(kind=kind)):.2f} to "
        f"{float(one['auroc_high'].sel(kind=kind)):.2f})"
        for kind in (str(kind) for kind in one["kind"].to_numpy())
    )
    figure = canvas()
    matrix(
        figure,
        one["confusion"].transpose("kind", "called").to_numpy(),
        x=one["called"].to_numpy(),
        y=one["kind"].to_numpy(),
        x_label="called",
        y_label="is, by its world",
        scale_label="share of a kind",
    )
    return Figure(
        svg=to_svg(figure, salt=f"{salt}-kinds-{basis}"),
        quantities=("confusion", "auroc"),
        title=f"Kinds in families that the classifier never saw, by {basis}",
        caption=f"n = {int(one['auroc'].attrs['n'])} samples. AUROC, one against the rest: {auroc}; "
        f"{one['auroc'].attrs['interval']}.",
        alt=f"Colour map of the share of each kind that is called each kind: "
        f"{extremes(one['confusion'], rows='kind', columns='called')}. AUROC: {auroc}.",
    )
