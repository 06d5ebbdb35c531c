"""The x̂0 trajectory (E1 of SCIENCE.md): how the model's guess of the clean video becomes the answer.

x̂0_s = x_s − σ_s·v is what the model would paint if it stopped at step s. Three readings of it by step:
its distance to the final one, its change since the step before, and the score that the world's own
scorer gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
import xarray as xr
from dask.base import compute
from dask.delayed import delayed

import store
from analyses._registry import Found, once, register
from analyses._result import Result
from analyses._select import Selection, arrays_of_all, select
from analyses._stats import bare, over_samples, per_sample
from analyses._steps import switches, with_steps
from analyses._words import counts, finite, some, triple, with_interval
from analyses._x0 import (
    ANSWER,
    METRIC,
    SOLVED,
    Scores,
    answer_commit,
    distance_commit,
    latent_path,
    of_run,
    pixel_path,
    score_table,
)
from analyses.errors import MixedRuns, NoRuns
from store import ActivationStore, Json, dims
from store.places import Location

VERSION: Final = 2
_NORM: Final = "fraction of the norm of the last x̂0"
_SCORE: Final = "0 = wrong, 1 = right"
_WORDS: Final[dict[str, tuple[str, str]]] = {
    "latent_distance": ("distance of x̂0 to the last one, in latents", _NORM),
    "latent_distance_by_frame": ("distance of x̂0 to the last one by latent frame", _NORM),
    "latent_change": ("change of x̂0 since the step before, in latents", _NORM),
    "pixel_distance": ("distance of the decoded x̂0 to the finished video", "fraction of the range of a pixel"),
    "score": ("score of the decoded x̂0", _SCORE),
    "final_score": ("score of the finished video", _SCORE),
    "answer_commit": ("step from which the right answer stays", "step"),
    "distance_commit": ("step from which x̂0 stays within half of its first distance", "step"),
}
"""Quantity → what it is, and its unit."""
COMMITS: Final = ("answer_commit", "distance_commit")
"""Quantities that are steps: their intervals end at the last one."""


@register
def trajectory(
    acts: ActivationStore,
    *,
    where: str | None = None,
    runs: Sequence[str] | None = None,
    scorer: str | None = None,
) -> Result:
    """Distance of x̂0 to the final answer, its change and its score by step, averaged over samples.

    Quantities (`q_low`, `q_high` beside each that has an interval over samples):

    - `latent_distance` [step]: ‖x̂0_s − x̂0_last‖ / ‖x̂0_last‖ over the whole latent video; with
      `latent_distance_by_frame` [step, frame], scaled so that its mean square over frames is the square
      of the former, and `latent_change` [step], ‖x̂0_s − x̂0_(s−1)‖ / ‖x̂0_last‖, NaN at the first.
    - `pixel_distance` [step]: mean absolute difference to the finished video, 1 = black against white.
    - `score` [metric, step]: what the scorer reads off the decoded x̂0.
    - `answer_commit` []: first step from which `answer` stays at that of the finished video, over runs
      that end right; `distance_commit` []: first step from which the latent distance stays below half
      of the first step's.
    - each of these as `…_by_run` [run, …], without interval; and `final_score_by_run` [metric, run].

    Pixels and scores are there only if every run has them. Verdict: always `descriptive`; that there are
    *many candidates* early (the claim of E1) needs the candidates' masks and is not tested here.

    Args:
        acts: The store; runs need `x0_hat/full` or `x0_hat/pixels`.
        where: SQL over runs and samples. Left out, and `runs` too, the clean runs are taken.
        runs: Run ids.
        scorer: Read this scorer's scores only; needed where two scorers gave a run the same metric.

    Raises:
        NoRuns: if no run holds an array of x̂0.
        MixedRuns: if the runs are of several conditions, or kept x̂0 at different steps.
        AmbiguousScores: if two scorers gave a run the same metric.
        NonFinite: if an x̂0 holds NaN or infinity.
    """
    chosen = select(acts, arrays=["x0_hat/full", "x0_hat/pixels"], where=where, runs=runs)
    return once(
        acts,
        analysis="trajectory",
        version=VERSION,
        params={"scorer": scorer},
        run_ids=chosen.run_ids,
        compute=lambda: _found(acts, chosen, scorer=scorer),
    )


def _found(acts: ActivationStore, chosen: Selection, *, scorer: str | None) -> Found:
    by_run = readings(acts, chosen, scorer=scorer)
    samples = len(set(chosen.sample_ids))
    last = int(by_run[dims.STEP][-1])
    arrays: dict[str, xr.DataArray] = {}
    for name, (long_name, units) in _WORDS.items():
        if name not in by_run:
            continue
        array = bare(by_run[name]).assign_attrs(long_name=long_name, units=units)
        arrays[f"{name}_by_run"] = array
        if name != "final_score":
            bounds = (0, 1) if name in ("score", "pixel_distance") else (0, last if name in COMMITS else np.inf)
            mean = per_sample(array).assign_attrs(array.attrs)
            arrays |= over_samples(name, mean, bounds=bounds)
    headline = "latent_distance" if "latent_distance" in arrays else "pixel_distance"
    steps = acts.run(chosen.run_ids[0]).steps
    data = with_steps(xr.Dataset(arrays), steps).assign_attrs(
        headline=headline, n=samples, runs=len(chosen.run_ids), switches=switches(steps), last_step=last
    )
    solved = _solved(data)
    return Found(
        data=data,
        finding=_sentence(data, chosen, solved=solved),
        n=samples,
        summary={
            "steps": chosen.template.settings.steps,
            "last_step": last,
            **_numbers(data, headline, at=0, key=f"{headline}_at_first_step"),
            **_numbers(data, "distance_commit"),
            **_numbers(data, "answer_commit"),
            "runs_that_end_right": solved,
        },
    )


def readings(acts: ActivationStore, chosen: Selection, *, scorer: str | None) -> xr.Dataset:
    """Every reading of every run: see `trajectory`, the quantities that end in `_by_run`."""
    runs = list(chosen.run_ids)
    held = arrays_of_all(acts, runs)
    kinds = ["full"] * ("x0_hat/full" in held) + ["pixels"] * ({"x0_hat/pixels", "output/pixels"} <= held)
    if not kinds:
        raise NoRuns(
            f"The {len(runs)} chosen runs have no array of x̂0 in common: some hold x0_hat/full, others x0_hat/pixels. "
            "Choose runs of one capture with where= or runs=."
        )
    parts = [_stacked(list(compute(*(delayed(_path)(acts.path, run, kind) for run in runs)))) for kind in kinds]
    distance = parts[0]["latent_distance" if "latent_distance" in parts[0] else "pixel_distance"]
    parts.append(distance_commit(distance).to_dataset(name="distance_commit"))
    rows = _score_rows(acts, runs, scorer)
    if bool(rows["step"].notna().any()):
        parts.append(_scored(score_table(rows)))
    return chosen.label(xr.merge(parts, join="outer", compat="no_conflicts"))


def _path(path: Location, run: str, kind: str) -> xr.Dataset:
    """Readings of one run, of its latent x̂0 (`full`) or of its `pixels`."""
    acts = store.open(path)
    x0 = of_run(acts, kind, run)
    if kind == "full":
        return latent_path(x0).reset_coords(drop=True)
    return pixel_path(x0, acts.load("output", "pixels", runs=[run], lazy=False)).reset_coords(drop=True)


def _stacked(paths: list[xr.Dataset]) -> xr.Dataset:
    try:
        return xr.concat(paths, dim=dims.RUN, join="exact")
    except xr.AlignmentError as error:
        raise MixedRuns(
            "The chosen runs kept x̂0 at different steps, which cannot be averaged: choose runs of one capture with "
            "where= or runs=."
        ) from error


def _scored(scores: Scores) -> xr.Dataset:
    found = xr.Dataset({"score": scores.by_step, "final_score": scores.final})
    if ANSWER in scores.by_step[METRIC]:
        answer, final = scores.by_step.sel(metric=ANSWER, drop=True), scores.final.sel(metric=ANSWER, drop=True)
        found = found.assign(answer_commit=answer_commit(answer, final))
    return found


def _score_rows(acts: ActivationStore, runs: list[str], scorer: str | None) -> pd.DataFrame:
    query = """
    SELECT run_id, scorer, metric, value, step FROM scores
    WHERE list_contains(?, run_id) AND (scorer = ? OR ? IS NULL) ORDER BY ALL
    """
    return acts.sql(query, [runs, scorer, scorer]).df()


def _solved(data: xr.Dataset) -> int | None:
    if "answer_commit" not in data:
        return None
    return int((data["final_score_by_run"].sel(metric=ANSWER) >= SOLVED).sum())


def _numbers(data: xr.Dataset, name: str, *, at: int | None = None, key: str | None = None) -> Json:
    if name not in data:
        return {}
    cell = data if at is None else data.isel(step=at)
    return {f"{key or name}{suffix}": finite(float(cell[f"{name}{suffix}"])) for suffix in ("", "_low", "_high")}


def _sentence(data: xr.Dataset, chosen: Selection, *, solved: int | None) -> str:
    steps = chosen.template.settings.steps
    half = triple(data, "distance_commit")
    text = (
        f"x̂0 stays within half of its first distance to the final one from step {with_interval(*half)} of {steps} on"
        if np.isfinite(half[0])
        else "x̂0 does not come nearer to the final one from step to step"
    )
    runs = len(chosen.run_ids)
    if solved:
        commit = triple(data, "answer_commit")
        settled = f"from step {with_interval(*commit)} on" if np.isfinite(commit[0]) else "in the finished video only"
        text += f"; the right answer, which {solved} of {some(runs, 'run')} reach, stays {settled}"
    elif solved == 0:
        text += f"; 0 of {some(runs, 'run')} end right, so no step of commitment to an answer is given"
    last = int(data.attrs["last_step"])
    short = "" if last == steps - 1 else f"; x̂0 was kept up to step {last} only, which stands for the final one"
    return f"{text}{short} ({counts(samples=len(set(chosen.sample_ids)), runs=runs)})."
