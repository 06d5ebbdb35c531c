"""`stepscope reproduce`: the paper's table beside ours."""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from stepscope_commands._options import Where
from stepscope_commands._printing import print_table, say
from stepscope_commands._sampling import Sampling

if TYPE_CHECKING:
    import torch

    import interp
    from stepscope_commands.reproducing.making import Cost
    from stepscope_commands.reproducing.plan import Plan
    from stepscope_commands.reproducing.programme import Work

SKETCHED = 2
"""Samples of each bed that are planned to tell what all of them cost."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Of(Sampling):
    """The model, and how its runs are made."""

    student: Annotated[
        str | None,
        Parameter(
            help="Distilled model (E10): a name, folder, hub id, or lora:SOURCE; tinywan has one; none: without."
        ),
    ] = None
    batch: Annotated[
        int | None, Parameter(help="Runs that one call of the pipeline makes, where it can; the plan's if not given.")
    ] = None
    keep: Annotated[
        bool, Parameter(help="Keep donors' states (E7) with the clean runs; without, they are made again for each run.")
    ] = True


def reproduce(
    *,
    out: Annotated[
        Path, Parameter(help="Folder of the page, its numbers and its evidence; made if it is missing.")
    ] = Path("reproduction"),
    store: Annotated[
        Path | None, Parameter(name="--store", help="Store of the runs; OUT/acts if not given, or s3://bucket/prefix.")
    ] = None,
    quick: Annotated[bool, Parameter(negative="", help="Few samples and steps, for two cores; the default.")] = False,
    full: Annotated[bool, Parameter(negative="", help="200 samples of each family or more, for a GPU.")] = False,
    plan: Annotated[Path | None, Parameter(help="A plan of your own: a TOML file.")] = None,
    only: Annotated[str | None, Parameter(help="Only these claims, e.g. E3,E7.")] = None,
    of: Of = Of(),
    where: Where = None,
    cost: Annotated[
        bool, Parameter(negative="", help="Only say what it would cost, from the model's configuration alone.")
    ] = False,
    tflops: Annotated[
        float | None,
        Parameter(help="Speed to tell the time by, in TFLOP/s; that of a matrix product on this device if not given."),
    ] = None,
    captures_only: Annotated[
        bool, Parameter(negative="", help="Only make the runs; this machine then needs no duckdb.")
    ] = False,
    results_only: Annotated[
        bool, Parameter(negative="", help="Only compute results and page of runs that were made; loads no model.")
    ] = False,
    join: Annotated[
        list[Path] | None,
        Parameter(negative="", help="Only join the pages in these folders, of parts made apart, to one in OUT."),
    ] = None,
    floors: Annotated[bool, Parameter(help="Measure what videos score that solve nothing.")] = True,
) -> None:
    """Run the paper's experiments (E1 to E11) with their controls, and write one page; goes on where it was stopped."""
    import interp
    from stepscope_commands.reproducing import claims, page
    from stepscope_commands.reproducing import plan as plans

    if join:
        say(str(page.join(join, out)))
        return
    if sum((quick, full, plan is not None)) > 1:
        raise interp.BadInput("--quick, --full and --plan were given together; give one of them")
    if captures_only and results_only:
        raise interp.BadInput("--captures-only and --results-only leave nothing to do; give one of them")
    try:
        wanted = claims.chosen(only)
    except ValueError as error:
        raise interp.BadInput(f"--only {only}: {error}") from None
    asked = plans.read(plan or ("full" if full else "quick"))
    if of.samples is not None:
        asked = plans.without_twins(asked)
    parts = claims.parts(wanted)
    if not parts.intersection(part.id for part in asked.parts):
        raise interp.BadInput(_nothing(asked, of))
    place = store or out / "acts"
    if cost:
        _print_cost(asked, parts, of, place, tflops)
        return
    if not results_only:
        _make(asked, parts, of, out, place, tflops)
    if captures_only:
        say(f"runs in {place}; next: stepscope reproduce --results-only --out {out} --store {place}")
        return
    _tell(out, place, where=where, floors=floors)


def _nothing(asked: Plan, of: Of) -> str:
    """Why there is nothing to do."""
    there = ", ".join(part.id for part in asked.parts)
    twins = "; samples of a folder have no twins, which swap compares" if of.samples is not None else ""
    return f"no part of the plan tests these claims: it has {there}{twins}"


def _print_cost(asked: Plan, parts: set[str], of: Of, place: Path, tflops: float | None) -> None:
    """What everything would cost; loads no weights."""
    import store
    from stepscope_commands.reproducing import making

    model = making.sketched(of.model, dtype=_dtype(of), revision=of.revision)
    work = _work(model, asked, parts, of, most=SKETCHED + 1)  # and a stranger
    variants = {name: _sketched(name, of, model) for name in work.variants}
    with tempfile.TemporaryDirectory() as folder:
        empty = making.Unbounded(store.open(folder, mode="a").layout, writable=True)
        rows = making.costs(work, empty, variants, most=SKETCHED)
    _print(rows, model, work, of, tflops)
    free = store.free(place)
    say(f"free at {place}: {'unknown' if free is None else f'{free / 1e9:.1f} GB'}")


