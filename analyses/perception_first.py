"""Perception before action (E11 of SCIENCE.md): is *what* and *where* readable at earlier steps than *how*?

Both are read by linear probes. The step at which a curve reaches nine tenths of its largest value would compare how
noisy two probes are: a weak one touches its maximum late. What is compared is the mean step of the rise: the area
between a curve and its plateau, over the plateau's height. Noise adds to that area as often as it takes away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from analyses import _features, _object_truths, _probe_labels
from analyses._options import Folds, Numbers, Seed
from analyses._probe_grid import Cells, make_plan, measure
from analyses._probe_labels import Label, Samples
from analyses._probe_scores import SHARED_CLASS, SHARED_NUMBER
from analyses._probe_tables import LABEL
from analyses._registry import Found, Verdict, once, register
from analyses._result import Result
from analyses._select import Selection, arrays_of_all, select
from analyses._stats import LEVEL
from analyses._steps import switches, with_steps
from analyses._words import counts, finite, some, with_interval
from analyses.errors import NoRuns, UnknownProbeLabel
from store import ActivationStore, Json, StepInfo, dims

VERSION: Final = 2
GROUP: Final = "group"
GROUPS: Final = ("perception", "action")
PERCEPTION: Final = ("what.colour", "what.shape", "where.y", "where.x")
"""Of the object that moves: its looks, and its place in the first frame."""
ACTION: Final = ("how.y", "how.x")
"""Of the same object: where it gets to, from its first place to the farthest one."""
PLATEAU: Final = 1 / 3
"""Share of the captured steps, the last ones, over whose mean the plateau is taken."""
READABLE: Final = 3.0
"""Standard errors by which a plateau stands above chance at least; a lower one has no rise that could be dated."""
RESAMPLES: Final = 2000
MIN_SAMPLES: Final = 20
"""Samples below which there is no verdict."""
MIN_STEPS: Final = 4
_BOOTSTRAP: Final = "95 % bootstrap interval over samples, widened for folds that share samples"


class Curves(NamedTuple):
    """Scores of some labels by step, mean over layers."""

    gain: NDArray[np.float64]
    """Score minus chance `[label, step]`."""
    pull: NDArray[np.float64]
    """Influence of each sample `[label, step, sample]`."""
    shared: NDArray[np.float64]
    """Variance over that of independent samples `[label]`."""


class Rises(NamedTuple):
    """Gains and mean steps of their rise: the value, then those of the resamples, `[1 + resample, …]`."""

    gain: NDArray[np.float64]
    """`[…, label, step]`."""
    label: NDArray[np.float64]
    """`[…, label]`; NaN for a label that is not readable."""
    group: NDArray[np.float64]
    """`[…, group]`, mean over its readable labels."""

    @property
    def difference(self) -> NDArray[np.float64]:
        """Of perception minus of action `[…]`."""
        return self.group[..., 0] - self.group[..., 1]


@register
def perception_first(
    acts: ActivationStore,
    *,
    where: str | None = None,
    runs: Sequence[str] | None = None,
    perception: Sequence[str] | None = None,
    action: Sequence[str] | None = None,
    site: str = "resid_post",
    branch: str = "cond",
    layers: Numbers | None = None,
    folds: Folds = 5,
    seed: Seed = 0,
) -> Result:
    """Steps at which what and where become readable, against those at which the way does.

    Quantities: `gain` [label, step] (score minus chance, mean over layers), `rise_step` [label] (mean step of the
    rise), `group_rise_step` [group], `difference` [] (perception minus action, steps), all with bootstrap intervals;
    without: `plateau` [label], `readable` [label] (0 or 1), `plateau_step` [label] (first step at nine tenths of the
    plateau).

    Verdict on *perception before action*: `replicates` if the interval of `difference` lies below 0; `does not
    replicate` if it lies above minus one captured step; else `inconclusive`, also with fewer than 20 samples or where
    no label of a group is readable.

    Args:
        acts: The store; runs need the site with channels: `token_mean`, `frame_mean`, `full` or `project`.
        where: SQL over runs and samples. Left out, and `runs` too, the clean runs are taken.
        runs: Run ids.
        perception: Labels of what and where, by name as in `probes`; None takes the looks and the first place of the
            object that moves (`what.colour`, `what.shape`, `where.y`, `where.x`), from samples with tracks and one
            answer.
        action: Labels of the way; None takes where that object gets to (`how.y`, `how.x`).
        site: Where in the model, or `x0_hat`, `latent`, `velocity`.
        branch: `cond` or `uncond`.
        layers: Over which the mean is taken; None for all.
        folds: Of the probes.
        seed: Of the bootstrap.

    Raises:
        NoRuns: no run holds the site with channels, at four steps or more.
        MixedRuns: runs are of several conditions.
        UnknownProbeLabel: a named label cannot be told, or no label is left.
        NonFinite: a feature is NaN or infinite.
    """
    arrays = [f"{site}/{kind}" for kind in _features.POOLED]
    chosen = select(acts, arrays=arrays, where=where, runs=runs)
    asked = (perception, action)

    def compute() -> Found:
        samples = _probe_labels.read_samples(acts, tuple(sorted(set(chosen.sample_ids))))
        named, kept = _labels(acts, samples, asked, folds=folds)
        left = select(acts, arrays=arrays, runs=[run for run, of in zip(*chosen[:2], strict=True) if of in kept.ids])
        labels = [label for group in named for label in group]
        plan = make_plan(left, kept, labels, group="sample", folds=folds)
        kind = _features.pooled_reduction(arrays_of_all(acts, left.run_ids), site, by_frame=False)
        grid = _features.describe(acts, plan.runs[0], site=site, reduction=kind, branch=branch, layers=layers)
        if len(grid.labels[dims.STEP]) < MIN_STEPS:
            raise NoRuns(f"Runs keep {site} at {some(len(grid.labels[dims.STEP]), 'step')}; a rise needs {MIN_STEPS}.")
        curves = of_cells(measure(acts, grid, plan), labels)
        steps = np.array(grid.labels[dims.STEP])
        groups = np.repeat([0, 1], [len(group) for group in named])
        data = _dataset(curves, labels, groups, steps, seed=seed)
        return _found(data, left, steps=acts.run(plan.runs[0]).steps, name=f"{site} ({grid.branch or 'sampler'})")

    return once(
        acts,
        analysis="perception_first",
        version=VERSION,
        params={
            "perception": None if perception is None else [*perception],
            "action": None if action is None else [*action],
            "site": site,
            "branch": branch,
            "layers": None if layers is None else [*layers],
            "folds": folds,
            "seed": seed,
        },
        run_ids=chosen.run_ids,
        compute=compute,
    )


def of_cells(cells: Cells, labels: Sequence[Label]) -> Curves:
    """Curves from probes of every cell, `[step(, layer), label(, sample)]`."""
    score, pull = cells.score.astype(np.float64), cells.pull.astype(np.float64)
    if score.ndim == 3:
        score, pull = score.mean(axis=1), pull.mean(axis=1)
    chance = np.array([label.chance for label in labels])
    shared = np.array([SHARED_CLASS if label.classes else SHARED_NUMBER for label in labels])
    gain = score.T - chance[:, None]
    # An R² below 0 says no less than 0 that nothing is read: a probe of noise is a little worse than the mean.
    gain = np.where([[not label.classes] for label in labels], gain.clip(0), gain)
    return Curves(gain, np.moveaxis(pull, 0, 1), shared)


def mean_rise(gain: NDArray[np.float64], steps: NDArray[np.integer]) -> NDArray[np.float64]:
    """Mean step of the rise of curves `[…, step]`: where a curve that jumps to its plateau would jump, `[…]`."""
    missing = 1 - gain / plateau(gain)[..., None]
    return steps[0] + missing[..., :-1] @ np.diff(steps).astype(np.float64)


def plateau(gain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last steps, `[…]`."""
    return gain[..., -max(1, round(PLATEAU * gain.shape[-1])) :].mean(axis=-1)


