"""The runs of a sweep: what they would cost, said in a few lines, and their making."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepscope_commands._printing import print_table, say

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    import interp
    import store
    from interp.interventions import Intervention


def make(
    model: interp.Model,
    samples: list[store.Sample],
    spec: store.CaptureSpec,
    *,
    into: Path,
    seeds: tuple[int, ...],
    settings: store.SamplerSettings | None = None,
    executor: str = "local",
    batch: int = 1,
    dry_run: bool = False,
    changes: tuple[Intervention, ...] = (),
) -> interp.Captured:
    """Say what it costs, then capture with a progress bar: clean runs, and with `changes` their children."""
    import interp
    import store
    from interp import batching

    interp.plan(model.adapter, spec, settings or model.settings())  # refused before a folder is made
    acts = store.open(into, mode="a")
    how: dict[str, Any] = {"into": acts, "seeds": seeds, "settings": settings}
    kinds: list[tuple[Intervention, ...]] = [(), changes] if changes else [()]
    for sample in samples if changes else ():  # one may donate to another
        acts.put_sample(sample)
    found = [interp.sweep(model, samples, spec, **how, interventions=kind) for kind in kinds]  # refused before any runs
    for todo, kind in zip(found, kinds, strict=True):
        told = _to_make(len(todo.runs), len(todo.missing), steps=todo.steps, plan=todo.plan)
        say(f"with {', '.join(change.kind for change in kind)}: {told}" if kind else told)
        if batch > 1:
            say(batching.told(model, len(todo.missing), size=batch))
    if dry_run:
        return interp.Captured(tuple(run.id for _, run in found[-1].runs), 0, 0)
    done = [
        interp.capture(model, samples, spec, **how, interventions=kind, executor=executor, batch=batch, progress=True)
        for kind in kinds
    ]
    return done[-1]


def _to_make(runs: int, missing: int, *, steps: int, plan: interp.Plan) -> str:
    """One line: what a sweep makes and writes."""
    return (
        f"{runs} runs, {runs - missing} of them in the store already; {missing} to make: {steps} steps, "
        f"{plan.nbytes * missing / 1e6:.1f} MB ({plan.nbytes / 1e6:.2f} MB a run)"
    )


def print_forecast(foreseen: interp.Forecast, *, into: Path, runs_on: torch.device, dtype: torch.dtype) -> None:
    """What a sweep would take: the model, bytes by array, disk, and time on this device."""
    from interp.forecast import duration, measure

    speed = measure(runs_on, dtype)
    each = speed.seconds(foreseen.costs.flops)
    steps = foreseen.missing * foreseen.costs.settings.steps
    free = "unknown" if foreseen.free is None else f"{foreseen.free / 1e9:.1f} GB"
    say(str(foreseen.costs))
    print_table(*foreseen.table())
    say(_to_make(foreseen.runs, foreseen.missing, steps=steps, plan=foreseen.plan))
    say(f"free at {into}: {free}")
    say(f"time: about {duration(each * foreseen.missing)}, {duration(each)} a run; {speed}")
