"""Which runs an analysis averages: one condition, each generation once."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import xarray as xr

from analyses.errors import MixedRuns, NoRuns
from store import ActivationStore, Run, dims

_RECORDS: Final = """
SELECT r.run_id, r.record
FROM runs AS r LEFT JOIN samples AS s USING (sample_id)
WHERE r.run_id IN (SELECT run_id FROM arrays WHERE list_contains(?, site || '/' || reduction)) {and_where}
ORDER BY r.run_id
"""


class Selection(NamedTuple):
    """Runs of one condition: same weights, settings and interventions; samples and seeds vary."""

    run_ids: tuple[str, ...]
    """Sorted; each (sample, seed) once."""
    sample_ids: tuple[str, ...]
    """Of each run."""
    seeds: tuple[int, ...]
    """Of each run."""
    template: Run
    """Any of the runs, for what they share."""

    def by_sample(self) -> dict[str, list[str]]:
        """The runs of each sample, both sorted."""
        groups: dict[str, list[str]] = {sample: [] for sample in sorted(self.sample_ids)}
        for run_id, sample in zip(self.run_ids, self.sample_ids, strict=True):
            groups[sample].append(run_id)
        return groups

    def label(self, data: xr.Dataset) -> xr.Dataset:
        """`data` with these runs along `run`, in this order, and their `sample_id` and `seed` as coordinates."""
        ordered = data.reindex({dims.RUN: list(self.run_ids)})
        return ordered.assign_coords(sample_id=(dims.RUN, list(self.sample_ids)), seed=(dims.RUN, list(self.seeds)))


def select(
    acts: ActivationStore,
    *,
    arrays: Sequence[str],
    where: str | None = None,
    runs: Sequence[str] | None = None,
) -> Selection:
    """Choose the runs of one condition that hold an array.

    Args:
        acts: The store.
        arrays: `site/reduction` names; a run needs one of them.
        where: SQL over the `runs` view joined with `samples`. None, with `runs` None as well, takes the
            clean runs: those without interventions.
        runs: Run ids to choose from.

    Returns:
        The runs. Where a (sample, seed) was captured more than once, the first run id stands for it.

    Raises:
        NoRuns: if nothing is left.
        MixedRuns: if runs differ in weights, settings or interventions.
    """
    rows = _rows(acts, arrays=arrays, where=where)
    if runs is not None:
        rows = _named(rows, runs, arrays)
    elif where is None:
        rows = {run_id: run for run_id, run in rows.items() if not run.interventions}
    if not rows:
        raise NoRuns(_nothing(acts, arrays=arrays, where=where))
    _one_condition(rows)
    once: dict[tuple[str, int], str] = {}
    for run_id, run in rows.items():
        once.setdefault((run.sample_id, run.seed), run_id)
    run_ids = sorted(once.values())
    return Selection(
        run_ids=tuple(run_ids),
        sample_ids=tuple(rows[run_id].sample_id for run_id in run_ids),
        seeds=tuple(rows[run_id].seed for run_id in run_ids),
        template=rows[run_ids[0]],
    )


def conditions(acts: ActivationStore, *, arrays: Sequence[str], where: str) -> list[Selection]:
    """The runs that answer `where`, parted by weights, settings and interventions; in the order of their first runs.

    Raises:
        NoRuns: none does and holds one of the arrays.
    """
    rows = _rows(acts, arrays=arrays, where=where)
    if not rows:
        raise NoRuns(_nothing(acts, arrays=arrays, where=where))
    return _parted(acts, rows, arrays)


def _parted(acts: ActivationStore, rows: dict[str, Run], arrays: Sequence[str]) -> list[Selection]:
    """By weights, settings and interventions."""
    groups: dict[str, list[str]] = {}
    for run_id, run in rows.items():
        groups.setdefault(json.dumps(_condition(run), sort_keys=True), []).append(run_id)
    return [select(acts, arrays=arrays, runs=run_ids) for run_ids in groups.values()]


def changed(acts: ActivationStore, *, arrays: Sequence[str]) -> list[tuple[str, ...]]:
    """Run ids of the changed runs that hold one of `arrays`, parted by what was changed: each can be analysed alone."""
    rows = {run_id: run for run_id, run in _rows(acts, arrays=arrays, where=None).items() if run.interventions}
    return [selection.run_ids for selection in _parted(acts, rows, arrays)]


def parted(acts: ActivationStore, *, arrays: Sequence[str], runs: Sequence[str]) -> list[tuple[str, ...]]:
    """Ids of those of `runs` that hold one of `arrays`, parted by weights, settings and interventions.

    Clean ones come first, then changed ones by what was changed. Where no run holds one, there is no part.
    """
    wanted = set(runs)
    rows = {run_id: run for run_id, run in _rows(acts, arrays=arrays, where=None).items() if run_id in wanted}
    found = _parted(acts, rows, arrays)
    return [one.run_ids for one in sorted(found, key=_in_order)]


def _in_order(one: Selection) -> tuple[list[str], int, int, tuple[str, ...]]:
    """By interventions as text with numbers in their order, then by steps and frames."""
    told = [
        re.sub(r"\d+", lambda digits: digits.group().zfill(9), json.dumps(change, sort_keys=True))
        for change in one.template.interventions
    ]
    return told, one.template.settings.steps, one.template.settings.frames, one.run_ids


def arrays_of_all(acts: ActivationStore, run_ids: Sequence[str]) -> set[str]:
    """`site/reduction` of every array that all of these runs hold."""
    query = """
    SELECT site || '/' || reduction FROM arrays WHERE list_contains(?, run_id)
    GROUP BY ALL HAVING count(DISTINCT run_id) = ?
    """
    return {row[0] for row in acts.sql(query, [list(run_ids), len(run_ids)]).fetchall()}


def _rows(acts: ActivationStore, *, arrays: Sequence[str], where: str | None) -> dict[str, Run]:
    query = _RECORDS.format(and_where="" if where is None else f"AND ({where}\n)")
    return {run_id: Run.model_validate_json(record) for run_id, record in acts.sql(query, [list(arrays)]).fetchall()}


def _named(rows: dict[str, Run], runs: Sequence[str], arrays: Sequence[str]) -> dict[str, Run]:
    missing = sorted(set(runs) - set(rows))
    if missing:
        raise NoRuns(f"No run {', '.join(missing)} with {' or '.join(arrays)} is stored; see `stepscope store ls`.")
    return {run_id: rows[run_id] for run_id in sorted(set(runs))}


def _one_condition(rows: dict[str, Run]) -> None:
    conditions = {run_id: _condition(run) for run_id, run in rows.items()}
    first_id, first = next(iter(conditions.items()))
    for run_id, condition in conditions.items():
        differing = [field for field, value in condition.items() if value != first[field]]
        if differing:
            field = differing[0]
            raise MixedRuns(
                f"Runs of different conditions cannot be averaged: {field} is {first[field]!r} in run {first_id} but "
                f'{condition[field]!r} in run {run_id}. Choose one with where=, e.g. "{field} = …", or name the runs.'
            )


def _condition(run: Run) -> dict[str, object]:
    settings = run.settings.model_dump(mode="json")
    model = run.model.model_dump(mode="json")
    model["model"] = model.pop("id")
    return {**model, **settings, "interventions": [dict(one) for one in run.interventions]}


def _nothing(acts: ActivationStore, *, arrays: Sequence[str], where: str | None) -> str:
    total = len(acts.run_ids())
    asked = f" where {where}" if where else " without interventions"
    stored = [
        row[0] for row in acts.sql("SELECT DISTINCT site || '/' || reduction AS a FROM arrays ORDER BY a").fetchall()
    ]
    return (
        f"No run{asked} holds {' or '.join(arrays)}: the store has {total} runs, with "
        f"{', '.join(stored) or 'no arrays'}. Capture it, or choose other runs."
    )
