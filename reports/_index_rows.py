"""What an index says of each run: where it comes from, what was changed, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from reports._words import change
from store import ActivationStore

MOST_SCORES: Final = 3
"""Columns of scores; the other metrics stay in the store."""
FIRST_METRICS: Final = ("answer", "overall", "process")
"""Metrics that stand first, in this order."""
MOST_FINDINGS: Final = 60
"""Kept results that an index names."""
_RUNS: Final = """
SELECT r.run_id, r.sample_id, r.model, r.seed, r.steps, r.interventions, r.seconds, r.started,
       s.family, s.difficulty, s.prompt
FROM runs AS r LEFT JOIN samples AS s USING (sample_id)
WHERE list_contains(?, r.run_id) ORDER BY r.started DESC, r.run_id
"""
_SCORES: Final = """
SELECT run_id, scorer, metric, avg(value) FROM scores WHERE step IS NULL AND list_contains(?, run_id) GROUP BY ALL
"""
_RESULTS: Final = """
SELECT analysis, verdict, finding, n FROM results WHERE list_has_any(run_ids, ?)
ORDER BY verdict = 'descriptive', analysis, started DESC, result_id
"""


class Row(NamedTuple):
    """One run."""

    run_id: str
    task: str
    """Family and difficulty of its sample."""
    prompt: str
    sample_id: str
    model: str
    seed: int
    change: str
    """Its interventions in words."""
    steps: int
    seconds: float | None
    started: str
    """To the minute, UTC; it sorts as text."""
    scores: tuple[float | None, ...]
    """Of the finished video, in the order of `Listed.metrics`."""


class Finding(NamedTuple):
    """One result that the store keeps about some of the runs."""

    analysis: str
    verdict: str
    finding: str
    n: int


class Listed(NamedTuple):
    """Everything that an index says in words."""

    rows: tuple[Row, ...]
    """Newest first."""
    metrics: tuple[str, ...]
    findings: tuple[Finding, ...]
    """Tested claims first, at most `MOST_FINDINGS`."""
    results: int
    """How many results there are."""


def listed(acts: ActivationStore, run_ids: Sequence[str], *, most: int) -> Listed:
    """What the store says of these runs, in three queries.

    Args:
        acts: The store.
        run_ids: Runs to tell of.
        most: How many at most; the oldest are left out.
    """
    ids = list(run_ids)
    found = acts.sql(_RUNS, [ids]).fetchall()[:most]
    scores = _scores(acts, [str(row[0]) for row in found])
    metrics = _metrics({metric for of in scores.values() for metric in of})
    results = acts.sql(_RESULTS, [ids]).fetchall()
    return Listed(
        rows=tuple(_row(row, scores.get(str(row[0]), {}), metrics) for row in found),
        metrics=metrics,
        findings=tuple(
            Finding(str(analysis), str(verdict), str(finding), int(n))
            for analysis, verdict, finding, n in results[:MOST_FINDINGS]
        ),
        results=len(results),
    )


def _row(row: Sequence[Any], scores: dict[str, float], metrics: Sequence[str]) -> Row:
    run_id, sample_id, model, seed, steps, interventions, seconds, started, family, difficulty, prompt = row
    return Row(
        run_id=str(run_id),
        task=" · ".join(str(part) for part in (family, difficulty) if part),
        prompt=str(prompt or ""),
        sample_id=str(sample_id),
        model=str(model),
        seed=int(seed),
        change=change(json.loads(interventions)),
        steps=int(steps),
        seconds=None if seconds is None else float(seconds),
        started=f"{started:%Y-%m-%d %H:%M}" if isinstance(started, datetime) else "",
        scores=tuple(scores.get(metric) for metric in metrics),
    )


def _scores(acts: ActivationStore, run_ids: list[str]) -> dict[str, dict[str, float]]:
    """Scores of finished videos by run and metric; a metric that several scorers gave is named with its scorer."""
    rows = acts.sql(_SCORES, [run_ids]).fetchall()
    scorers: dict[tuple[str, str], set[str]] = {}
    for run_id, scorer, metric, _ in rows:
        scorers.setdefault((run_id, metric), set()).add(scorer)
    shared = {metric for (_, metric), given in scorers.items() if len(given) > 1}
    found: dict[str, dict[str, float]] = {}
    for run_id, scorer, metric, value in rows:
        name = f"{metric}, {scorer}" if metric in shared else str(metric)
        found.setdefault(str(run_id), {})[name] = float(value)
    return found


def _metrics(found: set[str]) -> tuple[str, ...]:
    def place(metric: str) -> tuple[int, str]:
        first = metric.split(",")[0]
        return (FIRST_METRICS.index(first) if first in FIRST_METRICS else len(FIRST_METRICS), metric)

    return tuple(sorted(found, key=place)[:MOST_SCORES])
