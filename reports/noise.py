"""Draws a `noise` result: what is left of the score under noise at a step and at a frame, and by dose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr

from analyses import Result
from reports._figure import MUTED, SERIES, Figure, canvas, drawing, integer_steps, mark_switches, to_svg, whiskers
from reports._section import Context, Section, draws
from reports._words import behind, ends


class Curve(NamedTuple):
    """Arms that make one line."""

    label: str
    arms: xr.Dataset
    """Sorted along the horizontal axis."""


_QUANTITIES: Final = {
    "score": ("Score under noise at a step", "overall score"),
    "answer_change": ("Answers that change under noise at a step", "share of runs"),
}

_LABELS: Final = ("noise", "matched", "dose", "draw", "step", "frame", "until")


@draws("noise", place=3)
def section(result: Result, context: Context, salt: str) -> Section:
    """Curves by step with the switch of experts marked, by frame, and by dose; score, and how many answers change."""
    data = result.to_dataset().compute()
    clean = result.summary().get("clean_score")
    line = float(clean) if isinstance(clean, int | float) else None
    with drawing():
        figures = [
            _by_step(data, name, line if name == "score" else None, f"{salt}-{name}")
            for name in _QUANTITIES
            if np.isfinite(data[name]).any()
        ]
        if not figures:  # nobody scored these videos
            figures = [_by_step(data, "video_change", None, f"{salt}-video_change")]
        headline = "score" if np.isfinite(data["score"]).any() else "video_change"
        figures += _by_frame(data, headline, f"{salt}-frame") + _by_dose(data, headline, f"{salt}-dose")
    return Section(
        title="Noise at a step, and noise at a frame",
        lead=(
            "What is left of the answer when x_s is replaced by noise: all frames at one step, or one latent frame at "
            "many. Plain noise late in sampling is never removed, whatever the model does; matched noise keeps x̂0 and "
            "sigma, and only draws new noise of the same strength."
        ),
        films=(),
        figures=tuple(figures),
    )


def _by_step(data: xr.Dataset, name: str, clean: float | None, salt: str) -> Figure:
    title, axis = _QUANTITIES.get(name, ("How far videos change under noise at a step", "share of a pixel's range"))
    whole = _chosen(data, lambda one: one["noise"] == "step" and one["dose"] == 1)
    draws = sorted({int(draw) for draw in whole["draw"].to_numpy()})
    keys = {"plain": (False, 0), **{f"matched, draw {draw}": (True, draw) for draw in draws[: len(SERIES) - 1]}}
    curves = [Curve(word, _along(whole, "step", ("matched", "draw"), key)) for word, key in keys.items()]
    figure, axes, told = _lines(curves, name, "step")
    integer_steps(axes, np.unique(whole["step"].to_numpy()))
    switches = [int(step) for step in np.atleast_1d(data.attrs["switches"])]
    mark_switches(axes, switches)
    if clean is not None:
        axes.axhline(clean, color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
    axes.set_xlabel("noise put in at step")
    axes.set_ylabel(axis)
    switched = f" Dotted: another expert takes over at step {', '.join(map(str, switches))}." if switches else ""
    dashed = f" Dashed: clean, {clean:.2f}." if clean is not None else ""
    return Figure(
        svg=to_svg(figure, salt=salt),
        quantities=(name,),
        title=title,
        caption=f"{behind(data[name], mark='bar')}{dashed}{switched}",
        alt=f"Line chart. {'; '.join(told)}.{switched}",
    )


def _by_frame(data: xr.Dataset, name: str, salt: str) -> list[Figure]:
    frames = _chosen(data, lambda one: one["noise"] == "frame")
    if not frames.sizes["arm"]:
        return []
    last = max(int(until) for until in frames["until"].to_numpy())
    keys = sorted(set(zip(frames["matched"].to_numpy().tolist(), frames["until"].to_numpy().tolist(), strict=True)))
    words = {
        key: f"{'matched' if key[0] else 'plain'}, {'all steps' if key == (False, last) else f'to step {key[1]}'}"
        for key in keys
    }
    curves = [Curve(words[key], _along(frames, "frame", ("matched", "until"), key)) for key in keys]
    figure, axes, told = _lines(curves, name, "frame")
    integer_steps(axes, np.unique(frames["frame"].to_numpy()))
    axes.set_xlabel("latent frame with noise")
    axes.set_ylabel(str(data[name].attrs["long_name"]))
    return [
        Figure(
            svg=to_svg(figure, salt=salt),
            quantities=(name,),
            title="Noise in one latent frame",
            caption=f"{behind(data[name], mark='bar')} Noise at the last step is never removed, so that "
            "of all steps stands beside that of three quarters of them.",
            alt=f"Line chart. {'; '.join(told)}.",
        )
    ]


def _by_dose(data: xr.Dataset, name: str, salt: str) -> list[Figure]:
    """At the step where doses below 1 were tested."""
    partial = _chosen(data, lambda one: one["noise"] == "step" and one["dose"] < 1)
    if not partial.sizes["arm"]:
        return []
    step = int(partial["step"].to_numpy()[0])
    here = _chosen(data, lambda one: one["noise"] == "step" and one["step"] == step and one["draw"] == 0)
    curves = [Curve(word, _along(here, "dose", ("matched",), (word == "matched",))) for word in ("plain", "matched")]
    figure, axes, told = _lines(curves, name, "dose")
    axes.set_xlim(0, 1.04)
    axes.set_xlabel(f"dose, at step {step}")
    axes.set_ylabel(str(data[name].attrs["long_name"]))
    return [
        Figure(
            svg=to_svg(figure, salt=salt),
            quantities=(name,),
            title="By dose",
            caption=behind(data[name], mark="bar"),
            alt=f"Line chart. {'; '.join(told)}.",
        )
    ]


def _lines(curves: Sequence[Curve], name: str, along: str) -> tuple[Any, Any, list[str]]:
    """A figure with the curves that have arms, and each in words."""
    figure = canvas()
    axes = figure.subplots()
    there = [curve for curve in curves if curve.arms.sizes["arm"]]
    told: list[str] = []
    for color, (label, arms) in zip(SERIES, there, strict=False):
        mean, low, high = (arms[f"{name}{end}"].to_numpy() for end in ("", "_low", "_high"))
        whiskers(axes, arms[along].to_numpy(), mean, low, high, color=color, label=label)
        told.append(f"{label}: {ends(arms[name].swap_dims(arm=along), along)}")
    axes.set_ylim(-0.03, 1.05)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
    return figure, axes, told


def _chosen(data: xr.Dataset, wanted: Callable[[dict[str, Any]], bool]) -> xr.Dataset:
    """The arms whose labels are wanted."""
    columns = {name: data[name].to_numpy().tolist() for name in _LABELS}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return data.isel(arm=[at for at, one in enumerate(rows) if wanted(one)])


def _along(arms: xr.Dataset, axis: str, names: tuple[str, ...], key: tuple[Any, ...]) -> xr.Dataset:
    """The arms with these labels, in the order of an axis."""
    return _chosen(arms, lambda one: tuple(one[name] for name in names) == key).sortby(axis)
