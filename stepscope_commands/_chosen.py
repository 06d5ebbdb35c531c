"""The page of a few runs, or of the stored results of an experiment with videos of its own runs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from stepscope_commands._printing import say
from stepscope_commands._results import MOST_CHANGES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import analyses
    import reports
    import store

SHOWN: Final = ("exploration", "trajectory")
"""What is asked of an experiment's own runs: it draws their videos, and what these show."""
PICTURES: Final = ("x0_hat/pixels",)


def refuse_other_choices(given: Mapping[str, object]) -> None:
    """Refuse `--run` and `--experiment` beside each other, or beside any other choice of runs."""
    import analyses

    named = [option for option, value in given.items() if value]
    if len(named) > 1 and {"--run", "--experiment"} & set(named):
        raise analyses.UnknownOption(
            f"{' and '.join(named)} were given together; each chooses what a page is about: give one of them."
        )


def write_runs(acts: store.ActivationStore, out: Path, *, runs: tuple[str, ...], mode: reports.Mode) -> Path:
    """Every analysis that these runs allow, each condition on its own, and the page about them.

    Raises:
        RunNotFound: there is no such run.
        NoRuns: no analysis can be made of them.
    """
    import analyses
    import reports

    arrays = {f"{array.site}/{array.reduction}" for run_id in runs for array in acts.run(run_id).arrays}
    arms = analyses.parted(acts, arrays=sorted(arrays), runs=runs)
    results, refused = _each(acts, analyses.names(), arms)
    if not results:
        raise refused[0] if refused else analyses.NoRuns(f"{', '.join(runs)}: no array was captured, so none is read.")
    return reports.write(acts, out, results=results, runs=runs, mode=mode)


def write_experiments(acts: store.ActivationStore, out: Path, *, names: tuple[str, ...], mode: reports.Mode) -> Path:
    """The stored results of these experiments alone, x̂0 of their clean and changed runs beside each other.

    Raises:
        UnknownAnalysis: there is no such experiment.
        NothingToReport: none of its results is stored.
    """
    import analyses
    import reports
    from analyses import experiments

    names = tuple(dict.fromkeys(names))
    stored: list[analyses.Result] = []
    for name in names:
        experiments.get(name)
        found = [analyses.load(acts, result_id) for result_id in acts.result_ids(name)]
        if not found:
            raise reports.NothingToReport(_none_stored(acts, name))
        say(f"{name}: {', '.join(f'{one.verdict}, result {one.id}' for one in found)}")
        stored += found
    runs = sorted({run_id for result in stored for run_id in result.record.run_ids})
    arms = _few(analyses.parted(acts, arrays=PICTURES, runs=runs), acts)
    if not arms:
        say(f"None of the {len(runs)} runs behind it kept {PICTURES[0]}, so the page has no videos of x̂0.")
    results, _ = _each(acts, SHOWN, arms)
    shown = [run_id for arm in arms for run_id in arm] or runs
    title = f"{'Experiments' if len(names) > 1 else 'Experiment'} {' and '.join(names)}"
    return reports.write(acts, out, results=[*stored, *results], runs=shown, title=title, mode=mode)


def _none_stored(acts: store.ActivationStore, name: str) -> str:
    counts = Counter(acts.result(result_id).record.analysis for result_id in acts.result_ids())
    there = ", ".join(f"{one} ({count})" for one, count in sorted(counts.items())) or "none at all"
    return f"No result of the experiment {name} is stored; there are: {there}. Make it: `stepscope experiment {name}`."


def _each(
    acts: store.ActivationStore, names: Sequence[str], arms: Sequence[tuple[str, ...]]
) -> tuple[list[analyses.Result], list[Exception]]:
    """Each analysis of each condition that allows it, and what was said where it does not."""
    import analyses

    results: list[analyses.Result] = []
    refused: list[Exception] = []
    for name in names:
        for arm in arms:
            try:
                results.append(analyses.run(name, acts, runs=arm))
            except (analyses.NoRuns, analyses.UnknownProbeLabel) as error:  # it needs what these runs did not keep
                refused.append(error)
                say(f"{name}: left out. {error}")
            else:
                say(f"{name}: {results[-1].record.finding}")
    return results, refused


def _few(arms: Sequence[tuple[str, ...]], acts: store.ActivationStore) -> list[tuple[str, ...]]:
    """As many conditions as can be looked at, clean and changed, evenly from the first to the last."""
    clean = [arm for arm in arms if not acts.run(arm[0]).run.interventions]
    changed = [arm for arm in arms if arm not in clean]
    found: list[tuple[str, ...]] = []
    for some, word in ((clean, "clean"), (changed, "changed")):
        if len(some) <= MOST_CHANGES:
            found += some
            continue
        say(
            f"{len(some)} kinds of {word} runs: {MOST_CHANGES} of them, evenly chosen, have videos; see others by --run"
        )
        found += [some[at * (len(some) - 1) // (MOST_CHANGES - 1)] for at in range(MOST_CHANGES)]
    return found
