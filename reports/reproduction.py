"""The page of a reproduction: every claim of the paper beside what was found, and what that means in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from markupsafe import Markup

from reports import _beside, _page

FLOORS: Final = ("still", "noise", "grey", "wrong", "jump")
"""What is scored for comparison: the first frame throughout; noise; grey; a wrong answer; a jump cut to the end."""
PAPER: Final = "https://arxiv.org/abs/2603.16870"


class Row(NamedTuple):
    """One claim."""

    id: str
    """`E3`."""
    title: str
    paper: str
    """What the paper reports."""
    place: str
    """Where in it."""
    numbers: tuple[tuple[str, str], ...]
    """What it is, and ours with its interval; the first one stands beside the paper's."""
    n: int
    """Samples, or pairs of them."""
    verdict: str
    finding: str
    """One sentence, or why there is none."""
    rule: str
    """How the verdict is decided; empty where it stands in the documentation of the analysis."""
    evidence: tuple[tuple[str, str], ...]
    """Name and address of reports."""
    larger: str
    """What of the claim concerns the paper's own model alone."""


class Words(NamedTuple):
    """A list of sentences under a heading."""

    heading: str
    sentences: tuple[str, ...]
    otherwise: str
    """What is said where there is none."""


class Page(NamedTuple):
    """All that is on it."""

    title: str
    about: str
    rows: tuple[Row, ...]
    words: tuple[Words, ...]
    caution: str
    """What to keep in mind with all verdicts; empty for nothing."""
    facts: tuple[tuple[str, str], ...]
    beds: tuple[tuple[str, str, str, str, str], ...]
    """Name, families, how many samples, score of the clean runs, and which experiments and analyses stand on it."""
    floors: tuple[tuple[str, ...], ...]
    """Family, and the greatest overall score of each of `FLOORS`; empty where they were not measured."""


def write(page: Page, folder: Path, *, made: datetime | None = None) -> Path:
    """`index.html` and `index.md` in `folder`.

    Args:
        page: What they show.
        folder: Where; reports that they refer to lie below it.
        made: The timestamp; None takes the time now.

    Returns:
        The path of `index.html`.

    Raises:
        CannotWrite: if the folder does not take the files.
    """
    when = (made or datetime.now(UTC)).isoformat(timespec="seconds")
    _beside.put(folder / "index.md", markdown(page), {})
    return _beside.put(folder / "index.html", render(page, when=when), {})


def render(page: Page, *, when: str) -> str:
    """The page as HTML that needs no network."""
    return (
        _page.environment()
        .get_template("reproduction.html.j2")
        .render(
            page=page,
            floors=FLOORS,
            paper=PAPER,
            style=Markup(_page.asset("report.css") + _page.asset("reproduction.css")),
            version=_page.version(),
            made=when,
        )
    )


def markdown(page: Page) -> str:
    """The page as Markdown, for a repository or a documentation."""
    lines = [f"# {page.title}", "", page.about, "", *([page.caution, ""] if page.caution else [])]
    lines += _table(
        ["", "claim", "the paper", "ours", "n", "verdict"],
        [
            (
                row.id,
                row.title,
                row.paper,
                "; ".join(f"{words}: {text}" for words, text in row.numbers) or row.finding,
                str(row.n or ""),
                f"[{row.verdict}]({row.evidence[0][1]})" if row.evidence else row.verdict,
            )
            for row in page.rows
        ],
    )
    for part in page.words:
        lines += [f"## {part.heading}", ""]
        lines += [f"- {sentence}" for sentence in part.sentences] or [part.otherwise]
        lines.append("")
    lines += ["## What was run", "", *_table(["bed", "families", "samples", "score", "for"], page.beds)]
    if page.floors:
        lines += ["Overall scores of what solves nothing, the greatest of each family:", ""]
        lines += _table(["family", *FLOORS], page.floors)
    lines += _table(["", ""], page.facts)
    return "\n".join(lines).rstrip() + "\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [line(columns), "|" + "---|" * len(columns), *map(line, rows), ""]
