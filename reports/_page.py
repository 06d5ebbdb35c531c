"""Puts a page together: findings first, then what each analysis shows, then where it comes from."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from importlib import metadata, resources
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analyses import Result
from reports._again import python, tables
from reports._beside import Beside, Inside, Place, folder_of, put
from reports._chart import charts, library
from reports._cite import bibtex
from reports._comparison import compared
from reports._microscope import microscope
from reports._provenance import origin
from reports._section import MEDIA_BYTES, Context, Section, drawer, place
from reports.errors import NothingToReport
from store import ActivationStore

log = logging.getLogger(__name__)

Mode = Literal["single", "folder"]
"""Everything in one file, or a page with files beside it."""
WARN_ABOVE: Final = 25
"""Megabytes of a single file above which it is said that it is large."""
FOLDER_ABOVE: Final = 50
"""Megabytes above which there is no single file."""
QUERIES: Final[tuple[tuple[str, str], ...]] = (
    (
        "Which seeds end right, and from which step on was x̂0 right for the first time?",
        "SELECT sample_id, seed, max(value) FILTER (step IS NULL) AS answer, "
        "min(step) FILTER (value >= 0.5) AS first_right "
        "FROM scores JOIN runs USING (run_id) WHERE metric = 'answer' GROUP BY ALL ORDER BY ALL",
    ),
    (
        "In which layers do few tokens carry the energy?",
        "SELECT layer, round(avg(mean), 2) AS mean, round(avg(p99 / mean), 2) AS p99_over_mean, "
        "round(max(max / mean), 1) AS worst FROM token_stats WHERE branch = 'cond' GROUP BY layer ORDER BY layer",
    ),
    (
        "How does the energy of each latent frame go with the noise level?",
        "SELECT frame, round(corr(mean, sigma), 3) AS correlation, round(avg(mean), 2) AS energy "
        "FROM token_stats JOIN steps USING (run_id, step) WHERE branch = 'cond' GROUP BY frame ORDER BY frame",
    ),
)
"""Questions worth asking of any store, with their SQL (no double quotes, so that a shell takes them as they are)."""


SCRIPTS: Final = ("view.js", "film.js", "microscope.js", "figures.js", "chart.js", "cite.js")
"""Run in this order, as one script: what the reader looks at, and what follows it."""


class Item(NamedTuple):
    """One result on the page."""

    result: Result
    section: Section | None
    anchor: str
    name: str


def render(
    acts: ActivationStore,
    *,
    results: Sequence[Result],
    runs: Sequence[str] | None = None,
    title: str | None = None,
    names: Mapping[str, str] | None = None,
    media_bytes: int = MEDIA_BYTES,
    made: datetime | None = None,
) -> str:
    """One self-contained HTML page about `results`, whatever it weighs.

    Nothing is computed here: every number comes from a result or a record, every picture from a run.
    The same inputs give the same page but for its one timestamp.

    Args:
        acts: The store that holds the runs behind the results.
        results: What analyses returned; shown in the order of the house, whatever theirs.
        runs: Runs whose videos are shown; None shows all, as far as the page's limit goes.
        title: Heading; None makes one of the models' names.
        names: Results that are groups of a comparison, by their ids, and what each group is called, in their order:
            the same analysis of several groups stands side by side.
        media_bytes: What pictures and videos may weigh together; the page says what it left out.
        made: The timestamp; None takes the time now.

    Raises:
        NothingToReport: if there is no result.
        RunNotFound: if a run behind a result is not in the store.
    """
    return _html(_drawn(acts, results, runs, title, names, media_bytes, made), Inside())


def write(
    acts: ActivationStore,
    out: str | os.PathLike[str],
    *,
    results: Sequence[Result],
    runs: Sequence[str] | None = None,
    title: str | None = None,
    names: Mapping[str, str] | None = None,
    mode: Mode = "single",
    media_bytes: int = MEDIA_BYTES,
    made: datetime | None = None,
) -> Path:
    """`render` into the file `out`, which appears whole or not at all.

    Args:
        acts: As for `render`, and so `results`, `runs`, `title`, `names`, `media_bytes` and `made`.
        out: The page.
        results: See `render`.
        runs: See `render`.
        title: See `render`.
        names: See `render`.
        mode: `single` has everything in the page, warns above 25 MB and becomes `folder` above 50 MB; `folder` has
            videos, maps and tables as files in the folder `OUT_files` beside the page, and tables of any size.
        media_bytes: See `render`.
        made: See `render`.

    Returns:
        The path of the page.

    Raises:
        CannotWrite: if the folder is missing and cannot be made, or does not take the files.
        NothingToReport: if there is no result.
    """
    path = Path(out)
    drawn = _drawn(acts, results, runs, title, names, media_bytes, made)
    page = _html(drawn, Inside()) if mode == "single" else None
    if page is not None:
        page = _if_small(page, path)
    beside = Beside(path)
    text = _html(drawn, beside) if page is None else page
    return put(path, text, beside.files)


def _if_small(page: str, path: Path) -> str | None:
    """The page, or None where one file of that size serves nobody; says what is done, and why."""
    megabytes = len(page.encode()) / 1e6
    if megabytes > FOLDER_ABOVE:
        told = "%s would weigh %.0f MB, more than %d: its videos and tables are written beside it, into %s"
        log.warning(told, path, megabytes, FOLDER_ABOVE, folder_of(path))
        return None
    if megabytes > WARN_ABOVE:
        told = "%s weighs %.0f MB, more than %d: mode folder, or fewer runs, would make it open faster"
        log.warning(told, path, megabytes, WARN_ABOVE)
    return page


def _drawn(
    acts: ActivationStore,
    results: Sequence[Result],
    runs: Sequence[str] | None,
    title: str | None,
    names: Mapping[str, str] | None,
    media_bytes: int,
    made: datetime | None,
) -> dict[str, Any]:
    """Everything that the template shows, but for where its large parts lie."""
    if not results:
        raise NothingToReport("There is no result to report: run an analysis first, e.g. `stepscope analyze energy`.")
    ordered = sorted(results, key=lambda one: _place(acts, one))
    chosen = None if runs is None else tuple(runs)
    context = Context(acts, runs=chosen, media_bytes=media_bytes, results=ordered, names=names)
    ordered.sort(key=lambda one: (_place(acts, one)[:2], context.order(one)))
    items = [_item(result, context, f"s{at}") for at, result in enumerate(ordered)]
    seen = microscope(context)
    sections = [*(item.section for item in items), seen]
    return {
        "title": title or _title(acts, results),
        "items": items,
        "comparison": compared(context),
        "microscope": seen,
        "microscope_after": next((one.anchor for one in reversed(items) if _is_trajectory(one)), ""),
        "films": [film for section in sections if section is not None for film in section.films],
        "origin": origin(acts, results),
        "bibtex": bibtex(acts, results, version()),
        "made": (made or datetime.now(UTC)).isoformat(timespec="seconds"),
    }


def _html(drawn: dict[str, Any], parts: Place) -> str:
    """The page, with its large parts at their place."""
    script = "".join(map(asset, SCRIPTS))
    drawing = library()
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            **drawn,
            charts=charts,
            library=Markup(drawing),
            queries=QUERIES,
            tables=partial(tables, place=parts),
            python=python,
            placed=parts.picture,
            sources=parts.sources,
            style=Markup(asset("report.css")),
            script=Markup(script),
            script_hashes=f"'{_hash(script)}' '{_hash(drawing)}'",
            version=version(),
        )
    )


def _hash(script: str) -> str:
    """What the page's policy knows a script by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _item(result: Result, context: Context, salt: str) -> Item:
    draw = drawer(result.record.analysis)
    section = None if draw is None else draw(result, context, salt)
    name = result.record.analysis if section is None else section.title
    if section is not None and (of := context.name(result)):
        name = f"{name} · {of}"
    return Item(result, section, f"{salt}-{result.record.analysis}", name)


