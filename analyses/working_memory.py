"""Working memory (E11 of SCIENCE.md): is what and where a hidden object is readable while it is hidden?

For each latent frame a linear probe reads the object's looks and its place; what counts is its score in frames that
hide the object. A score alone is no memory: the prompt may name the object, and the model's own picture of that frame,
x̂0, may show it. So the same probe reads both, and only what goes beyond them counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from analyses import _features, _memory, _object_truths, _probe_labels
from analyses._memory import PLACE, Told
from analyses._options import Folds, Numbers, Positive
from analyses._probe_fit import Floats
from analyses._probe_labels import Label
from analyses._probe_scores import INTERVAL, above_chance, difference_interval, interval, positive
from analyses._probe_tables import FALSE_RATE, LABEL, RULED_OUT
from analyses._registry import Found, Verdict, once, register
from analyses._result import Result
from analyses._select import arrays_of_all, select
from analyses._steps import switches, with_steps
from analyses._words import counts, finite, percent, with_interval
from analyses.errors import NoRuns
from store import ActivationStore, Json, StepInfo, dims

VERSION: Final = 2
SEEN: Final = "seen"
"""Axis of frames that hide the object, and those that show it."""
STATES: Final = ("hidden", "visible")
MIN_HIDDEN: Final = 10
"""Samples whose object is hidden in some latent frame, at least; the same for a single frame's score."""
_UNITS: Final = "accuracy, or R² of the place"


class Scored(NamedTuple):
    """Scores of every cell, over the samples that have such frames."""

    value: NDArray[np.float64]
    """`[…, label]`"""
    pull: NDArray[np.float32]
    """Influence of each of these samples `[…, label, sample]`."""

    def minus(self, other: Scored) -> Scored:
        """The differences; the other lacks trailing axes of cells."""
        missing = self.value.ndim - other.value.ndim
        add = (slice(None),) * (other.value.ndim - 1) + (None,) * missing
        return Scored(self.value - other.value[add], self.pull - other.pull[add])


