"""`stepscope worlds …`: look at the task families, and hold their scorers to their bounds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from stepscope_commands._options import Difficulty, Json, Split, WorldSeed
from stepscope_commands._printing import fail, print_json, print_table, say
from stepscope_commands._version import version

if TYPE_CHECKING:
    from interp import floors

app = App(name="worlds", version=version)


@app.command
def ls(*, json_: Json = False) -> None:
    """List the task families, by what they ask of a model."""
    from interp.families import families

    found = list(families())
    if json_:
        print_json([{**family._asdict(), "difficulties": list(family.answers)} for family in found])
        return
    columns = ["family", "group", "kind", "k", "difficulties", "summary"]
    print_table(
        columns, [(row.family, row.group, row.kind, row.k, ", ".join(row.answers), row.summary) for row in found]
    )


@app.command
def render(
    family: Annotated[str, Parameter(help="Task family.")],
    *,
    out: Annotated[
        Path | None,
        Parameter(name=["--out", "-o"], help="Folder to write to, missing or empty; ./worlds-FAMILY if not given."),
    ] = None,
    n: Annotated[int, Parameter(help="Samples.")] = 3,
    seed: WorldSeed = 0,
    difficulty: Difficulty = None,
    split: Split = "in_domain",
) -> None:
    """Draw samples of a family: a contact sheet with all valid answers (PNG), and a film of each sample (mp4)."""
    from interp.contact_sheet import render

    rendered = render(family, out or Path(f"worlds-{family}"), n=n, seed=seed, difficulty=difficulty, split=split)
    for path in (rendered.sheet, *rendered.films):
        say(str(path))


@app.command
def check(
    *families: Annotated[str, Parameter(help="Task families; all of them if none is given.")],
    n: Annotated[
        int, Parameter(help="Samples of each family at least, over both splits and all difficulties, one of each.")
    ] = 102,
    jobs: Annotated[int | None, Parameter(help="Processes; as many as there are cores if not given.")] = None,
    json_: Json = False,
) -> None:
    """Score true videos and videos that solve nothing, and exit with 1 if a family's scorer is out of bounds."""
    from interp import floors

    found = floors.check(families, n=n, jobs=jobs, progress=True)
    if json_:
        print_json({"passed": all(family.passed for family in found), "families": [f.to_dict() for f in found]})
    else:
        _print_floors(found)
    if bad := [
        f"{family.family} ({', '.join(shown for shown, floor in family.floors.items() if not floor.passed)})"
        for family in found
        if not family.passed
    ]:
        fail(f"out of bounds: {', '.join(bad)}", code=1)


def _print_floors(found: list[floors.Floors]) -> None:
    """Mean overall scores by family and what was shown, and the worst sample's in brackets."""
    from interp import floors

    shown = [name for name in floors.BOUNDS if any(name in family.floors for family in found)]
    rows = [
        (
            family.family,
            family.samples,
            *(str(family.floors[name]) for name in shown),
            "pass" if family.passed else "FAIL",
        )
        for family in found
    ]
    print_table(["family", "n", *(f"{name} {floors.BOUNDS[name]}" for name in shown), "verdict"], rows)
    say("Overall scores: mean over samples (worst sample, which must be within the bound).")
    if "vae" not in shown:
        say(f"The VAE's round trip was left out: there is no VAE at {floors.VAE}.")
