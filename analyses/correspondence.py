"""Temporal correspondence: do queries of the first frame find the same thing in later frames, where it truly went?

Every other measure of tracking in video models compares with the tracks of a second model. The worlds know theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from dask.base import compute as compute_all
from dask.delayed import delayed
from numpy.typing import NDArray
from scipy import stats
from threadpoolctl import threadpool_limits

from analyses._across import above_zero, chosen_by_others
from analyses._correspond import Truth, known_truths, measured, track
from analyses._matching import MAP, QK, Direction, Reads, Source, describe
from analyses._options import Numbers, Positive, Share
from analyses._probe_tables import FALSE_RATE, verdict
from analyses._registry import Found, once, register
from analyses._result import Result
from analyses._select import arrays_of_all, select
from analyses._stats import SAMPLE, bare, over_samples
from analyses._steps import switches, with_steps
from analyses._tracks import RADIUS
from analyses._words import counts, finite, percent, triple
from analyses.errors import NoRuns
from store import ActivationStore, Json, dims

VERSION: Final = 1
SHOWN: Final = "shown"
"""Axis of the samples whose tracks are kept to be drawn."""
MOST_SHOWN: Final = 4
BY: Final = "by"
"""Whose tracks: the mean over heads in its best cell, or the best head."""
THING: Final = "thing"
"""Axis of the things of a sample that move."""
CAPTURE: Final = (
    "Capture q/full and k/full of a few steps and layers, or pattern/map@queries=0:*:* for what the model attends to."
)
_PAIRS: Final = "tokens of things that have left their first place"
_WORDS: Final[dict[str, tuple[str, str, tuple[float, float]]]] = {
    "accuracy": (f"share of {_PAIRS} that are found within the radius", "share", (0, 1)),
    "chance": ("the same, if places had nothing to do with the sample", "share", (0, 1)),
    "gain": ("accuracy minus chance", "share", (-1, 1)),
    "error": (f"distance of {_PAIRS} from where they are found", "tokens", (0, np.inf)),
    "accuracy_by_frame": ("accuracy by latent frame", "share", (0, 1)),
    "accuracy_all": ("share found over all frames, those before a thing moves among them", "share", (0, 1)),
    "over_static": ("accuracy over all frames minus that of looking at the same place", "share", (-1, 1)),
    "over_colour": ("accuracy minus that of the nearest colour", "share", (-1, 1)),
    "head_accuracy": ("accuracy of each head by itself", "share", (0, 1)),
    "head_gain": ("accuracy of each head minus its chance", "share", (-1, 1)),
    "static": ("share found over all frames by looking at the same place", "share", (0, 1)),
    "colour": ("accuracy of the nearest colour in the finished video", "share", (0, 1)),
    "best_accuracy": ("accuracy of the mean or head, in the cell, that the other half chose", "share", (0, 1)),
}
"""Quantity → what it is, its unit, and what is possible."""
_JUDGED: Final = ("tracked", "gain_high")
_AXES: Final[dict[str, tuple[str, ...]]] = {
    "accuracy_by_frame": (dims.STEP, dims.LAYER, dims.FRAME),
    "head_accuracy": (dims.STEP, dims.LAYER, dims.HEAD),
    "head_gain": (dims.STEP, dims.LAYER, dims.HEAD),
    "static": (),
    "colour": (),
    "best_accuracy": (),
}
"""Axes of those that are not by step and layer."""


@register
def correspondence(
    acts: ActivationStore,
    *,
    where: str | None = None,
    runs: Sequence[str] | None = None,
    reads: Reads | None = None,
    direction: Direction = "from_first",
    branch: str = "cond",
    steps: Numbers | None = None,
    layers: Numbers | None = None,
    heads: Positive | None = None,
    process: Share = 0.5,
) -> Result:
    """Argmax tracks of softmax(Q_first · K_later / √d) against the world's true tracks, by step, layer and head.

    Only things that move are looked for, and the headline counts only the frames in which one has left its first place
    by more than a token: there, looking at the same place gets nothing right. `docs/analyses.md` lists the quantities.

    `q` and `k` are stored before rotary position embedding, so what is measured from them is what tokens hold, without
    the pull towards near places that the model adds to it; `reads="map"` measures attention as the model uses it.

    Verdict on *queries and keys track what moves*: `replicates` if the gain over chance (the share of *other* samples'
    targets at the place that was found) is above 0 in a cell, of the mean over heads or of a head, by one-sided t tests
    over samples at a false-discovery rate of 5 % over all of them; `does not replicate` if in none, and the interval of
    the gain ends below 0.1 in all; else `inconclusive`.

    Args:
        acts: The store; runs need `q/full` and `k/full`, or `pattern/map` of single tokens of the first frame.
        where: SQL over runs and samples. Left out, and `runs` too, the clean runs are taken.
        runs: Run ids.
        reads: `qk` or `map`; None takes what all runs hold, `qk` first.
        direction: `from_first`: queries of the first frame among keys of later ones, as in DiffTrack. `to_first`: the
            later token whose query looks most at the first frame's, which is how a model copies from a given picture.
        branch: `cond` or `uncond`.
        steps: None for all.
        layers: None for all.
        heads: Heads of the model, for captures that do not say.
        process: Runs whose finished video has a lower `process` score are left out, as it does not move along the
            track; runs without a score stay.

    Raises:
        NoRuns: no run holds what is needed, or none shows a thing that moves along a known track; or captures do not
            say how many heads there are, or lack a token of a thing.
        MixedRuns: runs are of several conditions.
        BadPlan: `heads` do not divide the channels, or `direction` needs other arrays.
        NonFinite: a value is NaN or infinite.

    Source: DiffTrack, arXiv 2506.17220.
    """
    wanted = [MAP] if reads == "map" else [QK[0]] if reads == "qk" else [QK[0], MAP]
    chosen = select(acts, arrays=wanted, where=where, runs=runs)
    held = arrays_of_all(acts, chosen.run_ids)
    reads = reads or ("qk" if held.issuperset(QK) else "map")
    if not held.issuperset(QK if reads == "qk" else [MAP]):
        raise NoRuns(
            f"The {len(chosen.run_ids)} chosen runs do not all hold {'q/full and k/full' if reads == 'qk' else MAP}; "
            f"they share {', '.join(sorted(held)) or 'no array'}. {CAPTURE}"
        )
    source = describe(
        acts,
        chosen.run_ids[0],
        reads=reads,
        direction=direction,
        branch=branch,
        steps=steps,
        layers=layers,
        heads=heads,
    )
    truths, told = known_truths(acts, chosen, source.grid, process)
    params: Json = {
        "reads": reads,
        "direction": direction,
        "branch": branch,
        "steps": [*source.steps],
        "layers": [*source.layers],
        "heads": heads,
        "process": process,
    }
    return once(
        acts,
        analysis="correspondence",
        version=VERSION,
        params=params,
        run_ids=sorted(run for truth in truths for run in truth.runs),
        compute=lambda: _found(acts, source, truths, told),
    )


def _found(acts: ActivationStore, source: Source, truths: Sequence[Truth], told: str) -> Found:
    tasks = [delayed(measured)(acts.path, source, truth) for truth in truths]
    with threadpool_limits(1, user_api="blas"):
        each: list[dict[str, NDArray[Any]]] = list(compute_all(*tasks))
    by_sample = {name: np.stack([one[name] for one in each]) for name in each[0]}
    gain, accuracy = (
        np.concatenate([by_sample[name].reshape(len(each), -1) for name in (kind, f"head_{kind}")], axis=1)
        for kind in ("gain", "accuracy")
    )  # the mean over heads first, then each head
    by_sample["best_accuracy"] = accuracy[np.arange(len(each)), chosen_by_others(gain)]
    labels: Mapping[str, Sequence[int]] = {
        dims.STEP: source.steps,
        dims.LAYER: source.layers,
        dims.HEAD: source.heads,
        dims.FRAME: range(source.grid[0]),
    }
    arrays: dict[str, xr.DataArray] = {}
    for name, (long_name, units, bounds) in _WORDS.items():
        axes = _AXES.get(name, (dims.STEP, dims.LAYER))
        values = by_sample[name]
        if values.size:
            array = xr.DataArray(values, dims=(SAMPLE, *axes), coords={axis: list(labels[axis]) for axis in axes})
            arrays |= over_samples(name, array.assign_attrs(long_name=long_name, units=units), bounds=bounds)
    arrays |= _tracked(gain, arrays)
    infos = acts.run(truths[0].runs[0]).steps
    data = with_steps(xr.Dataset(arrays), infos).assign_attrs(
        headline="accuracy",
        n=len(truths),
        runs=sum(len(truth.runs) for truth in truths),
        switches=switches(infos),
        reads=source.reads,
        direction=source.direction,
        sites=source.sites,
        radius=RADIUS,
        left_out=told,
        rows=source.grid[1],
        columns=source.grid[2],
    )
    data = data.assign(_shown(acts, data, truths[:MOST_SHOWN], source))
    names = ("", "head_") if "head_gain" in data else ("",)
    made = verdict(*(np.concatenate([data[f"{one}{end}"].to_numpy().ravel() for one in names]) for end in _JUDGED))
    return Found(data=data, finding=_sentence(data), n=len(truths), summary=_summary(data), verdict=made)


def _shown(acts: ActivationStore, data: xr.Dataset, truths: Sequence[Truth], source: Source) -> dict[str, xr.DataArray]:
    """Found and true tracks of a few samples, in the best cells of the mean and of a head; NaN where there are none."""
    kinds = [("mean", _best(data))] + ([("head", _best(data, "head_gain"))] if "head_gain" in data else [])
    size = (len(truths), max(len(truth.things) for truth in truths), source.grid[0], 2)
    found, true = np.full((len(kinds), *size), np.nan, np.float32), np.full(size, np.nan, np.float32)
    for at, truth in enumerate(truths):
        for kind, (name, cell) in enumerate(kinds):
            one = source._replace(steps=(int(cell[dims.STEP]),), layers=(int(cell[dims.LAYER]),))
            head = source.heads.index(int(cell[dims.HEAD])) if name == "head" else None
            found[kind, at, : len(truth.things)] = track(acts, one, truth, head)
        for number, thing in enumerate(truth.things):
            shows = thing.seen | (np.arange(source.grid[0]) == 0)
            true[at, number] = np.where(shows[:, None], thing.tokens.mean(axis=0) + thing.way, np.nan)
    coords = {
        SHOWN: [truth.sample_id for truth in truths],
        "shown_run": (SHOWN, [truth.runs[0] for truth in truths]),
        "coordinate": [dims.Y, dims.X],
    }
    by: dict[str, Any] = {BY: [name for name, _ in kinds], "by_head": (BY, [-1] * len(kinds))}
    for axis in (dims.STEP, dims.LAYER):
        by[f"by_{axis}"] = (BY, [int(cell[axis]) for _, cell in kinds])
    if len(kinds) > 1:
        by["by_head"] = (BY, [-1, int(kinds[1][1][dims.HEAD])])
    axes, units = (SHOWN, THING, dims.FRAME, "coordinate"), "tokens, the middle of the first token is 0"
    told = {"units": units, "long_name": "found track: median over a thing's tokens, in the best cell"}
    return {
        "track_by_sample": xr.DataArray(found, dims=(BY, *axes), coords=coords | by, attrs=told),
        "true_track_by_sample": xr.DataArray(
            true, dims=axes, coords=coords, attrs={"units": units, "long_name": "true track; NaN where it is not seen"}
        ),
    }


def _tracked(gain: NDArray[Any], arrays: Mapping[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Which cells are above chance, the mean over heads and each head judged together."""
    yes = (stats.false_discovery_control(above_zero(gain)) <= FALSE_RATE).astype(np.int8)
    found: dict[str, xr.DataArray] = {}
    attrs = {"long_name": "above chance, false-discovery rate 5 % over cells and heads", "units": "1 = yes"}
    for name, of in (("tracked", "gain"), ("head_tracked", "head_gain")):
        if of in arrays:
            own, yes = np.split(yes, [arrays[of].size])
            found[name] = bare(arrays[of].copy(data=own.reshape(arrays[of].shape))).assign_attrs(attrs)
    return found


