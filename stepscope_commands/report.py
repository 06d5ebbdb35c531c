"""`stepscope report`: an HTML page about the runs of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from stepscope_commands._chosen import refuse_other_choices, write_experiments, write_runs
from stepscope_commands._comparing import write_comparison
from stepscope_commands._listing import MANY, is_large, write_listing
from stepscope_commands._options import Store, Where
from stepscope_commands._printing import say
from stepscope_commands._results import kept, write_report


def report(
    *,
    store: Store,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="The HTML file to write.")],
    where: Where = None,
    run: Annotated[
        tuple[str, ...],
        Parameter(
            negative="", help="Id of a run to report; repeatable. Runs of several conditions stand side by side."
        ),
    ] = (),
    experiment: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            help="Only the stored results of this experiment, and videos of its own runs, clean and changed side by "
            "side; repeatable.",
        ),
    ] = (),
    by: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            help="Compare groups of runs, parted by this column of the view `runs` or `samples`: model, seed, "
            "interventions, …; repeatable.",
        ),
    ] = (),
    index: Annotated[
        bool | None,
        Parameter(
            help="Only list the runs, with thumbnails, to search and to sort; no analysis is run. "
            f"Without either, a choice of more than {MANY} runs is listed.",
        ),
    ] = None,
    pages: Annotated[
        bool,
        Parameter(negative="", help="List the runs, and make a page for each that has none yet, in a folder beside."),
    ] = False,
    mode: Annotated[
        Literal["single", "folder"],
        Parameter(
            help="single: everything in one file, a folder all the same above 50 MB. folder: videos and tables as "
            "files in OUT_files beside the page."
        ),
    ] = "single",
) -> None:
    """Write an HTML page about the runs of a store; it works offline."""
    refuse_other_choices({"--run": run, "--experiment": experiment, "--where": where, "--by": by})
    acts = kept(store)
    if experiment:
        say(str(write_experiments(acts, out, names=experiment, mode=mode)))
        return
    if run:
        say(str(write_runs(acts, out, runs=run, mode=mode)))
        return
    if by:
        say(str(write_comparison(acts, out, by=by, where=where, mode=mode)))
        return
    listed = index or pages
    if index is None and not pages and is_large(acts, where=where):
        listed = True
        say(
            f"More than {MANY} runs are many for one page, so it lists them: --where chooses runs for a report, "
            "--no-index makes one of all."
        )
    if listed:
        say(str(write_listing(acts, out, where=where, pages=pages)))
    else:
        say(str(write_report(acts, out, where=where, mode=mode)))
