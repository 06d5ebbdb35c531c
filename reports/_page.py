"""Puts a page together: findings first, then what each analysis shows, then where it comes from."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analyses import Result
from reports._again import python, tables
from reports._microscope import microscope
from reports._provenance import origin
from reports._section import MEDIA_BYTES, Context, Section, drawer, place
from reports._words import change
from reports.errors import CannotWrite, NothingToReport
from store import ActivationStore

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


SCRIPTS: Final = ("view.js", "film.js", "microscope.js", "figures.js")
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
    media_bytes: int = MEDIA_BYTES,
    made: datetime | None = None,
) -> str:
    """One self-contained HTML page about `results`.

    Nothing is computed here: every number comes from a result or a record, every picture from a run.
    The same inputs give the same page but for its one timestamp.

    Args:
        acts: The store that holds the runs behind the results.
        results: What analyses returned; shown in the order of the house, whatever theirs.
        runs: Runs whose videos are shown; None shows all, as far as the page's limit goes.
        title: Heading; None makes one of the models' names.
        media_bytes: What pictures and videos may weigh together; the page says what it left out.
        made: The timestamp; None takes the time now.

    Raises:
        NothingToReport: if there is no result.
        RunNotFound: if a run behind a result is not in the store.
    """
    if not results:
        raise NothingToReport("There is no result to report: run an analysis first, e.g. `stepscope analyze energy`.")
    ordered = sorted(results, key=lambda one: _place(acts, one))
    context = Context(acts, runs=None if runs is None else tuple(runs), media_bytes=media_bytes, results=ordered)
    items = [_item(result, context, f"s{at}") for at, result in enumerate(ordered)]
    script = "".join(map(asset, SCRIPTS))
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            title=title or _title(acts, results),
            items=items,
            microscope=microscope(context),
            microscope_after=next((one.anchor for one in reversed(items) if _is_trajectory(one)), ""),
            origin=origin(acts, results),
            queries=QUERIES,
            tables=tables,
            python=python,
            style=Markup(asset("report.css")),
            script=Markup(script),
            script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
            version=version(),
            made=(made or datetime.now(UTC)).isoformat(timespec="seconds"),
        )
    )


def write(
    acts: ActivationStore,
    out: str | os.PathLike[str],
    *,
    results: Sequence[Result],
    runs: Sequence[str] | None = None,
    title: str | None = None,
    media_bytes: int = MEDIA_BYTES,
    made: datetime | None = None,
) -> Path:
    """`render` into the file `out`, which appears whole or not at all.

    Returns:
        The path of the file.

    Raises:
        CannotWrite: if the folder is missing and cannot be made, or does not take the file.
        NothingToReport: if there is no result.
    """
    return put(out, render(acts, results=results, runs=runs, title=title, media_bytes=media_bytes, made=made))


def put(out: str | os.PathLike[str], page: str) -> Path:
    """Write a page into the file `out`, which appears whole or not at all.

    Raises:
        CannotWrite: if the folder is missing and cannot be made, or does not take the file.
    """
    path = Path(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, page)
    except OSError as error:
        raise CannotWrite(f"{path} cannot be written: {error.strerror or error}; choose another file.") from error
    return path


def _replace(path: Path, text: str) -> None:
    """Write beside `path`, then rename: a reader sees the old page or the new one."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _item(result: Result, context: Context, salt: str) -> Item:
    draw = drawer(result.record.analysis)
    section = None if draw is None else draw(result, context, salt)
    name = result.record.analysis if section is None else section.title
    conditions = {str(context.changes(one)) for one in context.of(result.record.analysis)}
    if section is not None and len(conditions) > 1:
        name = f"{name} · {change(context.changes(result))}"
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
