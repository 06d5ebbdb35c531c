"""What a page says of where its numbers come from: models, settings, machines, versions, runs, results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from analyses import Result
from reports._words import some
from store import ActivationStore, Json, Run, RunEntry

CHANGES: Final = 12
"""Different interventions that a page names; an experiment can have hundreds, and the records hold all."""


class RunRow(NamedTuple):
    """One line of the table of runs."""

    run_id: str
    sample_id: str
    seed: int
    started: str
    seconds: str
    megabytes: str


class Origin(NamedTuple):
    """Everything that the foot of a page shows."""

    facts: tuple[tuple[str, str], ...]
    """Name and value; runs that differ give several values."""
    runs: tuple[RunRow, ...]
    scope: str
    """The runs in one line, for the head of the page."""


def origin(acts: ActivationStore, results: Sequence[Result]) -> Origin:
    """Collect it from the records of all runs behind `results`."""
    run_ids = sorted({run_id for result in results for run_id in result.record.run_ids})
    entries = [acts.run(run_id) for run_id in run_ids]
    runs = [entry.run for entry in entries]
    return Origin(facts=tuple(_facts(entries)), runs=tuple(map(_row, entries)), scope=_scope(runs))


def _facts(entries: Sequence[RunEntry]) -> Iterable[tuple[str, str]]:
    runs = [entry.run for entry in entries]
    made = [entry.provenance for entry in entries]
    yield "Model", _each(f"{run.model.id} {run.model.revision}".strip() for run in runs)
    yield "Pipeline", _each(f"{run.model.pipeline}, {run.model.dtype}" for run in runs)
    yield "Weights (SHA-256)", _each(run.model.weight_hash for run in runs)
    adapters = [
        f"{one.path} × {one.scale:g} on {one.component} ({one.weight_hash})"
        for run in runs
        for one in run.model.adapters
    ]
    if adapters:
        yield "Adapters", _each(adapters)
    yield "Settings", _each(_settings(run) for run in runs)
    interventions = list(dict.fromkeys(_change(one) for run in runs for one in run.interventions))
    if interventions:
        more = len(interventions) - CHANGES
        yield "Interventions", _each(interventions[:CHANGES]) + (f"; and {more} more" if more > 0 else "")
    yield "Captured", _each(", ".join(f"{item.site}/{item.reduction}" for item in run.capture.items) for run in runs)
    yield "Code", _each(_code(one.git_commit, dirty=one.git_dirty) for one in made)
    yield (
        "Device",
        _each(
            ", ".join(part for part in (one.device, one.driver, some(one.threads, "thread")) if part) for one in made
        ),
    )
    yield "Host", _each(one.host for one in made)
    yield "Python", _each(one.python for one in made)
    yield (
        "Packages",
        _each(", ".join(f"{name} {version}" for name, version in sorted(one.packages.items())) for one in made),
    )


def _each(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(value for value in values if value)) or "unknown"


def _change(intervention: Json) -> str:
    """An intervention as its record has it, but for the bits of a mask."""
    fields: dict[str, Any] = dict(intervention)
    region = fields.get("region")
    if isinstance(region, dict) and "bits" in region:
        fields["region"] = f"a mask of {'×'.join(map(str, region['size']))} tokens"
    return str(fields)


def _code(commit: str, *, dirty: bool) -> str:
    if not commit:
        return "outside a git repository"
    return f"git {commit}, {'with uncommitted changes' if dirty else 'clean'}"


def _settings(run: Run) -> str:
    settings = run.settings
    second = "" if settings.guidance_2 is None else f" and {settings.guidance_2:g}"
    return (
        f"{settings.steps} steps of {settings.scheduler}, guidance {settings.guidance:g}{second}, "
        f"{settings.frames} frames of {settings.width} × {settings.height}"
    )


def _scope(runs: Sequence[Run]) -> str:
    samples = len({run.sample_id for run in runs})
    models = _each(run.model.id for run in runs)
    return f"{some(len(runs), 'run')} of {models} on {some(samples, 'sample')}: {_each(_settings(run) for run in runs)}"


def _row(entry: RunEntry) -> RunRow:
    return RunRow(
        run_id=entry.run.id,
        sample_id=entry.run.sample_id,
        seed=entry.run.seed,
        started=entry.provenance.started,
        seconds=f"{entry.seconds:.1f}",
        megabytes=f"{entry.stored / 1e6:.1f}",
    )