def _is_trajectory(item: Item) -> bool:
    return item.result.record.analysis == "trajectory" and item.section is not None


def _place(acts: ActivationStore, result: Result) -> tuple[float, str, bool, str]:
    """Clean runs before changed ones."""
    changed = bool(acts.run(result.record.run_ids[0]).run.interventions)
    return place(result.record.analysis), result.record.analysis, changed, result.id


def _title(acts: ActivationStore, results: Sequence[Result]) -> str:
    run_ids = {run_id for result in results for run_id in result.record.run_ids}
    models = sorted({acts.run(run_id).run.model.id for run_id in run_ids})
    return f"How {' and '.join(models)} denoises"


@cache
def environment() -> Environment:
    """Templates of the pages, everything escaped."""
    found = Environment(
        loader=PackageLoader("reports"), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    # Plain text, which autoescape then makes safe for an attribute; jinja's own `tojson` marks its output as safe HTML.
    found.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    found.filters["tight"] = _tight
    return found


def _tight(text: str) -> str:
    """`text` in which a line never ends within `n = 6` or `95 %`."""
    return re.sub(r"(?<=\bn) = (?=\d)|(?<=\d) (?=%)", _unbroken, text)


def _unbroken(space: re.Match[str]) -> str:
    return space.group().replace(" ", "\N{NO-BREAK SPACE}")


@cache
def asset(name: str) -> str:
    """Text of a style or a script that ships with the package."""
    return resources.files("reports").joinpath("templates", name).read_text(encoding="utf-8")


def version() -> str:
    """That of the installed package."""
    try:
        return metadata.version("stepscope")
    except metadata.PackageNotFoundError:
        return "(not installed)"