@register
def working_memory(
    acts: ActivationStore,
    *,
    where: str | None = None,
    runs: Sequence[str] | None = None,
    site: str = "resid_post",
    reduction: str | None = None,
    branch: str = "cond",
    steps: Numbers | None = None,
    layers: Numbers | None = None,
    cells: Positive = 4,
    folds: Folds = 5,
) -> Result:
    """Held-out scores of probes for the looks and the place of the object that is hidden longest, by step and layer.

    A score is accuracy (`colour`, `shape`) or R² (`place`, both coordinates, against the mean place of the frame).
    Quantities with intervals over samples: `score` [seen, label, step, layer]; `frame_score`
    [label, step, layer, frame] (in frames that hide the object, NaN where fewer than 10 samples do); in hidden frames
    `picture_score` [label, step], `over_picture`, `prompt_score` [label], `over_prompt` [label, step, layer]. Without:
    `chance` [seen, label], `remembered` [label, step, layer] (0 or 1), `hidden_samples` [frame].

    Verdict, for each label: *replicates* if it is remembered in some cell, that is, in hidden frames above chance,
    above the prompt and above x̂0 of the same frame, by one-sided tests at a false-discovery rate of 5 % over all cells;
    *does not replicate* if in none and the interval of the score ends less than 0.1 above chance in all; else
    *inconclusive*. Together: *replicates* if looks (one of them) and place do, *does not replicate* if none does, else
    *inconclusive*.

    Args:
        acts: The store; runs need the site with channels and frames: `frame_mean`, `full` or `project`; `x0_hat/full`
            for the comparison with the picture.
        where: SQL over runs and samples. Left out, and `runs` too, the clean runs are taken.
        runs: Run ids. Of them those count whose sample carries tracks and a segmentation with a hidden object.
        site: Where in the model, with layers.
        reduction: None takes whole tokens (`project`, then `full`) where there are any, else `frame_mean`.
        branch: `cond` or `uncond`.
        steps: None for all.
        layers: None for all.
        cells: Whole tokens are averaged in so many cells a side, so that places can be told; 1 is the mean of a frame.
        folds: Outer folds, three or more.

    Raises:
        NoRuns: no run holds the site, or fewer than 10 samples hide an object.
        MixedRuns: runs are of several conditions.
        NonFinite: a feature is NaN or infinite.
    """
    kinds = ("project", "full", "frame_mean") if reduction is None else (reduction,)
    chosen = select(acts, arrays=[f"{site}/{kind}" for kind in kinds], where=where, runs=runs)

    def compute() -> Found:
        ids = tuple(sorted(set(chosen.sample_ids)))
        hiding = _object_truths.read(acts, ids, _object_truths.hidden_one)
        _enough(len(hiding), len(ids))
        left = select(
            acts,
            arrays=[f"{site}/{kind}" for kind in kinds],
            runs=[run for run, of in zip(chosen.run_ids, chosen.sample_ids, strict=True) if of in hiding],
        )
        held = arrays_of_all(acts, left.run_ids)
        kind = next((one for one in kinds if f"{site}/{one}" in held), None)
        if kind is None:
            raise NoRuns(f"The chosen runs have no {site} with frames in common ({', '.join(kinds)}); capture one.")
        grid = _features.describe(
            acts,
            left.run_ids[0],
            site=site,
            reduction=kind,
            branch=branch,
            by_frame=True,
            steps=steps,
            layers=layers,
            side=cells,
        )
        told = _memory.known_of(list(hiding.values()), len(grid.labels[dims.FRAME]), folds=folds)
        _enough(int(told.hidden.any(axis=1).sum()), len(ids))
        samples = _probe_labels.read_samples(acts, tuple(hiding))
        plan = _memory.make_plan(left, samples, told, folds=folds)
        own_steps = grid.labels[dims.STEP]
        data = tables(
            _memory.of_cells(acts, grid, plan),
            told,
            picture=_memory.of_picture(acts, own_steps, plan) if "x0_hat/full" in held else None,
            words=_memory.on_words([samples.columns["prompt"][at] for at in plan.rows], plan),
        ).assign_coords({axis: list(values) for axis, values in grid.labels.items()})
        return _found(
            data.assign_attrs(reduction=kind, n=len(hiding), runs=len(left.run_ids)),
            steps=acts.run(left.run_ids[0]).steps,
            name=f"{site} ({grid.branch or 'sampler'})",
        )

    return once(
        acts,
        analysis="working_memory",
        version=VERSION,
        params={
            "site": site,
            "reduction": reduction,
            "branch": branch,
            "steps": None if steps is None else [*steps],
            "layers": None if layers is None else [*layers],
            "cells": cells,
            "folds": folds,
        },
        run_ids=chosen.run_ids,
        compute=compute,
    )


def tables(loss: Floats, told: Told, *, picture: Floats | None, words: Floats) -> xr.Dataset:
    """Every quantity, from losses.

    Args:
        loss: Of the cells `[step, layer, F, k, s]`.
        told: What is known of the objects.
        picture: Of x̂0 `[step, F, k, s]`.
        words: Of the prompts `[F, k, s]`.
    """
    cells = (LABEL, dims.STEP, dims.LAYER)
    hidden, labels = _score(loss, told, told.hidden), _labels(told, told.hidden)
    by_state = [(hidden, labels), (_score(loss, told, ~told.hidden), _labels(told, ~told.hidden))]
    prompt = _score(words, told, told.hidden)
    found: dict[str, xr.DataArray] = {}
    each = [_table("score", one, own, cells, "held-out score of the probe", interval) for one, own in by_state]
    for name in each[0]:
        found[name] = xr.concat([one[name] for one in each], xr.Variable(SEEN, list(STATES)), combine_attrs="override")
    found |= _table("prompt_score", prompt, labels, (LABEL,), "score of the same probe on the prompt's words", interval)
    against = [hidden.minus(prompt)]
    found |= _table("over_prompt", against[0], labels, cells, "score minus that on the prompt's words")
    if picture is not None:
        shown = _score(picture, told, told.hidden)
        said = "score of the same probe on x̂0 of the frame"
        found |= _table("picture_score", shown, labels, cells[:2], said, interval)
        against.append(hidden.minus(shown))
        found |= _table("over_picture", against[1], labels, cells, "score minus that on x̂0 of the frame")
    found |= _by_frame(loss, told)
    data = xr.Dataset(found).assign_coords({LABEL: list(told.names)})
    chance = np.array([[one.chance for one in own] for _, own in by_state])
    data["chance"] = ((SEEN, LABEL), chance, {"long_name": "share of the most frequent class, 0 for a place"})
    marked = _remembered(hidden, against, labels)
    data["remembered"] = (
        cells,
        marked,
        {"long_name": "above chance, the prompt and x̂0, while hidden", "units": "1 = yes"},
    )
    count = told.hidden.sum(axis=0)
    data["hidden_samples"] = ((dims.FRAME,), count, {"long_name": "samples whose object the frame hides"})
    high = data["score_high"].sel({SEEN: "hidden"}) - data["chance"].sel({SEEN: "hidden"})
    verdicts = [_verdict(marked[at], high[at].to_numpy()) for at in range(len(labels))]
    return data.assign_coords(verdict=(LABEL, list(verdicts)))


