"""The analyses by name, and the rule that each is computed once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from typing import Any, Final, Literal, NamedTuple, ParamSpec

import xarray as xr

from analyses._options import checked
from analyses._result import Result
from analyses.errors import UnknownAnalysis, UnknownOption
from store import ActivationStore, Json, ReadOnlyStore, ResultRecord, take_provenance

P = ParamSpec("P")
logger = logging.getLogger(__name__)

Verdict = Literal["replicates", "does not replicate", "inconclusive"]
"""What the rule of an analysis says of its claim."""
Analysis = Callable[..., Result]
"""`(acts, *, where=None, runs=None, **params) -> Result`."""
PACKAGES: Final = ("stepscope", "dask", "duckdb", "numpy", "scipy", "xarray", "zarr")
"""Distributions whose versions can change a result's numbers."""
_ANALYSES: dict[str, Analysis] = {}


class Found(NamedTuple):
    """What an analysis computed, before it is saved."""

    data: xr.Dataset
    """The numbers; the attribute `headline` names the quantity that stands for the result."""
    finding: str
    """One sentence with number, interval and n."""
    n: int
    """Samples."""
    summary: Json
    """The headline numbers; finite, None where there is none."""
    verdict: Verdict | Literal["descriptive"] = "descriptive"


def register(analysis: Callable[P, Result]) -> Callable[P, Result]:
    """Make an analysis known under its function's name, and hold its options to their types (a decorator)."""

    @wraps(analysis)
    def held(*args: P.args, **options: P.kwargs) -> Result:
        compute: Analysis = analysis
        return compute(*args, **checked(analysis, options))

    _ANALYSES[analysis.__name__] = held
    return held


def names() -> list[str]:
    """Names of all analyses, sorted."""
    return sorted(_ANALYSES)


def run(name: str, acts: ActivationStore, **params: Any) -> Result:
    """Run an analysis by name.

    Args:
        name: One of `names()`.
        acts: The store that is read, and that keeps the result.
        **params: Its options: `where`, `runs`, and its own.

    Raises:
        UnknownAnalysis: if there is no such analysis.
        UnknownOption: if it has no such option.
        BadOption: if an option cannot have its value.
    """
    if name not in _ANALYSES:
        raise UnknownAnalysis(f"There is no analysis {name!r}; there are {', '.join(names())}.")
    known = list(signature(_ANALYSES[name]).parameters)[1:]
    if unknown := sorted(set(params) - set(known)):
        raise UnknownOption(f"{name} has no option {', '.join(unknown)}; it has {', '.join(known)}.")
    return _ANALYSES[name](acts, **params)


def once(
    acts: ActivationStore,
    *,
    analysis: str,
    version: int,
    params: Json,
    run_ids: Sequence[str],
    compute: Callable[[], Found],
) -> Result:
    """Hand out the stored result of exactly this question, or compute and save it.

    A killed analysis leaves nothing behind, and the next call starts it again. On a store that was opened
    for reading only, the result is handed out without being kept.
    """
    result_id = ResultRecord.make_id(analysis, version, params, run_ids)
    if acts.has_result(result_id):
        return load(acts, result_id)
    made = take_provenance(PACKAGES)
    found = compute()
    record = ResultRecord(
        analysis=analysis,
        version=version,
        params=params,
        run_ids=tuple(run_ids),
        verdict=found.verdict,
        finding=found.finding,
        n=found.n,
        summary=found.summary,
    )
    try:
        acts.save_result(record, found.data, made)
    except ReadOnlyStore:
        logger.warning("%s %s is not kept: the store is open for reading only", analysis, result_id)
        return Result(record=record, data=found.data)
    return load(acts, result_id)


def load(acts: ActivationStore, result_id: str) -> Result:
    """A stored result by its id, its arrays read lazily."""
    entry = acts.result(result_id)
    return Result(record=entry.record, data=entry.data)
