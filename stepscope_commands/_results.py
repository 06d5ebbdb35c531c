"""Results of a store: where they are kept, how one is printed, and the report of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepscope_commands._printing import print_json, say

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import analyses
    import reports
    import store

MOST_CHANGES = 4
"""Kinds of changed runs that a report of a whole store sets beside the clean ones."""


def kept(path: Path) -> store.ActivationStore:
    """An existing store in which results can be kept; for reading only where its folder is."""
    import store

    acts = store.open(path)
    try:
        return store.open(path, mode="a")
    except store.ReadOnlyStore:
        return acts


def print_result(result: analyses.Result, *, json_: bool, rule: str = "") -> None:
    """A result's verdict, finding and n, or all of its record; `rule` says how the verdict was decided."""
    if json_:
        print_json({"result_id": result.id, **result.record.model_dump(mode="json")})
        return
    say(f"{result.verdict}: {result.finding}")
    if rule:
        say(f"Rule: {rule}")
    say(f"n = {result.record.n}, result {result.id}")


def write_report(
    acts: store.ActivationStore,
    out: Path,
    *,
    runs: tuple[str, ...] | None = None,
    where: str | None = None,
    told: Callable[[str], None] = say,
    mode: reports.Mode = "single",
) -> Path:
    """Every analysis that the chosen runs allow, the stored results of experiments, and the page about them.

    `told` gets a line for each analysis.
    """
    import analyses
    import reports
    from analyses import experiments

    refused: list[Exception] = []
    stored = [] if runs else [analyses.load(acts, id) for name in experiments.names() for id in acts.result_ids(name)]
    results: list[analyses.Result] = []
    mixed = (analyses.MixedRuns,) if stored else ()  # the arms of an experiment, which no analysis averages
    for name in analyses.names():
        try:
            results.append(analyses.run(name, acts, runs=runs, where=where))
        except (analyses.NoRuns, analyses.UnknownProbeLabel, *mixed) as error:  # it needs what these runs did not keep
            refused.append(error)
            told(f"{name}: left out. {error}")
        else:
            told(f"{name}: {results[-1].record.finding}")
    shown = results[0].record.run_ids if results else ()
    if not (stored or runs or where):
        changed = _changed(acts)
        results += changed
        shown = (*shown, *(run_id for result in changed for run_id in result.record.run_ids))
    results += stored
    if not results:
        raise refused[0]
    return reports.write(acts, out, results=results, runs=shown or results[0].record.run_ids, mode=mode)


def _changed(acts: store.ActivationStore) -> list[analyses.Result]:
    """What x̂0 of changed runs shows, of a few conditions: a report sets them beside the clean ones."""
    import analyses

    arms = analyses.changed(acts, arrays=["x0_hat/pixels"])
    if len(arms) > MOST_CHANGES:
        say(f"{len(arms)} kinds of changed runs, none drawn beside the clean ones: choose one with --where")
        return []
    return [analyses.run(name, acts, runs=arm) for arm in arms for name in ("exploration", "trajectory")]
