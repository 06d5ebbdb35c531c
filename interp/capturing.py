"""Runs that are kept: samples × seeds through a traced model into a store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

import store
from interp import executors, intervening, provenance, resuming
from interp.interventions import Intervention
from interp.memory import explained
from interp.model import Model, finished
from interp.planning import ArrayPlan, Plan, check_room, plan
from interp.recorder import Recorder
from interp.sites import LayerSite
from interp.spec import DEFAULT
from interp.stream import Stream
from interp.worlds import in_time, worlds
from store import CaptureSpec, Run, RunExists, Sample, SamplerSettings, Score, dims

_STREAM = {False: {"budget": 256 << 20, "writers": 1}, True: {"budget": 4 << 30, "writers": 4}}
"""How blocks leave a CPU and a GPU: a GPU makes them faster than one thread writes."""


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

    def record(sample: Sample, seed: int) -> Run | None:
        asked = interventions(sample, seed) if callable(interventions) else interventions
        if asked is None:
            return None
        own = clean.model_copy(update={"sample_id": sample.id, "seed": seed})
        if not (changes := intervening.planned(model, asked)):
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

    Raises:
        InterpError: if the model cannot do what is asked (before anything runs).
        OutOfMemory: if a run needs more memory than the device has; runs before it are kept.
        StoreError: if the store cannot be written.
    """
    executors.check(executor)
    acts = into if isinstance(into, store.ActivationStore) else store.open(into, mode="a")
    samples = list(samples)
    if interventions:
        for sample in samples:  # one may donate to another
            acts.put_sample(sample)
    todo = sweep(
        model, samples, spec, into=acts, seeds=seeds, settings=settings, interventions=interventions, parent=parent
    )
    made = make_all(model, todo.missing, acts, executor=executor, progress=progress)
    return Captured(tuple(run.id for _, run in todo.runs), made, len(todo.runs) - made)


def make_all(
    model: Model,
    missing: Sequence[tuple[Sample, Run]],
    acts: store.ActivationStore,
    *,
    executor: str = "local",
    progress: bool = False,
) -> int:
    """Make runs that the store lacks, here or on the workers of an executor.

    Returns:
        How many were made now; others have been made by another process in the meantime.
    """
    made: list[bool] = []
    steps = sum(run.settings.steps for _, run in missing)
    with tqdm(total=steps, unit="step", desc="capture", disable=not progress, dynamic_ncols=True) as bar:

        def done(run: Run, now: bool, *, steps: int) -> None:
            made.append(now)
            bar.set_postfix_str(f"run {len(made)}/{len(missing)}")
            bar.update(steps)

        for sample, _ in missing:
            acts.put_sample(sample)
        if executor == "local":
            for sample, run in missing:
                done(run, make_run(model, sample, run, acts, on_step=bar.update), steps=0)
        elif missing:
            spread = partial(done, steps=missing[0][1].settings.steps)
            executors.spread(executor, model, [run for _, run in missing], into=acts, done=spread)
    return sum(made)


def make_run(
    model: Model,
    sample: Sample,
    run: Run,
    acts: store.ActivationStore,
    *,
    on_step: Callable[[], object] = lambda: None,
    resume: bool = True,
) -> bool:
    """Generate, trace and write one run.

    Args:
        model: As the run's record names it.
        sample: As the run's record names it.
        run: What is made.
        acts: The store.
        on_step: Called behind each step.
        resume: Take the steps before the first change from the clean run, where that is stored and has kept enough.

    Returns:
        False where another process has made the same run in the meantime; its result is the same.
    """
    try:
        _make(model, sample, run, plan(model.adapter, run.capture, run.settings), acts, on_step, resume=resume)
    except RunExists:
        return False
    return True


