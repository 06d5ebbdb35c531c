"""Runs that are kept: samples × seeds through a traced model into a store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

import store
from interp import batching, executors, intervening
from interp.finishing import Finisher, Made
from interp.interventions import Intervention
from interp.making import Batch, generated
from interp.model import Model
from interp.planning import Plan, check_room, plan
from interp.spec import DEFAULT
from store import CaptureSpec, Run, Sample, SamplerSettings


class Captured(NamedTuple):
    """What a sweep did."""

    run_ids: tuple[str, ...]
    """One for each sample × seed, in that order."""
    made: int
    """Runs generated now."""
    reused: int
    """Runs that the store had already."""


class Sweep(NamedTuple):
    """What a sweep would do; nothing has been generated yet."""

    runs: tuple[tuple[Sample, Run], ...]
    """Every run asked for."""
    missing: tuple[tuple[Sample, Run], ...]
    """Those that the store does not have."""
    plan: Plan
    """What each writes."""

    @property
    def nbytes(self) -> int:
        """Bytes that the missing runs write, uncompressed."""
        return self.plan.nbytes * len(self.missing)

    @property
    def steps(self) -> int:
        """Denoising steps of the missing runs together."""
        return sum(run.settings.steps for _, run in self.missing)


def sweep(
    model: Model,
    samples: Iterable[Sample],
    spec: CaptureSpec = DEFAULT,
    *,
    into: store.ActivationStore,
    seeds: Sequence[int] = (0,),
    settings: SamplerSettings | None = None,
    interventions: Sequence[Intervention] | Callable[[Sample, int], Sequence[Intervention] | None] = (),
    parent: CaptureSpec | None = None,
) -> Sweep:
    """Say what `capture` with the same arguments would do and cost.

    Interventions may depend on the sample and the seed; where they are None, there is no such run.

    Raises:
        BadSpec: if the model cannot give what the spec asks, or the disk cannot hold it.
        BadInput: if the pipeline cannot run with the settings.
        BadIntervention: if a run has no place for an intervention, or a donor does not fit.
    """
    settings = settings or model.settings()
    resolved = plan(model.adapter, spec, settings)
    clean = Run(model=model.ref, sample_id="", seed=0, settings=settings, capture=parent or spec)

    same = None if callable(interventions) else intervening.planned(model, interventions)

    def record(sample: Sample, seed: int) -> Run | None:
        changes = same
        if callable(interventions):
            asked = interventions(sample, seed)
            if asked is None:
                return None
            changes = intervening.planned(model, asked)
        own = clean.model_copy(update={"sample_id": sample.id, "seed": seed})
        if not changes:
            return own.model_copy(update={"capture": spec})
        changed = own.model_copy(update={"capture": spec, "interventions": changes, "parent_id": own.id})
        intervening.check(model, changed, into)
        return changed

    runs = tuple((sample, run) for sample in samples for seed in seeds if (run := record(sample, seed)) is not None)
    missing = tuple((sample, run) for sample, run in runs if not into.has_run(run.id))
    found = Sweep(runs, missing, resolved)
    check_room(resolved, len(missing), into.free, into.path)
    return found


def capture(
    model: Model,
    samples: Iterable[Sample],
    spec: CaptureSpec = DEFAULT,
    *,
    into: store.ActivationStore | str | Path,
    seeds: Sequence[int] = (0,),
    settings: SamplerSettings | None = None,
    interventions: Sequence[Intervention] = (),
    parent: CaptureSpec | None = None,
    progress: bool = False,
    executor: str = "local",
    batch: int = 1,
) -> Captured:
    """Generate samples × seeds and keep what `spec` asks of each run.

    A run that the store has already is not generated again, so an interrupted sweep goes on where it
    stopped. A run becomes visible when it is complete; one that fails leaves nothing.

    Args:
        model: As `load` returns it.
        samples: The questions.
        spec: What is kept.
        into: A store, or the folder of one (made if missing).
        seeds: One run for each sample and seed.
        settings: How to sample; the model's defaults if not given.
        interventions: What every run changes on its way, in this order.
        parent: Capture spec of the clean run that each intervened run is compared with and names as its parent; `spec`
            if not given. Where that run is stored and has kept enough (`interp.resuming`), the steps before the first
            change are taken from it.
        progress: Show a bar with the time left.
        executor: Where runs are made: `local` is this process, `gpus` a process for each GPU, `dask` processes of this
            machine, `dask:ADDRESS` the workers of a scheduler, which reach the store under the same path.
        batch: How many runs one call of the pipeline makes; each is kept by itself, and equal to one made alone but for
            rounding (`interp.batching`). Where a pipeline makes one video a call, they are made one by one.

    Raises:
        InterpError: if the model cannot do what is asked (before anything runs).
        OutOfMemory: if a run needs more memory than the device has; runs before it are kept.
        StoreError: if the store cannot be written.
    """
    executors.check(executor)
    batching.check(batch)
    acts = into if isinstance(into, store.ActivationStore) else store.open(into, mode="a")
    samples = list(samples)
    if interventions:
        for sample in samples:  # one may donate to another
            acts.put_sample(sample)
    todo = sweep(
        model, samples, spec, into=acts, seeds=seeds, settings=settings, interventions=interventions, parent=parent
    )
    made = make_all(model, [todo], acts, executor=executor, progress=progress, batch=batch)
    return Captured(tuple(run.id for _, run in todo.runs), made, len(todo.runs) - made)


def make_all(
    model: Model,
    sweeps: Sequence[Sweep],
    acts: store.ActivationStore,
    *,
    executor: str = "local",
    progress: bool | tqdm = False,
    batch: int = 1,
) -> int:
    """Make the runs of sweeps that the store lacks, each once, here or on the workers of an executor.

    Args:
        model: As the runs' records name it.
        sweeps: What is asked.
        acts: The store.
        executor: See `capture`.
        progress: Show a bar with the time left, or move one that is there, as part of a longer work, by steps.
        batch: See `capture`.

    Returns:
        How many were made now; others have been made by another process in the meantime.
    """
    batches = batching.batches(model, [(one.missing, one.plan) for one in sweeps], size=batch)
    runs = [run for one in batches for _, run in one.pairs]
    made: list[bool] = []
    steps = sum(one.steps for one in batches)
    with _bar(progress, steps) as bar:

        def done(run: Made) -> None:
            made.append(run.now)
            bar.set_postfix_str(f"run {len(made)}/{len(runs)}")

        for one in batches:
            for sample, _ in one.pairs:
                acts.put_sample(sample)
        if executor == "local":
            _make_here(model, batches, acts, done, bar)
        elif batches:

            def ended(run: Made) -> None:
                bar.update(run.run.settings.steps)
                done(run)

            executors.spread(executor, model, batches, into=acts, done=ended)
    return sum(made)


@contextmanager
def _bar(progress: bool | tqdm, steps: int) -> Iterator[tqdm]:
    if not isinstance(progress, bool):
        yield progress
        return
    with tqdm(total=steps, unit="step", desc="capture", disable=not progress, dynamic_ncols=True) as bar:
        yield bar


def _make_here(
    model: Model, batches: Sequence[Batch], acts: store.ActivationStore, done: Callable[[Made], object], bar: tqdm
) -> None:
    with Finisher(done) as finisher:

        def on_step(runs: int) -> None:
            finisher.check()
            bar.update(runs)

        for batch in batches:
            for part in generated(model, batch, acts, on_step=on_step):
                finisher.take(part)
