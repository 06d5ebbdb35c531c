"""A report of several groups of runs side by side: every analysis of each, and the stored results of experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepscope_commands._printing import say

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import analyses
    import reports
    import store


def write_comparison(
    acts: store.ActivationStore, out: Path, *, by: tuple[str, ...], where: str | None, mode: reports.Mode
) -> Path:
    """Every analysis that at least two groups allow, those of experiments that are stored, and the page about them."""
    import analyses
    import reports

    groups: dict[str, analyses.RunGroup] = {}
    for group in analyses.grouped(acts, by=by, where=where):
        name = reports.group_name(by, group.values)
        groups[f"{name} ({len(groups) + 1})" if name in groups else name] = group
    for name, group in groups.items():
        say(f"{name}: {len(group.run_ids)} runs on {len(group.sample_ids)} samples")
    results: list[analyses.Result] = []
    names: dict[str, str] = {}
    for analysis in analyses.names():
        of = _each(acts, analysis, groups, by)
        if len(of) < 2:
            say(f"{analysis}: left out, as fewer than two groups allow it")
            continue
        results += of.values()
        names |= {result.id: name for name, result in of.items()}
    for name, stored in _stored(acts, groups, by):
        results.append(stored)
        names[stored.id] = name
    if not results:
        raise analyses.NoRuns("No analysis is allowed by two of these groups; `stepscope analyze NAME` says why.")
    order = {name: at for at, name in enumerate(groups)}
    names = dict(sorted(names.items(), key=lambda one: order[one[1]]))
    runs = [run_id for group in groups.values() for run_id in group.run_ids]
    return reports.write(acts, out, results=results, runs=runs, names=names, title=f"By {' and '.join(by)}", mode=mode)


def _each(
    acts: store.ActivationStore, analysis: str, groups: dict[str, analyses.RunGroup], by: Sequence[str]
) -> dict[str, analyses.Result]:
    """One analysis of every group that allows it."""
    import analyses

    found: dict[str, analyses.Result] = {}
    for name, group in groups.items():
        try:
            found[name] = analyses.run(analysis, acts, runs=group.run_ids)
        except (analyses.NoRuns, analyses.UnknownProbeLabel) as error:
            say(f"{analysis}, {name}: left out. {error}")
        except analyses.MixedRuns as error:
            advice = f"Part the runs by that, too: --by {' --by '.join(by)} --by COLUMN."
            raise analyses.MixedRuns(f"{name}: {error} {advice}") from error
    return found


def _stored(
    acts: store.ActivationStore, groups: dict[str, analyses.RunGroup], by: Sequence[str]
) -> list[tuple[str, analyses.Result]]:
    """Results of experiments all of whose runs agree with one group."""
    import analyses
    from analyses import experiments

    values = {group.values: name for name, group in groups.items()}
    found: list[tuple[str, analyses.Result]] = []
    for name in experiments.names():
        of: dict[str, analyses.Result] = {}
        for result_id in acts.result_ids(name):
            result = analyses.load(acts, result_id)
            shared = analyses.shared_values(acts, result.record.run_ids, by=by)
            if shared in values:
                of[values[shared]] = result
        found += of.items() if len(of) > 1 else []
    return found
