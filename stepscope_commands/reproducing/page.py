"""What a reproduction told: everything that its page says, as `results.json` keeps it, and several of them as one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

import interp
from reports import reproduction
from reports.reproduction import Row, Words
from stepscope_commands.reproducing.claims import ALL

FILE: Final = "results.json"
"""In the folder of the page."""
OWN: Final = 10_000_000_000
"""Parameters of a denoiser from which on a model is of the paper's size."""
ABLE: Final = 0.2
"""Score of clean runs below which a model is said not to solve a bed's tasks; as in the rule of E3."""
UNTESTED: Final = "not tested"
"""In the place of a verdict."""


class BedTold(BaseModel):
    """Clean runs that experiments and analyses shared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    families: str
    samples: str
    score: float | None
    """Mean overall score of its clean runs; None where nothing scored them."""
    users: tuple[str, ...]
    """Parts that stand on it."""


class Told(BaseModel):
    """A page, as data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    """Its name."""
    parameters: int
    """Of its largest denoiser."""
    about: str
    """The plan, in a sentence."""
    facts: dict[str, str]
    """Weights, settings and videos, which pages must share to be joined."""
    runs: int
    forwards: int
    seconds: float
    """How long the runs took."""
    processes: int = 1
    """That made them, each in its own time."""
    devices: tuple[str, ...]
    code: tuple[str, ...]
    """Commits."""
    beds: tuple[BedTold, ...]
    floors: tuple[tuple[str, ...], ...]
    """Family, and the greatest overall score of each of `reproduction.FLOORS`."""
    rows: tuple[dict[str, Any], ...]
    """Fields of `reproduction.Row`."""
    results: dict[str, dict[str, Any]]
    """Record of each part's result."""


def read(folder: Path) -> Told:
    """What the page in a folder says.

    Raises:
        BadInput: if there is none, or it cannot be read.
    """
    path = folder / FILE
    try:
        return Told.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise interp.BadInput(f"{folder} has no {FILE}; give folders that stepscope reproduce wrote") from None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise interp.BadInput(f"cannot read {path}: {first}; let stepscope reproduce write it again") from error


def publish(told: Told, out: Path, *, title: str | None = None) -> Path:
    """Write `index.html`, `index.md` and `results.json`; the reports that rows refer to lie there already."""
    out.mkdir(parents=True, exist_ok=True)
    rows = tuple(Row(**one) for one in told.rows)
    page = reproduction.Page(
        title=title or f"The paper's experiments on {told.model}",
        about=told.about,
        rows=rows,
        words=words(rows, told.model, told.parameters),
        caution=_caution({bed.name: bed.score for bed in told.beds}),
        facts=_facts(told),
        beds=tuple((bed.name, bed.families, bed.samples, _score(bed.score), ", ".join(bed.users)) for bed in told.beds),
        floors=told.floors,
    )
    numbers = told.model_dump(mode="json")
    (out / FILE).write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return reproduction.write(page, out)


def words(rows: Sequence[Row], model: str, parameters: int) -> tuple[Words, ...]:
    """What the verdicts say, in plain words: nothing here knows a model but by its size."""

    def those(*verdicts: str) -> tuple[str, ...]:
        return tuple(f"{one.title} ({one.id})." for one in rows if one.verdict in verdicts)

    several = tuple(
        f"{one.title} ({one.id}): {one.finding if one.verdict == UNTESTED else f'n = {one.n}, {one.verdict}'}."
        for one in rows
        if one.verdict not in ("replicates", "does not replicate")
    )
    larger = tuple(f"{one.id}: {one.larger}." for one in rows if one.larger and parameters < OWN)
    return (
        Words(f"{model} supports", those("replicates"), "Nothing, by the rules that were set before."),
        Words(f"{model} contradicts", those("does not replicate"), "Nothing, by the rules that were set before."),
        Words("Left open", several, "Nothing: every claim was decided."),
        Words("Only the paper's own model can tell", larger, "This model is of the paper's size."),
    )