def _make(
    model: Model,
    sample: Sample,
    run: Run,
    plan: Plan,
    acts: store.ActivationStore,
    on_step: Callable[[], object],
    *,
    resume: bool,
) -> None:
    started = time.perf_counter()
    device = model.device  # diffusers goes through all modules to tell it
    with acts.begin_run(run, provenance.take(device)) as writer:
        for array in plan.arrays:
            writer.add_array(
                array.site.name,
                array.reduction.name,
                dims=array.dims,
                shape=array.shape,
                dtype=str(array.dtype).removeprefix("torch."),
                coords=_coords(array),
                files_along=array.dims[: -len(array.cell)] if array.reduction.by_cell else (dims.STEP,),
                profile="compact" if array.reduction.compressible else "fast",
                encoding=array.encoding,
            )
        scored = _ScoredSink(writer, sample, plan)
        with (
            explained(device, f"{_size(run.settings)} in {model.ref.dtype}"),
            Stream(scored, **_STREAM[device.type == "cuda"]) as stream,
        ):
            prefix = resuming.prefix(model, run, plan, acts) if resume else None
            editor = intervening.edits_of(model, run, acts)
            if prefix is not None:
                prefix.copy(plan, scored, acts)
                for _ in prefix.start.steps:
                    on_step()
            output, steps = model.traced.run(
                sites=_layer_sites(plan),
                settings=run.settings,
                geometry=plan.geometry,
                listener=Recorder(plan, model.adapter, stream, on_step=on_step),
                editor=editor,
                start=prefix.start if prefix is not None else None,
                **model.inputs(sample, seed=run.seed, settings=run.settings),
            )
        video = finished(output).numpy()
        writer.add_array(
            "output",
            "pixels",
            dims=(dims.FRAME, dims.Y, dims.X, dims.CHANNEL),
            shape=video.shape,
            dtype="uint8",
            coords={},  # frames are numbered by the store
            profile="compact",
        )
        writer.write("output", "pixels", {}, video)
        writer.set_steps(steps)
        writer.add_scores([*scored.scores, *_scores(sample, video, step=None)])
        writer.commit(seconds=time.perf_counter() - started)


def _size(settings: SamplerSettings) -> str:
    return f"{settings.frames} frames of {settings.height}×{settings.width}"


class _ScoredSink:
    """Passes blocks on to the writer and scores every decoded x̂0 on its way."""

    def __init__(self, writer: store.RunWriter, sample: Sample, plan: Plan) -> None:
        self._writer = writer
        self._sample = sample
        self._steps = {(a.site.name, a.reduction.name): a.steps for a in plan.arrays}
        self._lock = threading.Lock()
        self._scores: list[Score] = []

    @property
    def scores(self) -> list[Score]:
        """What was scored, by step."""
        return sorted(self._scores, key=lambda score: score.step or 0)

    def write(self, site: str, reduction: str, index: dict[str, int], block: NDArray[np.generic]) -> None:
        """See `interp.stream.Sink`."""
        self._writer.write(site, reduction, index, block)
        if (site, reduction) == ("x0_hat", "pixels"):
            step = self._steps[site, reduction][index[dims.STEP]]
            found = _scores(self._sample, block.astype(np.uint8, copy=False), step=step)
            with self._lock:
                self._scores += found


def _scores(sample: Sample, video: NDArray[np.uint8], *, step: int | None) -> list[Score]:
    """What the sample's world says of a video; one of another length is shown in as many frames as the true one.

    Nothing for a picture and prompt of the user's own, nothing for a video of another size than the true one, as a
    scorer reads cells, and nothing for a single frame.
    """
    family, true = sample.record.family, sample.video
    if family not in worlds or true is None or true.shape[1:] != video.shape[1:] or len(video) < 2:
        return []
    values = worlds[family].score(sample, in_time(video, len(true)))
    return [Score(scorer=family, metric=metric, value=value, step=step) for metric, value in values.items()]


def _layer_sites(plan: Plan) -> list[tuple[LayerSite, list[int]]]:
    """Which layers of which sites any array of the plan needs."""
    layers: dict[LayerSite, set[int]] = {}
    for array in plan.arrays:
        if isinstance(array.site, LayerSite):
            layers.setdefault(array.site, set()).update(array.layers)
    return [(site, sorted(numbers)) for site, numbers in layers.items()]


def _coords(array: ArrayPlan) -> dict[str, object]:
    """Labels of the axes that are no places; the store numbers frames, rows, columns and channels."""
    coords: dict[str, object] = {dims.STEP: np.array(array.steps)}
    if array.branches:
        coords[dims.BRANCH] = np.array(array.branches)
    if array.layers:
        coords[dims.LAYER] = np.array(array.layers)
    return coords | array.reduction.labels()