def _work(model: interp.Model, asked: Plan, parts: set[str], of: Of, *, most: int | None = None) -> Work:
    """The plan for the model, with its samples."""
    from stepscope_commands.reproducing import plan as plans
    from stepscope_commands.reproducing.programme import Work

    used = {name for part in asked.parts if part.id in parts for name in part.on}
    samples = {bed.name: plans.drawn(bed, folder=of.samples, most=most) for bed in asked.bed if bed.name in used}
    return Work(model, asked, samples, asked=of.asked, student=of.student_of(of.student), only=parts, keep=of.keep)


def _runs_on(of: Of) -> torch.device:
    import torch

    return torch.device(of.device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _dtype(of: Of) -> torch.dtype:
    """Of the weights, on the device that would make the runs."""
    import torch

    return getattr(torch, of.dtype or ("float32" if _runs_on(of).type == "cpu" else "bfloat16"))


def _sketched(name: str, of: Of, model: interp.Model) -> interp.Model:
    from interp.conditions import LORA
    from stepscope_commands.reproducing import making

    return model if name.startswith(LORA) else making.sketched(name, dtype=_dtype(of))


def _print(rows: list[Cost], model: interp.Model, work: Work, of: Of, tflops: float | None) -> None:
    from interp import catalogue, forecast
    from stepscope_commands.reproducing import making

    about = catalogue.cost(model, work.settings)
    say("\n".join(str(about).splitlines()[:3]))
    speed = None if tflops else forecast.measure(_runs_on(of), _dtype(of))
    rate = tflops * 1e12 if tflops else speed.flops if speed else 0.0
    print_table(*making.table(rows, rate))
    total = making.sum_of("all", rows)
    hours = total.flops / rate / 3600
    on_gpu = bool(tflops) or _runs_on(of).type == "cuda"
    unit = "GPU hours" if on_gpu else "hours"
    say(f"{hours:,.2f} {unit}, {total.nbytes / 1e9:,.1f} GB; {speed or f'at {tflops:g} TFLOP/s'}")
    say("Parts share runs: what one part has made, those below it do not count.")


def _make(asked: Plan, parts: set[str], of: Of, out: Path, place: Path, tflops: float | None) -> None:
    """The runs, and which they are."""
    import store
    from interp import catalogue
    from stepscope_commands.reproducing import making, record

    batch = asked.batch if of.batch is None else of.batch
    of.check(batch=batch)
    parts = _without_gradients(asked, parts, of)
    earlier = record.read(out)
    model = of.load()
    work = _work(model, asked, parts, of)
    acts = store.open(place, mode="a")
    variants = making.variants_of(model, work)
    rows = making.costs(work, acts, variants)
    _print(rows, model, work, of, tflops)
    making.check_room(rows, acts.free, acts.path)
    total, started = making.sum_of("all", rows), time.perf_counter()
    sys.stderr.write(f"sampled with {work.settings.scheduler}; stop it when you like, the same command goes on\n")
    runs = making.make(work, acts, variants, total=total.shown, executor=of.executor, batch=batch)
    made = record.Made(
        plan=asked,
        model=model.id,
        parameters=max(catalogue.cost(model, work.settings).parameters.values()),
        shape=work.shape,
        runs=runs,
        samples="" if of.samples is None else of.samples.name,
        forwards=total.forwards,
        seconds=time.perf_counter() - started,
    )
    made.after(earlier).write(out)


def _without_gradients(asked: Plan, parts: set[str], of: Of) -> set[str]:
    """The parts that an executor can make."""
    from analyses import experiments
    from interp import attribution

    seeking = (part.id for part in asked.experiment if experiments.get(part.of).takes_gradients)
    left = parts.intersection(seeking)
    if of.executor == "local" or not left:
        return parts
    if not parts.intersection(part.id for part in asked.parts) - left:
        attribution.check_executor(of.executor)
    sys.stderr.write(f"{', '.join(sorted(left))} left out: gradients are taken by --executor local alone\n")
    return parts - left


def _tell(out: Path, place: Path, *, where: str | None, floors: bool) -> None:
    """Results, page and evidence."""
    import interp
    from stepscope_commands._results import kept
    from stepscope_commands.reproducing import record, telling

    made = record.read(out)
    if made is None:
        raise interp.BadInput(f"{out} does not say which runs there are: make them first, without --results-only")
    acts = kept(place)
    found = telling.results(acts, made, where=where)
    measured = telling.measured_floors(made) if floors else []
    say(f"\n{telling.write(acts, made, found, out, floors=measured)}")