def _best(data: xr.Dataset, gain: str = "gain") -> xr.Dataset:
    at = np.unravel_index(int(np.nanargmax(data[gain].to_numpy())), data[gain].shape)
    return data.isel({axis: int(place) for axis, place in zip(data[gain].dims, at, strict=True)})


def _sentence(data: xr.Dataset) -> str:
    best = _best(data)
    who = (
        "Queries of the first frame find" if data.attrs["direction"] == "from_first" else "Queries of later frames find"
    )
    head = "the cell that other samples chose "
    if "head_gain" in data:
        one = _best(data, "head_gain")
        head = (
            f"head {int(one[dims.HEAD])} of layer {int(one[dims.LAYER])} at step {int(one[dims.STEP])} "
            f"{percent(*triple(one, 'head_accuracy'))}, and the head or mean that other samples chose "
        )
    called = int(data["tracked"].sum()) + int(data.get("head_tracked", xr.DataArray(0)).sum())
    cells = data["tracked"].size + (data["head_tracked"].size if "head_tracked" in data else 0)
    return (
        f"{who} {percent(*triple(best, 'accuracy'))} of the tokens of things that have left their place at best (mean "
        f"over heads, step {int(best[dims.STEP])}, layer {int(best[dims.LAYER])}); {head}"
        f"{percent(*triple(data, 'best_accuracy'))}; chance of the mean is {100 * float(best['chance']):.0f} %, the "
        f"nearest colour finds {percent(*triple(data, 'colour'))}; {called} of {cells} cells and heads are above "
        f"chance, by {data.attrs['sites']} ({counts(samples=int(data.attrs['n']), runs=int(data.attrs['runs']))})."
    )


def _summary(data: xr.Dataset) -> Json:
    best = _best(data)
    found: Json = {
        "best_cell": {dims.STEP: int(best[dims.STEP]), dims.LAYER: int(best[dims.LAYER])},
        **{name: finite(float(best[name])) for name in ("accuracy", "chance", "error", "over_static", "over_colour")},
        **{name: finite(float(data[name])) for name in ("best_accuracy", "static", "colour")},
        "tracked_cells": int(data["tracked"].sum()),
        "cells": int(data["tracked"].size),
        "left_out": str(data.attrs["left_out"]),
    }
    if "head_gain" in data:
        head = _best(data, "head_gain")
        found["best_head"] = {axis: int(head[axis]) for axis in (dims.STEP, dims.LAYER, dims.HEAD)}
        found["best_head_accuracy"] = finite(float(head["head_accuracy"]))
        found["tracked_heads"] = int(data["head_tracked"].sum())
    return found
