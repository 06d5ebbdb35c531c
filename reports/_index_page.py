"""The index: one page with a row for each of many runs, to search, to sort, and to go on from."""

from __future__ import annotations

import base64
import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from markupsafe import Markup

from reports._beside import put
from reports._index_rows import Listed, listed
from reports._page import asset, environment, version
from reports._thumbnails import thumbnails
from reports._words import some
from reports.errors import NothingToReport
from store import ActivationStore

MOST: Final = 5_000
"""Runs of one page."""
SCRIPTS: Final = ("view.js", "index.js")
"""Run in this order, as one script."""


def render_index(
    acts: ActivationStore,
    *,
    where: str | None = None,
    title: str | None = None,
    pages: str = "",
    paged: frozenset[str] = frozenset(),
    made: datetime | None = None,
) -> str:
    """One self-contained HTML page with a row for each run, newest first: search, sort, and a thumbnail of its end.

    No analysis is run, so this takes seconds for a thousand runs; the results that the store keeps are told.

    Args:
        acts: The store.
        where: SQL condition on the columns of `runs` and `samples`; None takes every run, changed ones too.
        title: Heading; None makes one of the models' names.
        pages: Folder in which runs have pages of their own, as the index shall name it: relative to itself.
        paged: Runs that have one there, `<run id>.html`.
        made: The timestamp; None takes the time now.

    Raises:
        NothingToReport: if there is no such run.
        QueryError: if `where` is wrong.
    """
    run_ids = acts.run_ids(where)
    if not run_ids:
        asked = f" where {where}" if where else ""
        raise NothingToReport(f"No run{asked} is stored, so there is nothing to list: run `stepscope capture` first.")
    found = listed(acts, run_ids, most=MOST)
    script = "".join(map(asset, SCRIPTS))
    return (
        environment()
        .get_template("index.html.j2")
        .render(
            title=title or f"Runs of {_names(found)}",
            scope=_scope(found, len(run_ids)),
            left_out=_left_out(len(run_ids)),
            found=found,
            thumbnails=thumbnails(acts, [row.run_id for row in found.rows]),
            pages=pages,
            paged=paged,
            style=Markup(asset("report.css") + asset("index.css")),
            script=Markup(script),
            script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
            version=version(),
            made=(made or datetime.now(UTC)).isoformat(timespec="seconds"),
        )
    )


def write_index(
    acts: ActivationStore,
    out: str | os.PathLike[str],
    *,
    where: str | None = None,
    title: str | None = None,
    made: datetime | None = None,
) -> Path:
    """`render_index` into the file `out`, which appears whole or not at all.

    Runs that have pages of their own in `pages_beside(out)` are linked to these.

    Returns:
        The path of the file.

    Raises:
        CannotWrite: if the folder is missing and cannot be made, or does not take the file.
        NothingToReport: if there is no such run.
    """
    folder = pages_beside(out)
    paged = frozenset(path.stem for path in folder.glob("*.html")) if folder.is_dir() else frozenset[str]()
    return put(Path(out), render_index(acts, where=where, title=title, pages=folder.name, paged=paged, made=made), {})


def pages_beside(out: str | os.PathLike[str]) -> Path:
    """Where an index looks for pages of single runs: `runs.html` in the folder `runs-pages` beside it."""
    path = Path(out)
    return path.with_name(f"{path.stem}-pages")


def _names(found: Listed) -> str:
    names = sorted({row.model for row in found.rows})
    return " and ".join(names) if len(names) < 3 else f"{len(names)} models"


def _scope(found: Listed, count: int) -> str:
    samples = len({row.sample_id for row in found.rows})
    changed = sum(row.change != "clean" for row in found.rows)
    models = len({row.model for row in found.rows})
    return (
        f"{some(count, 'run')} of {some(models, 'model')} on {some(samples, 'sample')}; "
        f"{changed or 'none'} of them with an intervention. "
        "A picture is the last frame of the finished video, shrunk and lossy; scores are those of the finished video."
    )


def _left_out(count: int) -> str:
    if count <= MOST:
        return ""
    return (
        f"Not shown: the oldest {count - MOST:,} of {count:,} runs (a page holds {MOST:,}); choose others by --where."
    )