def readable(curves: Curves) -> NDArray[np.bool_]:
    """Labels whose plateau stands above chance, `[label]`."""
    pull = np.moveaxis(curves.pull, -1, -2)  # [label, sample, step]
    error = np.sqrt(curves.shared / pull.shape[1]) * plateau(pull).std(axis=-1, ddof=1)
    return plateau(curves.gain) > READABLE * np.maximum(error, np.finfo(np.float64).eps)


def rises(
    curves: Curves, groups: NDArray[np.integer], steps: NDArray[np.integer], *, resamples: int, seed: int
) -> Rises:
    """Mean steps of rise, of the samples and of resamples of them: the same samples for all labels."""
    count, samples = len(groups), curves.pull.shape[-1]
    drawn = np.random.default_rng(seed).multinomial(samples, np.full(samples, 1 / samples), size=resamples) / samples
    moved = np.tensordot(drawn, curves.pull, axes=(1, 2)) * np.sqrt(curves.shared)[:, None]  # [resample, label, step]
    gain = np.concatenate([curves.gain[None], curves.gain + moved])
    told = readable(curves)
    each = np.full(gain.shape[:2], np.nan)
    each[:, told] = mean_rise(gain[:, told], steps)
    group = np.full((len(each), 2), np.nan)
    for at in (0, 1):
        own = [label for label in range(count) if groups[label] == at and np.isfinite(each[0, label])]
        if own:
            group[:, at] = each[:, own].mean(axis=1)
    return Rises(gain, each, group)


