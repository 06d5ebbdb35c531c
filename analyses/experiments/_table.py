"""Arms that differ in more than interventions: what each scored, sample by sample, and what it has cost.

Cost is counted in forwards: one evaluation of a denoiser for one video and one branch, so a guided step counts two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr

from analyses.errors import MixedRuns, NoRuns
from analyses.experiments import _paired
from analyses.experiments._outcomes import ARM, SAMPLE
from analyses.experiments._paired import Float
from store import ActivationStore, Json, Run

INTERVAL: Final = "95 % expanded percentile bootstrap over samples, the runs of a sample averaged first"
"""Of a mean that is no difference."""
_QUERY: Final = """
WITH chosen AS (SELECT run_id, record, seconds FROM runs LEFT JOIN samples USING (sample_id) WHERE {condition}),
cost AS (SELECT run_id, sum(CASE WHEN guidance > 1 THEN 2 ELSE 1 END) AS forwards FROM steps GROUP BY run_id),
told AS (SELECT run_id, avg(value) AS score FROM scores WHERE step IS NULL AND metric = ? GROUP BY run_id)
SELECT run_id, record, seconds, coalesce(forwards, 0), score
FROM chosen LEFT JOIN cost USING (run_id) LEFT JOIN told USING (run_id) ORDER BY run_id
"""


class Made(NamedTuple):
    """One stored run."""

    run: Run
    forwards: int
    """Its own, those of donors not counted."""
    seconds: float
    """As measured, with whatever it has captured; what its donors took is in it."""
    score: float
    """Of the finished video; NaN where nothing scored it."""

    @property
    def key(self) -> tuple[str, int]:
        """Sample and seed."""
        return self.run.sample_id, self.run.seed


class Stored(NamedTuple):
    """The runs of an experiment."""

    clean: tuple[Made, ...]
    """Those that others were made beside; of one condition."""
    others: tuple[Made, ...]

    @property
    def run_ids(self) -> list[str]:
        """Of all of them, sorted."""
        return sorted(one.run.id for one in (*self.clean, *self.others))


def stored(
    acts: ActivationStore,
    *,
    metric: str,
    belongs: Callable[[Run, Run], bool],
    runs: Sequence[str] | None,
    where: str | None,
) -> Stored:
    """The runs of an experiment: clean ones and those that belong to its arms, each generation once.

    Args:
        acts: The store.
        metric: The score to read.
        belongs: `(run, clean run) -> bool`: whether a run is of one of the arms.
        runs: Ids to choose from.
        where: SQL over `runs` and `samples`.

    Raises:
        NoRuns: if there are no runs of any arm with clean runs beside them.
        MixedRuns: if there are clean runs of several models or settings.
    """
    query = _QUERY.format(condition="TRUE" if where is None else f"({where}\n)")
    wanted = None if runs is None else set(runs)
    read = {
        str(id): Made(Run.model_validate_json(record), int(forwards), float(seconds), _number(score))
        for id, record, seconds, forwards, score in acts.sql(query, [metric]).fetchall()
        if wanted is None or id in wanted
    }
    children = [(one, read[one.run.parent_id]) for one in read.values() if one.run.parent_id in read]
    bases = {_condition(parent.run): parent for child, parent in children if belongs(child.run, parent.run)}
    if not bases:
        raise NoRuns(
            f"None of the {len(read)} runs belongs to this experiment with its clean run beside it; "
            "make them with `stepscope experiment`."
        )
    if len(bases) > 1:
        told = sorted(f"{one.run.model.id} with {one.run.settings.steps} steps" for one in bases.values())
        raise MixedRuns(f"There are clean runs of several models or settings ({'; '.join(told)}); choose with where=.")
    ((base, parent),) = bases.items()
    of_parents = {str(one.run.parent_id) for one in read.values()}
    ordered = sorted(read.values(), key=lambda one: one.run.id not in of_parents)  # parents first
    clean = [one for one in ordered if not one.run.interventions and _condition(one.run) == base]
    others = [one for one in ordered if belongs(one.run, parent.run) and _condition(one.run) != base]
    changed = [one for one in ordered if one.run.interventions and belongs(one.run, parent.run)]
    once = {(_condition(one.run), one.key): one for one in reversed(others) if not one.run.interventions}
    return Stored(tuple({one.key: one for one in reversed(clean)}.values()), (*once.values(), *changed))


def _condition(run: Run) -> str:
    return run.model.canonical() + run.settings.canonical()


def differs(run: Run, clean: Run, *, only: Sequence[str]) -> bool:
    """Whether a run has the same weights, nothing that changes it, and settings that differ in `only` these, or none.

    Other LoRAs are allowed only where `only` names `adapters`, and with them another guidance and prompt length.
    """
    may = {*only, *(("guidance", "max_sequence_length") if run.model.adapters != clean.model.adapters else ())}
    ours, theirs = run.settings.model_dump(), clean.settings.model_dump()
    return (
        not run.interventions
        and (run.model.weight_hash, run.model.dtype) == (clean.model.weight_hash, clean.model.dtype)
        and ("adapters" in only or run.model.adapters == clean.model.adapters)
        and all(theirs[name] == value for name, value in ours.items() if name not in may)
    )


class Entry(NamedTuple):
    """One outcome of an arm, measured or derived from several runs."""

    arm: Any
    """Labels, a named tuple of the experiment's kind."""
    sample: str
    score: float
    forwards: float
    """What it has cost, all runs and donors together."""
    seconds: float
    """The same; NaN where not measured."""


