"""The index of a store of many runs, and the pages of single ones that it links to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepscope_commands._printing import say
from stepscope_commands._results import write_report

if TYPE_CHECKING:
    from pathlib import Path

    import store

MANY = 100
"""Clean runs above which a store is listed rather than analysed as a whole, unless the reader asks for that."""


def is_large(acts: store.ActivationStore, *, where: str | None) -> bool:
    """Whether a report would be about more than `MANY` runs: the chosen ones; of a whole store, the clean ones."""
    return len(acts.run_ids(where or "interventions = '[]'")) > MANY


def write_listing(acts: store.ActivationStore, out: Path, *, where: str | None, pages: bool) -> Path:
    """The index; with `pages`, first a report for each of its runs that has none yet."""
    import reports

    if pages:
        _write_pages(acts, reports.pages_beside(out), acts.run_ids(where))
    return reports.write_index(acts, out, where=where)


def _write_pages(acts: store.ActivationStore, folder: Path, run_ids: list[str]) -> None:
    from tqdm import tqdm

    import analyses

    missing = [run_id for run_id in run_ids if not (folder / f"{run_id}.html").exists()]
    say(f"{len(run_ids) - len(missing)} of {len(run_ids)} runs have a page; {len(missing)} to make")
    for run_id in tqdm(missing, unit="page", disable=not missing):
        try:
            write_report(acts, folder / f"{run_id}.html", runs=(run_id,), told=lambda _: None)
        except analyses.NoRuns as error:
            say(f"{run_id}: no page. {error}")