def interval(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Value, lower and upper end `[3, …]` of `[1 + resample, …]`; ends hold the value."""
    if values.shape[0] < 2:
        return np.stack([values[0], *[np.full_like(values[0], np.nan)] * 2])
    low, high = np.quantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return np.stack([values[0], np.minimum(low, values[0]), np.maximum(high, values[0])])


def judge(low: float, high: float, *, samples: int, step: float) -> Verdict:
    """The rule of `perception_first`; `step` is the smallest distance of captured steps."""
    if samples < MIN_SAMPLES or not np.isfinite(low):
        return "inconclusive"
    if high < 0:
        return "replicates"
    return "does not replicate" if low > -step else "inconclusive"


def _labels(
    acts: ActivationStore, samples: Samples, asked: tuple[Sequence[str] | None, Sequence[str] | None], *, folds: int
) -> tuple[list[list[Label]], Samples]:
    """Labels of both groups, and the samples that have them."""
    known = samples
    derived: dict[str, Label] = {}
    if any(names is None or set(names) & {*PERCEPTION, *ACTION} for names in asked):
        moving = _object_truths.read(acts, samples.ids, _object_truths.mover)
        single = {id for id in moving if acts.sample(id).record.answers <= 1}
        known = samples.kept([id in single for id in samples.ids])
        derived = _derived([moving[id] for id in known.ids])
    found: list[list[Label]] = []
    for group, names, usual in zip(GROUPS, asked, (PERCEPTION, ACTION), strict=True):
        told = [derived[name] for name in names or usual if name in derived]
        told = [label for label in told if not _probe_labels.unfit(label, folds)]
        others = [name for name in names or () if name not in {*PERCEPTION, *ACTION}]
        told += _probe_labels.choose(known, others, numbers=(), folds=folds) if others else []
        if not told:
            raise UnknownProbeLabel(
                f"No label of {group} can be told from {some(len(known.ids), 'sample')} with an object that moves and "
                f"one answer ({', '.join(names or usual)}): choose runs of worlds with tracks with where=, or name "
                f"labels with {group}=."
            )
        found.append(told)
    return found, known


def _derived(moving: Sequence[_object_truths.Object]) -> dict[str, Label]:
    """Labels of the objects that move."""
    found: dict[str, Label] = {}
    for look in _object_truths.LOOKS if moving else ():
        if all(look in one.looks for one in moving):
            classes, values = np.unique([one.looks[look] for one in moving], return_inverse=True)
            found[f"what.{look}"] = Label(f"what.{look}", values, tuple(str(one) for one in classes))
    for at, axis in enumerate("yx" if moving else ""):
        found[f"where.{axis}"] = Label(f"where.{axis}", np.array([one.track[0, at] for one in moving]), ())
        found[f"how.{axis}"] = Label(f"how.{axis}", np.array([one.way[at] for one in moving]), ())
    return found


def _dataset(
    curves: Curves, labels: Sequence[Label], groups: NDArray[np.integer], steps: NDArray[np.integer], *, seed: int
) -> xr.Dataset:
    found = rises(curves, groups, steps, resamples=RESAMPLES, seed=seed)
    samples = curves.pull.shape[-1]
    quantities = {
        "gain": ((LABEL, dims.STEP), found.gain, "score minus chance"),
        "rise_step": ((LABEL,), found.label, "mean step of the rise"),
        "group_rise_step": ((GROUP,), found.group, "mean step of the rise, mean over labels"),
        "difference": ((), found.difference, "mean step of the rise of perception minus that of action"),
    }
    data = xr.Dataset(coords={LABEL: [one.name for one in labels], GROUP: list(GROUPS), dims.STEP: steps})
    for name, (axes, values, words) in quantities.items():
        units = "accuracy, or R² of a number" if name == "gain" else "steps"
        attrs = {"long_name": words, "units": units, "n": samples, "interval": _BOOTSTRAP}
        for end, part in zip(("", "_low", "_high"), interval(values), strict=True):
            data[f"{name}{end}"] = (axes, part, attrs)
    level = plateau(curves.gain)
    reached = curves.gain >= 0.9 * level[:, None]
    first = np.where(reached.any(axis=1), steps[reached.argmax(axis=1)], np.nan)
    told = readable(curves)
    data["plateau"] = (LABEL, level, {"long_name": "mean gain over the last steps", "units": "accuracy, or R²"})
    data["readable"] = (
        LABEL,
        told.astype(np.int8),
        {"long_name": "the plateau stands above chance", "units": "1 = yes"},
    )
    words = "first step at nine tenths of the plateau"
    data["plateau_step"] = (LABEL, np.where(told, first, np.nan), {"long_name": words, "units": "step"})
    return data.assign_coords(of=(LABEL, [GROUPS[group] for group in groups]))


def _found(data: xr.Dataset, chosen: Selection, *, steps: Sequence[StepInfo], name: str) -> Found:
    samples = len(set(chosen.sample_ids))
    ends = [float(data[f"difference{end}"]) for end in ("", "_low", "_high")]
    spacing = float(np.diff(data[dims.STEP].to_numpy()).min())
    verdict = judge(ends[1], ends[2], samples=samples, step=spacing)
    data = with_steps(data, steps).assign_attrs(
        headline="rise_step", site=name, n=samples, runs=len(chosen.run_ids), switches=switches(steps)
    )
    behind = counts(samples=samples, runs=len(chosen.run_ids))
    if np.isfinite(ends[0]):
        each = [
            with_interval(*(float(data[f"group_rise_step{end}"][at]) for end in ("", "_low", "_high"))) for at in (0, 1)
        ]
        finding = (
            f"What and where rise at step {each[0]} in {name}, the way at step {each[1]}: a difference of "
            f"{with_interval(*ends)} steps ({behind})."
        )
    else:
        weak = [str(one) for one in data[LABEL].to_numpy()[data["readable"].to_numpy() == 0]]
        finding = f"Steps cannot be compared in {name}: {', '.join(weak)} cannot be read in the last steps ({behind})."
    summary: Json = {
        **{f"difference{end}": finite(value) for end, value in zip(("", "_low", "_high"), ends, strict=True)},
        **{
            f"{one}_rise_step": finite(float(data["rise_step"].sel({LABEL: one})))
            for one in data[LABEL].to_numpy().tolist()
        },
    }
    return Found(data=data, finding=finding, n=samples, summary=summary, verdict=verdict)