class Arms(NamedTuple):
    """Outcomes by arm and sample."""

    labels: tuple[Any, ...]
    samples: tuple[str, ...]
    """Ids, sorted."""
    score: Float
    """`[arm, sample]`, the runs of a sample averaged; NaN where an arm lacks a sample or its score."""
    forwards: Float
    """`[arm]`."""
    seconds: Float
    """`[arm]`."""

    def of(self, label: Any) -> Float:
        """Scores of one arm, `[sample]`; NaN everywhere where there is no such arm."""
        return self.score[self.labels.index(label)] if label in self.labels else np.full(len(self.samples), np.nan)


def gathered(entries: Iterable[Entry], *, order: Callable[[Any], Any]) -> Arms:
    """Entries as arrays.

    Args:
        entries: In any order.
        order: Sorts the arms.
    """
    each = list(entries)
    labels = tuple(sorted({one.arm for one in each}, key=order))
    samples = tuple(sorted({one.sample for one in each}))
    rows = {label: at for at, label in enumerate(labels)}
    columns = {sample: at for at, sample in enumerate(samples)}
    cells: dict[tuple[int, int], list[Entry]] = {}
    for one in each:
        cells.setdefault((rows[one.arm], columns[one.sample]), []).append(one)
    score, forwards, seconds = np.full((3, len(labels), len(samples)), np.nan)
    for cell, several in cells.items():
        score[cell] = mean(one.score for one in several)
        forwards[cell] = mean(one.forwards for one in several)
        seconds[cell] = mean(one.seconds for one in several)
    return Arms(labels, samples, score, np.array([*map(mean, forwards)]), np.array([*map(mean, seconds)]))


def mean(values: Iterable[float]) -> float:
    """Mean of the finite values; NaN where there is none."""
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def dataset(
    arms: Arms, reference: Any, *, against: str, untested: Callable[[Any], bool] = lambda label: False
) -> xr.Dataset:
    """Arms as a result holds them: scores, gains over a reference with intervals and tests, and cost.

    Args:
        arms: The outcomes.
        reference: Labels of the arm that every other is compared with.
        against: What it is, for `long_name`.
        untested: Arms whose gain is not tested, as they look at the scores.
    """
    gain = arms.score - arms.of(reference)
    told = {"score": (arms.score, "overall score"), "gain": (gain, f"score less that of {against}")}
    data: dict[str, Any] = {}
    for name, (values, long_name) in told.items():
        how = _paired.INTERVAL if name == "gain" else INTERVAL
        attrs = {"long_name": long_name, "units": "score", "n": len(arms.samples), "interval": how}
        ranges = [_paired.interval(row) for row in values]
        for part, suffix in (("mean", ""), ("low", "_low"), ("high", "_high")):
            data[name + suffix] = (ARM, [float(getattr(one, part)) for one in ranges], attrs)
        data[f"{name}_by_sample"] = ((ARM, SAMPLE), values, {"long_name": long_name, "units": "score"})
    left_out = [label == reference or untested(label) for label in arms.labels]
    p = np.array([np.nan if out else _paired.p_value(row) for row, out in zip(gain, left_out, strict=True)])
    data["effect_size"] = (ARM, [_paired.effect_size(row) for row in gain], {"long_name": "d_z of the gain"})
    data["p_value"] = (ARM, p, {"long_name": "p of no gain, by flipping signs"})
    data["p_adjusted"] = (ARM, _paired.holm(p), {"long_name": f"the same, {_paired.CORRECTION} over all arms"})
    data["forwards"] = (ARM, arms.forwards, {"long_name": "forwards for one video", "units": "forwards"})
    data["seconds"] = (ARM, arms.seconds, {"long_name": "time for one video, as measured", "units": "s"})
    fields = arms.labels[0]._fields
    columns: dict[str, Any] = {name: (ARM, [getattr(one, name) for one in arms.labels]) for name in fields}
    return xr.Dataset(data, coords={**columns, SAMPLE: list(arms.samples)}, attrs={"headline": "score"})


def tests(data: xr.Dataset) -> Json:
    """How many comparisons a dataset makes, how many of them are significant, and the correction."""
    corrected = data["p_adjusted"].to_numpy()
    count, significant = int(np.isfinite(corrected).sum()), int((corrected < 0.05).sum())
    return {"comparisons": count, "significant": significant, "correction": _paired.CORRECTION}


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
