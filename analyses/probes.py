"""Linear probes (SCIENCE.md, "Controls" and "Beyond the paper"): where in the network a truth becomes readable.

A probe is a linear map from the mean token of a cell (step × layer, and frame if asked) to a named truth of the sample.
What it scores means little alone: an expressive probe learns anything, and a truth that stands in the prompt needs no
network. So each score stands beside chance, a control task of labels drawn by lot, and the same probe on the latents
of that step and on the words of the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import xarray as xr

from analyses import _features, _probe_labels
from analyses._features import Grid
from analyses._options import Folds, Numbers
from analyses._probe_grid import Plan, latents, make_plan, measure, on
from analyses._probe_labels import CONTROLS, Label
from analyses._probe_tables import LABEL, TARGET, tables, verdict
from analyses._registry import Found, Verdict, once, register
from analyses._result import Result
from analyses._select import arrays_of_all, select
from analyses._steps import switches, with_steps
from analyses._words import counts, finite, percent, with_interval
from store import ActivationStore, Json, StepInfo, dims

VERSION: Final = 2


@register
def probes(
    acts: ActivationStore,
    *,
    where: str | None = None,
    runs: Sequence[str] | None = None,
    labels: str | Sequence[str] | None = None,
    site: str = "resid_post",
    reduction: str | None = None,
    branch: str = "cond",
    by_frame: bool = False,
    steps: Numbers | None = None,
    layers: Numbers | None = None,
    numbers: Sequence[str] = (),
    group: str = "sample",
    control: str = "prompt",
    folds: Folds = 5,
    directions: bool = True,
) -> Result:
    """Held-out scores of linear probes by label, step and layer, with controls and baselines.

    A score is accuracy (text, truth values, whole numbers of up to ten values) or R² (other numbers), over samples.
    Quantities (`q_low`, `q_high` beside each that has an interval): `score`, `selectivity` (score minus that of the
    control task), `gain` (score minus chance), `over_latent` and `over_prompt` (score minus that of the same probe
    there), all [label, step, layer(, frame)]; `latent_score` [label, step], `prompt_score` [label],
    `best_score` [label] (in the cell that the other half of the samples chose). Without interval: `control_score`,
    `decodable` (0 or 1), `penalty` [label, step, layer], `chance` [label], and for steering `direction` [target, step,
    layer, channel] (unit norm, raw channels, of the fit to all runs), `direction_scale` (deviation of the runs along
    it) and `direction_shift` (how far runs of the class, or with one unit more of the number, lie further along it).

    Folds hold whole samples. The penalty is chosen by nested folds (`analyses/_probe_fit.py`).

    Verdict, for each label: *replicates* if a cell is decodable, that is, above chance and above its control task by
    one-sided tests at a false-discovery rate of 5 % over all cells; *does not replicate* if none is and the gain's
    interval ends below 0.1 in all; else *inconclusive*. The verdict of several labels is theirs if they agree, and else
    *inconclusive*.

    Args:
        acts: The store; runs need the site with channels: `token_mean`, `frame_mean`, `full` or `project`.
        where: SQL over runs and samples. Left out, and `runs` too, the clean runs are taken.
        runs: Run ids.
        labels: Names of labels of the samples; `answers.0` is the first of a list. None takes all that are no lists.
        site: Where in the model, or `x0_hat`, `latent`, `velocity`.
        reduction: None takes the one that is cheapest to read; whole tokens are averaged.
        branch: `cond` or `uncond`, for sites that have branches.
        by_frame: Probe each latent frame for itself, not their mean.
        steps: None for all.
        layers: None for all.
        numbers: Labels that are numbers though they look like classes.
        group: What folds keep together: `sample`, a column (`family`, `prompt`, …) or a label.
        control: Class of input that shares a label drawn by lot: a column or label; the sample, if there are fewer
            than eight classes.
        folds: Outer folds, three or more; the inner ones are the others.
        directions: Whether directions are kept: 4 bytes a cell, target and channel.

    Raises:
        NoRuns: no run holds the site with channels.
        MixedRuns: runs are of several conditions.
        UnknownProbeLabel: a label is not there, or cannot be told.
        NonFinite: a feature is NaN or infinite.

    Source: Hewitt and Liang 2019 (control tasks, selectivity); Invisible Hand of Physics, arXiv 2606.05328.
    """
    kinds = _features.POOLED if reduction is None else (reduction,)
    chosen = select(acts, arrays=[f"{site}/{kind}" for kind in kinds], where=where, runs=runs)
    names = [labels] if isinstance(labels, str) else labels
    params: Json = {
        "labels": None if names is None else [*names],
        "site": site,
        "reduction": reduction,
        "branch": branch,
        "by_frame": by_frame,
        "steps": None if steps is None else [*steps],
        "layers": None if layers is None else [*layers],
        "numbers": [*numbers],
        "group": group,
        "control": control,
        "folds": folds,
        "directions": directions,
    }

    def compute() -> Found:
        ids = tuple(sorted(set(chosen.sample_ids)))
        samples = _probe_labels.read_samples(acts, ids)
        told = _probe_labels.choose(samples, names, numbers=numbers, folds=folds)
        drawn = tuple(tuple(_probe_labels.controls(samples, label, control)) for label in told)
        plan = make_plan(chosen, samples, told, drawn=drawn, group=group, folds=folds, directions=directions)
        held = arrays_of_all(acts, chosen.run_ids)
        kind = reduction or _features.pooled_reduction(held, site, by_frame=by_frame)
        grid = _features.describe(
            acts, plan.runs[0], site=site, reduction=kind, branch=branch, by_frame=by_frame, steps=steps, layers=layers
        )
        prompts = np.array(samples.columns["prompt"])[plan.rows]
        data = _dataset(
            tables(
                plan,
                grid,
                measure(acts, grid, plan),
                latent=latents(acts, plan, grid.labels[dims.STEP]) if "latent/full" in held else None,
                prompt=on(_features.words(prompts.tolist()), plan),
            ),
            plan,
            grid,
            acts.run(plan.runs[0]).steps,
        )
        inputs = len(set(_probe_labels.input_classes(samples, control)))
        return _found(
            data.assign_attrs(inputs=inputs, draws=CONTROLS), plan, name=f"{site} ({grid.branch or 'sampler'})"
        )

    return once(acts, analysis="probes", version=VERSION, params=params, run_ids=chosen.run_ids, compute=compute)


def _dataset(arrays: dict[str, xr.DataArray], plan: Plan, grid: Grid, steps: Sequence[StepInfo]) -> xr.Dataset:
    labels = plan.labels
    data = xr.Dataset(arrays).assign_coords({axis: list(values) for axis, values in grid.labels.items()})
    data = data.assign_coords(
        {
            LABEL: [label.name for label in labels],
            "kind": (LABEL, ["class" if label.classes else "number" for label in labels]),
        }
    )
    if plan.directions:
        targets = plan.targets()
        data = data.assign_coords(
            {
                TARGET: [f"{name}={told}" if told else name for name, told in targets],
                "of": (TARGET, [name for name, _ in targets]),
            }
        )
    verdicts = [
        verdict(data["decodable"][at].to_numpy(), data["gain_high"][at].to_numpy()) for at in range(len(labels))
    ]
    return with_steps(data.assign_coords(verdict=(LABEL, list(verdicts))), steps).assign_attrs(
        headline="score",
        site=grid.site,
        reduction=grid.reduction,
        n=len(set(plan.rows.tolist())),
        runs=len(plan.runs),
        folds=len(plan.design.edges) - 1,
        switches=switches(steps),
    )


def _found(data: xr.Dataset, plan: Plan, *, name: str) -> Found:
    samples = int(data.attrs["n"])
    verdicts: set[Verdict] = set(data["verdict"].to_numpy().tolist())
    told = [_words(data, at, label) for at, label in enumerate(plan.labels)]
    shown = "; ".join(told[:3]) + (f"; {len(told) - 3} more labels are in the table" if len(told) > 3 else "")
    return Found(
        data=data,
        finding=f"Linear probes of {name}: {shown} ({counts(samples=samples, runs=len(plan.runs))}).",
        n=samples,
        summary={label.name: _summary(data, at) for at, label in enumerate(plan.labels)},
        verdict=verdicts.pop() if len(verdicts) == 1 else "inconclusive",
    )


def _summary(data: xr.Dataset, at: int) -> Json:
    """Of one label: its best cell, what stands beside it there, and where it is decodable."""
    own = data.isel({LABEL: at})
    best = _best_cell(own)
    shown = ("score", "selectivity", "control_score", "over_prompt", "over_latent")
    yes = own["decodable"] > 0
    steps = yes.any([dim for dim in yes.dims if dim != dims.STEP])
    return {
        "verdict": str(own["verdict"].item()),
        "best_cell": {str(axis): int(best[axis]) for axis in own["decodable"].dims},
        **{
            key: finite(float(own[key]))
            for key in ("best_score", "best_score_low", "best_score_high", "chance", "prompt_score")
        },
        **{f"{key}_there": finite(float(best[key])) for key in shown if key in best},
        "latent_score_there": finite(float(best["latent_score"])) if "latent_score" in best else None,
        "decodable_cells": int(yes.sum()),
        "cells": int(yes.size),
        "first_decodable_step": int(steps[dims.STEP][steps.to_numpy()][0]) if bool(steps.any()) else None,
    }


def _best_cell(own: xr.Dataset) -> xr.Dataset:
    at = np.unravel_index(int(own["score"].to_numpy().argmax()), own["score"].shape)
    return own.isel({axis: int(place) for axis, place in zip(own["score"].dims, at, strict=True)})


def _words(data: xr.Dataset, at: int, label: Label) -> str:
    own = data.isel({LABEL: at})
    best = _best_cell(own)
    ends = [float(own[f"best_score{end}"]) for end in ("", "_low", "_high")]
    score = f"{percent(*ends)} right" if label.classes else f"R² {with_interval(*ends, digits=2)}"
    where = ", ".join(f"{axis} {int(best[axis])}" for axis in own["score"].dims)
    beside = [("chance", float(own["chance"])), ("labels drawn by lot", float(best["control_score"]))]
    beside.append(("the prompt's words", float(own["prompt_score"])))
    if "latent_score" in best:
        beside.append(("latents", float(best["latent_score"])))
    told = ", ".join(
        f"{what} {100 * value:.0f} %" if label.classes else f"{what} {value:.2f}" for what, value in beside
    )
    cells = own["decodable"]
    return (
        f"{label.name} is read best at {where}, {score} out of sample ({told}), and is decodable in "
        f"{int(cells.sum())} of {cells.size} cells"
    )