def _score(loss: Floats, told: Told, shown: NDArray[np.bool_]) -> Scored:
    """Scores of cells `[…]` from losses `[…, F, k, s]`."""
    cells, there = loss.shape[:-3], shown.any(axis=1)
    value = np.empty((*cells, len(told.names)))
    pull = np.empty((*value.shape, int(there.sum())), np.float32)
    for cell in np.ndindex(cells):
        for at, one in enumerate(_memory.judged(loss[cell], told, shown)):
            value[(*cell, at)], pull[(*cell, at)] = one.value, one.influence[there]
    return Scored(value, pull)


def _labels(told: Told, shown: NDArray[np.bool_]) -> list[Label]:
    """What is told, of the samples that have such frames."""
    there = shown.any(axis=1)
    looks = [Label(one.name, one.values[there], one.classes) for one in told.labels]
    return [*looks, Label(PLACE, told.place[there, 0, 0], ())]


def _table(
    name: str,
    scores: Scored,
    labels: Sequence[Label],
    axes: tuple[str, ...],
    words: str,
    ends: Any = difference_interval,
) -> dict[str, xr.DataArray]:
    value, pull = np.moveaxis(scores.value, -1, 0), np.moveaxis(scores.pull, -2, 0)
    both = np.stack([ends(value[at], pull[at], label) for at, label in enumerate(labels)], axis=1)
    attrs = {"long_name": words, "units": _UNITS, "n": pull.shape[-1], "interval": INTERVAL}
    parts = {name: value, f"{name}_low": both[0], f"{name}_high": both[1]}
    return {key: xr.DataArray(part, dims=axes, attrs=attrs) for key, part in parts.items()}


def _by_frame(loss: Floats, told: Told) -> dict[str, xr.DataArray]:
    """Scores in single frames, over the samples that hide their object there."""
    axes = (LABEL, dims.STEP, dims.LAYER)
    parts: list[dict[str, xr.DataArray]] = []
    for frame in range(loss.shape[-3]):
        only = np.zeros_like(told.hidden)
        only[:, frame] = told.hidden[:, frame]
        enough = only.sum() >= MIN_HIDDEN
        shown = only if enough else told.hidden
        table = _table(
            "frame_score", _score(loss, told, shown), _labels(told, shown), axes, "score in the frame", interval
        )
        parts.append(table if enough else {name: xr.full_like(one, np.nan) for name, one in table.items()})
    return {
        name: xr.concat([one[name] for one in parts], dims.FRAME, combine_attrs="override").transpose(*axes, dims.FRAME)
        for name in parts[0]
    }


def _remembered(hidden: Scored, against: Sequence[Scored], labels: Sequence[Label]) -> NDArray[np.int8]:
    """Cells `[label, step, layer]` above chance and all that needs no memory, at `FALSE_RATE` over those of a label."""
    each = [p_values(hidden, against, label, at) for at, label in enumerate(labels)]
    told = [(stats.false_discovery_control(p.ravel()) <= FALSE_RATE).reshape(p.shape) for p in each]
    return np.stack(told).astype(np.int8)


