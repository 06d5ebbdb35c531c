"""What the runs of a reproduction say: every part's result, the rows of the page, and the page with its evidence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import analyses
import interp
import reports
import store
from analyses import Result, experiments
from analyses.experiments import Frame
from reports import reproduction
from reports.reproduction import Row
from stepscope_commands._printing import say
from stepscope_commands.reproducing import page
from stepscope_commands.reproducing.claims import BEYOND, CLAIMS, Claim, Number
from stepscope_commands.reproducing.page import UNTESTED, BedTold, Told
from stepscope_commands.reproducing.plan import Bed, Part, options
from stepscope_commands.reproducing.record import Made

EVIDENCE: Final = "evidence"
"""Folder of the reports, beside the page."""
MEDIA_BYTES: Final = 400_000
"""What pictures and videos of one report may weigh together: a folder of results can go into a repository."""
Found = dict[str, "Result | str"]
"""Result of each part, or why there is none."""


def results(acts: store.ActivationStore, made: Made, *, where: str | None = None) -> Found:
    """Every part's result; each is computed once and kept in the store.

    Args:
        acts: The store with the runs.
        made: Which runs they are.
        where: SQL condition on runs and samples.
    """
    found: Found = {}
    for part in made.plan.parts:
        runs = made.runs.get(part.id)
        if runs is None:
            found[part.id] = "its runs were not made"
            continue
        try:
            found[part.id] = _result(acts, made, part, runs, where)
        except analyses.AnalysisError as error:
            found[part.id] = str(error)
        one = found[part.id]
        say(f"{part.id}: {one if isinstance(one, str) else f'{one.verdict}: {one.finding}'}")
    return found


def _result(acts: store.ActivationStore, made: Made, part: Part, runs: Sequence[str], where: str | None) -> Result:
    if part in made.plan.analysis:
        return analyses.run(part.of, acts, runs=_of(acts, runs, where), **options(part, made.shape))
    asked = {name: _tuples(value) for name, value in options(part, made.shape).items()}
    return experiments.get(part.of)(**asked).compare(acts, runs=runs, where=where)


def _of(acts: store.ActivationStore, runs: Sequence[str], where: str | None) -> list[str]:
    """Those of some runs that answer a condition; `runs=` and `where=` of an analysis are not one inside the other."""
    if where is None:
        return list(runs)
    query = (
        f"SELECT run_id FROM runs LEFT JOIN samples USING (sample_id) WHERE list_contains(?, run_id) AND ({where}\n)"
    )
    return [str(id) for (id,) in acts.sql(query, [list(runs)]).fetchall()]


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def write(
    acts: store.ActivationStore,
    made: Made,
    found: Found,
    out: Path,
    *,
    floors: Sequence[Any] = (),
    title: str | None = None,
) -> Path:
    """The page `index.html`, the same as `index.md`, every number as `results.json`, and a report for each result.

    Args:
        acts: The store.
        made: Which runs there are.
        found: Results by part.
        out: The folder.
        floors: What videos score that solve nothing, by family (`interp.floors.check`).
        title: Heading of the page.
    """
    out.mkdir(parents=True, exist_ok=True)
    links = {id: _evidence(acts, id, one, out) for id, one in found.items() if isinstance(one, Result)}
    rows = [row(claim, found, links) for claim in (*CLAIMS, *(one for one in BEYOND if one.test in found))]
    ids = [id for runs in made.runs.values() for id in runs]
    sources = [acts.run(runs[0]).provenance for runs in made.runs.values() if runs]
    return page.publish(
        Told(
            model=made.model,
            parameters=made.parameters,
            about=made.plan.about,
            facts=_facts(acts, made, ids[0]),
            runs=len(set(ids)),
            forwards=made.forwards,
            seconds=made.seconds,
            devices=tuple(sorted({one.device for one in sources})),
            code=tuple(dict.fromkeys(one.git_commit[:12] + (", changed" if one.git_dirty else "") for one in sources)),
            beds=tuple(_bed(made, bed, _solved(acts, made, bed)) for bed in made.plan.bed if _users(made, bed)),
            floors=tuple(
                (one.family, *(f"{one.floors[shown].most:.2f}" for shown in reproduction.FLOORS)) for one in floors
            ),
            rows=tuple(one._asdict() for one in rows),
            results={id: one.record.model_dump(mode="json") for id, one in found.items() if isinstance(one, Result)},
        ),
        out,
        title=title,
    )


def _evidence(acts: store.ActivationStore, id: str, result: Result, out: Path) -> str:
    """The report about one result, and the address of its section from the page."""
    clean = [run for run in result.record.run_ids if acts.run(run).run.parent_id is None]
    path = reports.write(
        acts,
        out / EVIDENCE / f"{id}.html",
        results=[result],
        runs=clean[:4] or result.record.run_ids[:4],
        media_bytes=MEDIA_BYTES,
    )
    anchor = re.search(rf'id="([^"]*-{re.escape(result.record.analysis)})"', path.read_text(encoding="utf-8"))
    return f"{EVIDENCE}/{path.name}" + (f"#{anchor[1]}" if anchor else "")


def row(claim: Claim, found: Found, links: Mapping[str, str]) -> Row:
    """One claim with what was found of it."""
    result = found.get(claim.test, "this part was not run")
    if isinstance(result, str):
        return Row(
            claim.id, claim.title, claim.paper, claim.place, (), 0, UNTESTED, result, "", (), claim.larger
        )  # fmt: skip
    evidence = [(id, links[id]) for id in (claim.test, *claim.beside) if id in links]
    numbers = tuple((one.words, text) for one in claim.numbers if (text := told(one, result.record.summary)))
    return Row(
        claim.id,
        claim.title,
        claim.paper,
        claim.place,
        numbers,
        int(_at(result.record.summary, claim.n) if claim.n else result.record.n),
        _at(result.record.summary, claim.verdict) if claim.verdict else result.verdict,
        result.finding,
        _rule(result.record.analysis),
        tuple(evidence),
        claim.larger,
    )


def _rule(name: str) -> str:
    """The rule of an experiment; that of an analysis stands on the page of analyses."""
    return experiments.get(name).rule if name in experiments.names() else ""


def told(number: Number, summary: Mapping[str, Any]) -> str:
    """A number of a summary with its interval; empty where the summary has none."""
    keys = [_key(number, end) for end in ("", "_low", "_high")]
    value, low, high = (_at(summary, key) for key in keys)
    if value is None:
        return ""

    def text(one: Any) -> str:
        if isinstance(one, int) and not number.share:
            return str(one)
        return f"{100 * one:.{number.digits}f} %" if number.share else f"{one:.{number.digits}f}".replace("-", "−")

    return text(value) + (f" ({text(low)} to {text(high)})" if low is not None and high is not None else "")


def _key(number: Number, end: str) -> str:
    if "{}" in number.key:
        return number.key.format(end)
    return f"{number.key}{end}" if end else number.key


def _at(summary: Any, key: str) -> Any:
    for name in key.split("."):
        summary = summary.get(name) if isinstance(summary, Mapping) else None
    return summary


def _solved(acts: store.ActivationStore, made: Made, bed: Bed) -> float | None:
    """Mean overall score of the clean runs of a bed; None where nothing scored them."""
    ids = [id for part in made.plan.parts if bed.name in part.on for id in made.runs.get(part.id, ())]
    query = """SELECT avg(value) FROM scores JOIN runs USING (run_id) JOIN samples USING (sample_id)
    WHERE metric = 'overall' AND step IS NULL AND parent_id IS NULL AND list_contains(?, run_id)"""
    if made.samples:  # which are of the folder's own tasks and splits
        return acts.sql(query, [ids]).fetchall()[0][0]
    query += " AND split = ? AND list_contains(?, family)"
    return acts.sql(query, [ids, bed.split, list(bed.families)]).fetchall()[0][0]


def _bed(made: Made, bed: Bed, solved: float | None) -> BedTold:
    each = "pairs of twins" if bed.twins else "samples"
    level = f", {bed.difficulty}" if bed.difficulty else ""
    where = "" if bed.split == "in_domain" else ", out of domain"
    families, count = ", ".join(bed.families) + level + where, f"{bed.n} {each} of each, seeds {bed.seeds}"
    if made.samples:
        families, count = made.samples, f"{bed.n * len(bed.families)} samples or all, seeds {bed.seeds}"
    users = _users(made, bed)
    return BedTold(name=bed.name, families=families, samples=count, score=solved, users=users)


def _users(made: Made, bed: Bed) -> tuple[str, ...]:
    """Parts that stand on a bed and were made."""
    return tuple(part.id for part in made.plan.parts if bed.name in part.on and part.id in made.runs)


def _facts(acts: store.ActivationStore, made: Made, id: str) -> dict[str, str]:
    """Where the numbers come from, of any run: all of a reproduction have the same model and settings."""
    run = acts.run(id).run
    settings, latent_frames = run.settings, Frame(**made.shape).latent_frames
    return {
        "Model": f"{made.model}, {run.model.dtype}, {made.parameters / 1e6:,.0f} M parameters in a denoiser",
        "Weights (SHA-256)": run.model.weight_hash,
        "Clean runs": f"{settings.steps} steps, guidance {settings.guidance:g}, {settings.scheduler}",
        "Video": f"{settings.frames} frames of {settings.height}×{settings.width}, {latent_frames} of latents",
    }


def measured_floors(made: Made, *, n: int = 6) -> list[Any]:
    """What videos score that solve nothing, in the families of the plan."""
    from interp import floors

    if made.samples:  # of which nobody here knows what solves nothing
        return []
    families = [name for bed in made.plan.bed for name in bed.families if name in interp.worlds]
    return floors.check(list(dict.fromkeys(families)), n=n, jobs=1, shown=reproduction.FLOORS)
