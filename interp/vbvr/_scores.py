"""What the evaluation kit said of an export's videos, kept with the runs that made them, floors beside."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
import xarray as xr
from scipy import stats

import store
from interp import provenance
from interp.errors import BadInput
from interp.vbvr import _kit, _plan
from interp.vbvr._kit import SCORE, Key, Said
from interp.vbvr._plan import PSEUDO, Video
from store import ResultRecord, Score, digest

SCORER: Final = "vbvr"
"""Name of the scorer in the view `scores`, and of the analysis in `results`."""
LEVEL: Final = 0.95
"""Coverage of intervals."""
_SCORER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Values = dict[str, float]
"""By metric: those of `_kit`, and the total of each pseudo-video of the same sample under its name in `PSEUDO`."""


class Mean(NamedTuple):
    """A mean over samples, and its 95 % Student t interval; NaN where one sample gives none."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if not self.n:
            return ""
        return f"{self.mean:.3f}" if math.isnan(self.low) else f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Row(NamedTuple):
    """One model and seed, with what solves nothing beside it, on the same samples."""

    model: str
    """Folder of the export."""
    score: Mean
    still: Mean
    noise: Mean
    jump: Mean
    truth: Mean
    above: Mean
    """Score minus the larger one of still and noise, sample by sample: what the video itself has earned."""


class Scored(NamedTuple):
    """What an import of scores did."""

    result_id: str | None
    """None where the store had all of them."""
    rows: tuple[Row, ...]
    new: int
    """Runs that have got scores now."""
    known: int
    """Runs that had the same ones."""
    failed: tuple[str, ...]
    """Videos that the kit could not score, with its reason; the 0.0 that it writes for them is not taken."""
    unnamed: int
    """Videos of the export that no file names: tasks that the kit has no evaluator for, or that it has not come to."""
    strangers: int
    """Entries of the files that are no video of the export."""


def bring(acts: store.ActivationStore, out: Path, *, results: Sequence[Path] = (), scorer: str = SCORER) -> Scored:
    """Read the kit's result files and keep their scores with the runs.

    They land in the view `scores`: the kit's total as metric `score`, its dimensions under their own names, and
    `still`, `noise`, `jump` and `truth`, the totals of these videos of the run's own sample. A result `vbvr` holds the
    table. Scores do not change: what is there is not brought in again, and what differs is refused.

    Args:
        acts: The store whose runs were exported.
        out: The export.
        results: Result files, or folders of them; `OUT/scores` if none is given.
        scorer: Name in the view `scores`; give each version of the kit a name of its own.

    Raises:
        BadInput: if a file cannot be read, names none of the videos, contradicts another or the store, or the store
            lacks the runs.
        StoreError: if the store cannot be written.
    """
    if not _SCORER.fullmatch(scorer):
        raise BadInput(f"the scorer {scorer[:80]!r} is no name: letters, digits, '.', '-' and '_', up to 64 of them")
    plan = _plan.read(out)
    files = _kit.files(results or [out / "scores"])
    said = _kit.read(files)
    videos = {video.key: video for video in plan.videos}
    strangers = [key for key in said if key not in videos]
    if len(strangers) == len(said):
        first = f", only others such as {'/'.join(strangers[0])}" if strangers else ""
        raise BadInput(
            f"{', '.join(map(str, files[:3]))} has no video of the export {out}{first}; give its own results"
        )
    values, samples = (
        _joined(plan.videos, said),
        {video.run_id: video.sample_id for video in plan.videos if video.run_id},
    )
    fresh = _fresh(acts, values, scorer)
    rows = tuple(_rows(plan.videos, values))
    result_id = _keep(acts, fresh, values, rows, samples, scorer) if fresh else None
    failed = tuple(f"{'/'.join(key)}: {one.error}" for key, one in said.items() if key in videos and not one.values)
    unnamed = len(videos.keys() - said.keys())
    return Scored(result_id, rows, len(fresh), len(values) - len(fresh), failed, unnamed, len(strangers))


def _joined(videos: Iterable[Video], said: Mapping[Key, Said]) -> dict[str, Values]:
    """Values by run, with the totals of the pseudo-videos on the same place."""
    found: dict[str, Values] = {}
    for video in videos:
        own = said.get(video.key)
        if video.run_id is None or own is None or not own.values:
            continue
        beside = {kind: said.get((folder, video.split, video.task, video.index)) for kind, folder in PSEUDO.items()}
        found[video.run_id] = own.values | {
            kind: one.values[SCORE] for kind, one in beside.items() if one and one.values
        }
    return found


