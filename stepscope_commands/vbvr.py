"""`stepscope vbvr …`: samples of VBVR-Bench in, videos out, and the scores of its evaluation kit in again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from stepscope_commands._options import Difficulty, Into, Json, Split, Where, WorldSeed
from stepscope_commands._printing import print_json, print_table, say
from stepscope_commands._version import version

if TYPE_CHECKING:
    import store
    from interp import vbvr

app = App(name="vbvr", version=version)


@app.command(name="import")
def import_(
    folder: Annotated[Path, Parameter(help="A benchmark in VBVR-Bench's layout, or a split, task or sample of one.")],
    *,
    into: Into,
    n: Annotated[int | None, Parameter(help="Samples, those of each task in turn; all if not given.")] = None,
    task: Annotated[
        list[str] | None,
        Parameter(negative="", help="Task, or its beginning up to a _, e.g. O-39; repeatable; all if not given."),
    ] = None,
    split: Annotated[str | None, Parameter(help="in_domain or out_of_domain; both if not given.")] = None,
    truth: Annotated[
        bool, Parameter(negative="", help="Keep the true videos, too, at their size; the samples' ids are then others.")
    ] = False,
    json_: Json = False,
) -> None:
    """Put samples into a store, with their first frames and prompts; what is there already stays."""
    from tqdm.auto import tqdm

    import store
    from interp import vbvr

    found = vbvr.samples(folder, n=n, tasks=task or (), split=split, truth=truth)
    acts = store.open(into, mode="a")
    before = set(acts.sample_ids())
    bar = tqdm(found, total=n, unit="sample", desc="import", disable=json_, dynamic_ncols=True)
    ids = [acts.put_sample(sample) for sample in bar]
    if json_:
        print_json({"sample_ids": ids, "new": len(set(ids) - before)})
    else:
        say(f"{len(ids)} samples, {len(set(ids) - before)} of them new in {into}")


@app.command
def export(
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="Folder: missing, empty, or an earlier export.")],
    store: Annotated[
        Path | None, Parameter(name="--store", help="Folder of the store with the runs, or s3://bucket/prefix.")
    ] = None,
    where: Where = None,
    samples: Annotated[
        Path | None, Parameter(help="Folder that the runs' samples were read from: their true videos and last frames.")
    ] = None,
    world: Annotated[str | None, Parameter(help="Task family to draw samples from, without runs.")] = None,
    n: Annotated[int, Parameter(help="Samples to draw from the world.")] = 5,
    world_seed: WorldSeed = 0,
    difficulty: Difficulty = None,
    split: Split = "in_domain",
    task: Annotated[
        str | None,
        Parameter(help="Task folder in the place of the family's name, e.g. one that the kit has an evaluator for."),
    ] = None,
    show: Annotated[
        list[Literal["still", "noise", "jump", "truth"]] | None,
        Parameter(negative="", help="Floor to put beside the runs, or the truth; repeatable; all if not given."),
    ] = None,
    json_: Json = False,
) -> None:
    """Write runs, null floors and true videos as the evaluation kit takes them; goes on where it was stopped."""
    import interp
    import store as store_package
    from interp import vbvr

    drawn = interp.worlds[world].generate(n, seed=world_seed, difficulty=difficulty, split=split) if world else []
    if store is None and not drawn:
        raise interp.BadInput("nothing to export: give --store with runs, or --world for samples without runs")
    done = vbvr.export(
        out,
        acts=store_package.open(store) if store else None,
        where=where,
        samples=drawn,
        benchmark=samples,
        task=task,
        shown=show or tuple(vbvr.PSEUDO),
        progress=not json_,
    )
    if json_:
        print_json(done._asdict())
        return
    say(f"{out}: {done.runs} videos of runs, {done.pseudo} of floors and truth; {done.written} files written now")
    if done.untrue:
        say(f"{done.untrue} samples without truth, so without jump cut and true video: --samples FOLDER has it")
    say(f"Score them, in a clone of github.com/Video-Reason/VBVR-EvalKit:\n{done.command}")
    say(f"and then: stepscope vbvr scores {out} --store {store or 'ACTS'}")


@app.command
def scores(
    out: Annotated[Path, Parameter(help="The export that was scored.")],
    *,
    store: Annotated[Path, Parameter(name="--store", help="Folder of the store that was exported, or s3://….")],
    results: Annotated[
        list[Path] | None,
        Parameter(
            negative="", help="Result file of the kit, or a folder of them; repeatable; OUT/scores if not given."
        ),
    ] = None,
    scorer: Annotated[
        str, Parameter(help="Name of the scorer in the view scores: one for each version of the kit.")
    ] = "vbvr",
    json_: Json = False,
) -> None:
    """Keep the kit's scores with the runs, and show them with the null floors beside."""
    import store as store_package
    from interp import vbvr

    store_package.open(store)  # never makes a store
    acts = store_package.open(store, mode="a")
    found = vbvr.bring(acts, out, results=results or (), scorer=scorer)
    if json_:
        print_json(_plain(found))
        return
    _print_rows(found, acts)


def _print_rows(found: vbvr.Scored, acts: store.ActivationStore) -> None:
    """The table, and what was left out of it."""
    columns = ["model", "n", "score", "still", "noise", "jump", "truth", "above still and noise"]
    means = [(row.score, row.still, row.noise, row.jump, row.truth, row.above) for row in found.rows]
    rows = [
        (row.model, row.score.n, *("not scored" if not mean.n else str(mean) for mean in own))
        for row, own in zip(found.rows, means, strict=True)
    ]
    print_table(columns, rows)
    say("Means over samples with 95 % Student t intervals; floors and truth are those of the same samples.")
    kept = f", result {found.result_id}" if found.result_id else ""
    say(f"{found.new} runs have got scores in {acts.path}, {found.known} had them{kept}")
    if found.failed:
        say(f"{len(found.failed)} videos the kit failed on, whose 0.0 is not taken: {found.failed[0]}")
    if found.unnamed:
        say(f"{found.unnamed} videos of the export have no score: no evaluator for their task, or not scored yet")
    if found.strangers:
        say(f"{found.strangers} scores of videos that are not of this export were left out")


def _plain(found: vbvr.Scored) -> dict[str, object]:
    """Plain values for JSON; NaN, which it has not, as null."""

    def mean(value: vbvr.Mean) -> dict[str, float | None]:
        return {name: None if math.isnan(part) else part for name, part in value._asdict().items()}

    rows = [
        {"model": row.model, **{name: mean(getattr(row, name)) for name in row._fields if name != "model"}}
        for row in found.rows
    ]
    return {**found._asdict(), "rows": rows}