def p_values(hidden: Scored, against: Sequence[Scored], label: Label, at: int) -> NDArray[np.float64]:
    """Of each cell `[step, layer]`, one-sided: label number `at` is told no better than by chance or without memory."""
    p = above_chance(hidden.value[..., at], hidden.pull[..., at, :], label)
    for one in against:
        p = np.maximum(p, positive(one.value[..., at], one.pull[..., at, :], label))
    return np.nan_to_num(p, nan=1)


def _verdict(remembered: NDArray[np.int8], high: NDArray[np.float64]) -> Verdict:
    if remembered.any():
        return "replicates"
    return "does not replicate" if (high < RULED_OUT).all() else "inconclusive"


def together(verdicts: dict[str, Verdict]) -> Verdict:
    """The verdict of looks and place, by the rule that `working_memory` states."""
    looks = [one for name, one in verdicts.items() if name != PLACE]
    if "replicates" in looks and verdicts[PLACE] == "replicates":
        return "replicates"
    none = all(one == "does not replicate" for one in verdicts.values())
    return "does not replicate" if none and looks else "inconclusive"


def _enough(hiding: int, samples: int) -> None:
    if hiding < MIN_HIDDEN:
        raise NoRuns(
            f"{hiding} of {samples} samples have tracks and a segmentation that show an object hidden for most of a "
            f"latent frame; {MIN_HIDDEN} are needed. Capture samples of the worlds occlusion or hide, or choose them "
            "with where=."
        )


def _found(data: xr.Dataset, *, steps: Sequence[StepInfo], name: str) -> Found:
    verdicts: dict[str, Verdict] = {str(one[LABEL].item()): one.item() for one in data["verdict"]}
    data = with_steps(data, steps).assign_attrs(headline="score", site=name, switches=switches(steps))
    n, runs = int(data.attrs["n"]), int(data.attrs["runs"])
    told = "; ".join(_words(data.sel({LABEL: one}), one) for one in verdicts)
    summary: Json = {one: _summary(data.sel({LABEL: one})) for one in verdicts}
    finding = f"While it is hidden, of an object in {name}: {told} ({counts(samples=n, runs=runs)})."
    return Found(data=data, finding=finding, n=n, summary=summary, verdict=together(verdicts))


def _best(own: xr.Dataset) -> xr.Dataset:
    """The cell of the highest score while hidden."""
    score = own["score"].sel({SEEN: "hidden"})
    at = np.unravel_index(int(np.nan_to_num(score.to_numpy(), nan=-np.inf).argmax()), score.shape)
    cell = {axis: int(place) for axis, place in zip(score.dims, at, strict=True)}
    return own.sel({SEEN: "hidden"}).isel(cell)


def _words(own: xr.Dataset, label: str) -> str:
    best = _best(own)
    ends = [float(best[f"score{end}"]) for end in ("", "_low", "_high")]
    score = f"R² {with_interval(*ends, digits=2)}" if label == PLACE else percent(*ends)
    beside = [("chance", float(best["chance"])), ("prompt", float(best["prompt_score"]))]
    if "picture_score" in best:
        beside.append(("x̂0 of the frame", float(best["picture_score"])))
    others = ", ".join(
        f"{what} {value:.2f}" if label == PLACE else f"{what} {100 * value:.0f} %" for what, value in beside
    )
    cells = own["remembered"]
    return (
        f"{label} is read best at step {int(best[dims.STEP])}, layer {int(best[dims.LAYER])}, {score} ({others}), and "
        f"remembered in {int(cells.sum())} of {cells.size} cells"
    )


def _summary(own: xr.Dataset) -> Json:
    best = _best(own)
    names = (
        "score",
        "score_low",
        "score_high",
        "chance",
        "prompt_score",
        "picture_score",
        "over_picture",
        "over_prompt",
    )
    return {
        "verdict": str(own["verdict"].item()),
        "best_step": int(best[dims.STEP]),
        "best_layer": int(best[dims.LAYER]),
        **{f"{key}_there": finite(float(best[key])) for key in names if key in best},
        "remembered_cells": int(own["remembered"].sum()),
        "cells": int(own["remembered"].size),
    }