def _fresh(acts: store.ActivationStore, values: Mapping[str, Values], scorer: str) -> dict[str, list[Score]]:
    """Scores that the store lacks, by run."""
    lost = [id for id in values if not acts.has_run(id)]
    if lost:
        raise BadInput(
            f"{acts.path} lacks {len(lost)} of the {len(values)} runs that were scored, such as {lost[0]}; "
            "give the store that was exported"
        )
    query = "SELECT run_id, metric, value FROM scores WHERE scorer = ? AND step IS NULL AND list_contains(?, run_id)"
    there = {(run, metric): value for run, metric, value in acts.sql(query, [scorer, list(values)]).fetchall()}
    fresh: dict[str, list[Score]] = {}
    for run, own in values.items():
        for metric, value in own.items():
            known = there.get((run, metric))
            if known is None:
                fresh.setdefault(run, []).append(Score(scorer=scorer, metric=metric, value=value))
            elif not math.isclose(known, value, abs_tol=1e-9):
                raise BadInput(
                    f"run {run} has {metric} {known:g} from {scorer} already, and these files say {value:g}; scores do "
                    "not change: keep these under a name of their own with --scorer"
                )
    return fresh


def _rows(videos: Sequence[Video], values: Mapping[str, Values]) -> Iterable[Row]:
    """One for each model's folder, in the order of names."""
    models: dict[str, list[Values]] = {}
    for video in videos:
        if video.run_id is not None and video.run_id in values:
            models.setdefault(video.folder, []).append(values[video.run_id])
    for model, own in sorted(models.items()):
        columns = {name: [one.get(name, math.nan) for one in own] for name in (SCORE, *PSEUDO)}
        above = np.array(columns[SCORE]) - np.maximum(columns["still"], columns["noise"])
        means = {name: _mean(column, least=0) for name, column in columns.items()}
        yield Row(model=model, **means, above=_mean(above, least=-1))


def _mean(values: Sequence[float] | np.ndarray, *, least: float) -> Mean:
    """Of values from `least` to 1, where the interval is cut; NaN is none."""
    known = np.array([value for value in values if not math.isnan(value)])
    n = len(known)
    if not n:
        return Mean(math.nan, math.nan, math.nan, 0)
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * stats.sem(known)) if n > 1 else math.nan
    mean = float(known.mean())
    low, high = np.clip([mean - half, mean + half], least, 1).tolist()
    return Mean(mean, low, high, n)


def _keep(
    acts: store.ActivationStore,
    fresh: Mapping[str, Sequence[Score]],
    values: Mapping[str, Values],
    rows: Sequence[Row],
    samples: Mapping[str, str],
    scorer: str,
) -> str:
    """Store what is new, and the table that it belongs to."""
    told = json.dumps({run: [score.canonical() for score in scores] for run, scores in sorted(fresh.items())})
    metrics = sorted({metric for own in values.values() for metric in own})
    record = ResultRecord(
        analysis=SCORER,
        params={"scorer": scorer, "scores": digest("scores", told)},
        run_ids=tuple(values),
        verdict="descriptive",
        finding="; ".join(map(sentence, rows)) + ".",
        n=len({samples[run] for run in values}),
        summary={row.model: {name: mean.mean for name, mean in _means(row) if mean.n} for row in rows},
    )
    table = [[own.get(metric, math.nan) for metric in metrics] for own in values.values()]
    coords = {"run": list(values), "metric": metrics, "sample_id": ("run", [samples[run] for run in values])}
    data = xr.Dataset({"value": (("run", "metric"), np.array(table))}, coords=coords)
    return acts.save_result(record, data, provenance.take(torch.device("cpu")), scores=fresh)


def _means(row: Row) -> list[tuple[str, Mean]]:
    return [(name, getattr(row, name)) for name in Row._fields[1:]]


def sentence(row: Row) -> str:
    """A row in words, with n and intervals, its floors beside it."""
    beside = ", ".join(f"{name} {mean.mean:.3f}" for name, mean in _means(row)[1:-1] if mean.n)
    above = f"; above the floors by {row.above}" if row.above.n else ""
    return f"{row.model} scores {row.score} (n = {row.score.n} samples; {beside or 'no floors were scored'}{above})"
