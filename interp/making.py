"""Batches of runs: generated together in one call of the pipeline, kept each by itself.

What is generated here is completed in `finishing`: a sweep does so for one batch while the next is generated.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

import store
from interp import intervening, provenance, resuming
from interp.finishing import Generated, Made
from interp.memory import explained
from interp.model import Model, all_finished
from interp.planning import Plan
from interp.recorder import Recorder
from interp.rows import Asked, Row, Split
from interp.sites import LayerSite
from interp.stream import Stream
from store import Run, RunExists, Sample, SamplerSettings, StepInfo

_STREAM: Final = {False: {"budget": 256 << 20, "writers": 1}, True: {"budget": 4 << 30, "writers": 4}}
"""How blocks leave a CPU and a GPU: a GPU makes them faster than one thread writes."""


class Batch(NamedTuple):
    """Runs that can be generated together: of the same settings and capture spec."""

    pairs: tuple[tuple[Sample, Run], ...]
    plan: Plan
    """What each writes."""

    @property
    def steps(self) -> int:
        """Denoising steps of all runs."""
        return sum(run.settings.steps for _, run in self.pairs)


def make(
    model: Model,
    batch: Batch,
    acts: store.ActivationStore,
    *,
    on_step: Callable[[int], object] = lambda runs: None,
    resume: bool = True,
    one_by_one: threading.Lock | None = None,
) -> list[Made]:
    """Generate, trace and write the runs of a batch.

    Args:
        model: As the runs' records name it.
        batch: What is made.
        acts: The store.
        on_step: Told behind each step of how many runs it was.
        resume: Take the steps before the first change from the clean runs, where those are stored and have kept enough.
        one_by_one: Held while the pipeline runs, where several threads make batches.
    """
    made: list[Made] = []
    lock = one_by_one or threading.Lock()
    parts = generated(model, batch, acts, on_step=on_step, resume=resume)
    while True:
        with lock:
            part = next(parts, None)
        if part is None:
            return made
        made += part.finish()


def generated(
    model: Model,
    batch: Batch,
    acts: store.ActivationStore,
    *,
    on_step: Callable[[int], object],
    resume: bool = True,
) -> Iterator[Generated]:
    """Generate a batch in one call of the pipeline, or in one for each step that its runs begin at."""
    by_start: dict[int, list[Asked]] = {}
    runs = [run for _, run in batch.pairs]
    prefixes = resuming.prefixes(model, runs, batch.plan, acts) if resume else [None] * len(runs)
    for (sample, run), prefix in zip(batch.pairs, prefixes, strict=True):
        by_start.setdefault(prefix.start.step if prefix else 0, []).append(Asked(sample, run, prefix))
    for asked in by_start.values():
        yield _generate(model, asked, batch.plan, acts, on_step)


def _generate(
    model: Model,
    asked: Sequence[Asked],
    plan: Plan,
    acts: store.ActivationStore,
    on_step: Callable[[int], object],
) -> Generated:
    started, device = time.perf_counter(), model.device  # diffusers goes through all modules to tell it
    taken = provenance.take(device)
    with ExitStack() as opened:
        rows: list[Row] = []
        gone: list[Run] = []
        for one in asked:
            try:
                rows.append(Row(opened.enter_context(acts.begin_run(one.run, taken)), one, plan))
            except RunExists:
                gone.append(one.run)
        if not rows:
            return Generated([], gone, None, [], (), 0.0, opened.pop_all())
        stream = opened.enter_context(Stream(Split(rows), **_STREAM[device.type == "cuda"]))
        with explained(device, _size(rows, model), runs=len(rows)):
            videos, steps = _run(model, rows, plan, acts, stream, on_step)
        seconds = (time.perf_counter() - started) / len(rows)
        return Generated(rows, gone, stream, videos, steps, seconds, opened.pop_all())


def _run(
    model: Model,
    rows: Sequence[Row],
    plan: Plan,
    acts: store.ActivationStore,
    stream: Stream,
    on_step: Callable[[int], object],
) -> tuple[list[NDArray[np.uint8]], tuple[StepInfo, ...]]:
    """The videos of a batch, and its steps."""
    settings = rows[0].run.settings
    editors = intervening.edits_of(model, [row.run for row in rows], acts)
    prefixes = [row.prefix for row in rows if row.prefix is not None]
    if prefixes:
        resuming.copy(prefixes, rows, plan, acts)
        for _ in prefixes[0].start.steps:
            on_step(len(rows))
    output, steps = model.traced.run(
        sites=_layer_sites(plan),
        settings=settings,
        geometry=plan.geometry,
        listener=Recorder(plan, model.adapter, stream, on_step=on_step),
        editors=editors,
        start=resuming.together(prefixes),
        runs=len(rows),
        **model.batch_inputs([(row.sample, row.run.seed) for row in rows], settings=settings),
    )
    return list(all_finished(output).numpy()), steps


def _layer_sites(plan: Plan) -> list[tuple[LayerSite, list[int]]]:
    """Which layers of which sites any array of the plan needs."""
    layers: dict[LayerSite, set[int]] = {}
    for array in plan.arrays:
        if isinstance(array.site, LayerSite):
            layers.setdefault(array.site, set()).update(array.layers)
    return [(site, sorted(numbers)) for site, numbers in layers.items()]


def _size(rows: Sequence[Row], model: Model) -> str:
    settings: SamplerSettings = rows[0].run.settings
    each = f"{settings.frames} frames of {settings.height}×{settings.width} in {model.ref.dtype}"
    return each if len(rows) == 1 else f"a batch of {len(rows)} videos, each of {each}"