def _caution(solved: Mapping[str, float | None]) -> str:
    """What to keep in mind where the model cannot do the tasks: then there is nothing to destroy, flip or raise."""
    weak = [name for name, score in solved.items() if score is None or score < ABLE]
    if not weak:
        return ""
    told = ", ".join(f"{name} {'not scored' if (one := solved[name]) is None else f'{one:.2f}'}" for name in weak)
    return (
        f"This model does not solve the tasks of these beds (mean score of the clean runs: {told}): verdicts that rest "
        "on its answers there say nothing of the claims, whatever they are."
    )


def _score(score: float | None) -> str:
    return "–" if score is None else f"{score:.2f}"


def _facts(told: Told) -> tuple[tuple[str, str], ...]:
    how = f"{told.runs:,}, {told.forwards:,} forwards in {told.seconds / 60:.0f} min"
    if told.processes > 1:
        how += f" of {told.processes} processes together"
    return (*told.facts.items(), ("Runs", how), ("Device", ", ".join(told.devices)), ("Code", ", ".join(told.code)))


def join(folders: Sequence[Path], out: Path) -> Path:
    """One page of several that processes or machines of their own have made of parts of one plan.

    A claim that several have tested stands as the last of them told it. Reports are copied, nothing is computed.

    Args:
        folders: Of the pages, with their evidence; none is changed.
        out: Folder of the page, which is written anew.

    Returns:
        The path of `index.html`.

    Raises:
        BadInput: if a folder has no page, is `out` itself, or tells of other weights, settings or videos.
    """
    if any(folder.resolve() == out.resolve() for folder in folders):
        raise interp.BadInput(f"{out} cannot be joined into itself; give another --out")
    pages = [read(folder) for folder in folders]
    first = pages[0]
    for folder, page in zip(folders, pages, strict=True):
        here, there = ({"Parameters": str(one.parameters), **one.facts} for one in (page, first))
        if different := [name for name in here if here[name] != there.get(name)]:
            name = different[0]
            raise interp.BadInput(
                f"{folder} and {folders[0]} are not of one model and setting, {name}: {here[name]} and "
                f"{there.get(name, 'none')}; join pages of the same alone"
            )
    rows: dict[str, dict[str, Any]] = {}
    for folder, page in zip(folders, pages, strict=True):
        for row in page.rows:
            if row["id"] not in rows or row["verdict"] != UNTESTED:
                rows[row["id"]] = row
                _copy_evidence(row, folder, out)
    return publish(
        first.model_copy(
            update={
                "runs": sum(page.runs for page in pages),
                "forwards": sum(page.forwards for page in pages),
                "seconds": sum(page.seconds for page in pages),
                "processes": sum(page.processes for page in pages),
                "devices": _all(page.devices for page in pages),
                "code": _all(page.code for page in pages),
                "beds": _beds(pages),
                "floors": tuple({floor[0]: floor for page in pages for floor in page.floors}.values()),
                "rows": tuple(rows[claim.id] for claim in ALL if claim.id in rows),
                "results": {id: result for page in pages for id, result in page.results.items()},
            }
        ),
        out,
    )


def _copy_evidence(row: Mapping[str, Any], folder: Path, out: Path) -> None:
    for _, address in row["evidence"]:
        file = Path(address.partition("#")[0])
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / file, out / file)


def _all(found: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for many in found for one in many))


def _beds(pages: Sequence[Told]) -> tuple[BedTold, ...]:
    """Beds of all pages; where two have one, who stands on it is told together."""
    found: dict[tuple[str, str], BedTold] = {}
    for bed in (bed for page in pages for bed in page.beds):
        key = (bed.name, bed.samples)
        other = found.get(key)
        if other is None:
            found[key] = bed
        else:
            score = other.score if bed.score is None else bed.score
            found[key] = bed.model_copy(update={"score": score, "users": _all((other.users, bed.users))})
    return tuple(found.values())
