"""Batches of runs: generated together in one call of the pipeline, kept each by itself.

A batch is generated, and then completed: its last blocks written, its videos scored, its runs committed. A `Finisher`
completes one batch on a thread of its own while the next is generated.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

import store
from interp import intervening, provenance, resuming
from interp.geometry import Geometry
from interp.memory import explained
from interp.model import Model, all_finished
from interp.planning import ArrayPlan, Plan
from interp.recorder import Recorder
from interp.scoring import Shown, scorable, scored
from interp.sites import LayerSite
from interp.stream import Stream
from store import Json, Run, RunExists, Sample, SamplerSettings, Score, StepInfo, dims
from store.encodings import Quantised

_log = logging.getLogger(__name__)

_STREAM: Final = {False: {"budget": 256 << 20, "writers": 1}, True: {"budget": 4 << 30, "writers": 4}}
"""How blocks leave a CPU and a GPU: a GPU makes them faster than one thread writes."""
_UNSCORED: Final = 64 << 20
"""Bytes of a run's x̂0 videos that wait to be scored."""
_COMMITS: Final = 4
"""Runs of a batch that are completed at once: most of it is waiting for the disk."""


class Batch(NamedTuple):
    """Runs that can be generated together: of the same settings and capture spec."""

    pairs: tuple[tuple[Sample, Run], ...]
    plan: Plan
    """What each writes."""

    @property
    def steps(self) -> int:
        """Denoising steps of all runs."""
        return sum(run.settings.steps for _, run in self.pairs)


class Made(NamedTuple):
    """What became of a run."""

    run: Run
    now: bool
    """False where another process has made the same run in the meantime; its result is the same."""


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
    by_start: dict[int, list[_Asked]] = {}
    runs = [run for _, run in batch.pairs]
    prefixes = resuming.prefixes(model, runs, batch.plan, acts) if resume else [None] * len(runs)
    for (sample, run), prefix in zip(batch.pairs, prefixes, strict=True):
        by_start.setdefault(prefix.start.step if prefix else 0, []).append(_Asked(sample, run, prefix))
    for asked in by_start.values():
        yield _generate(model, asked, batch.plan, acts, on_step)


class _Asked(NamedTuple):
    sample: Sample
    run: Run
    prefix: resuming.Prefix | None


def _generate(
    model: Model,
    asked: Sequence[_Asked],
    plan: Plan,
    acts: store.ActivationStore,
    on_step: Callable[[int], object],
) -> Generated:
    started, device = time.perf_counter(), model.device  # diffusers goes through all modules to tell it
    taken = provenance.take(device)
    with ExitStack() as opened:
        rows: list[_Row] = []
        gone: list[Run] = []
        for one in asked:
            try:
                rows.append(_Row(opened.enter_context(acts.begin_run(one.run, taken)), one, plan))
            except RunExists:
                gone.append(one.run)
        if not rows:
            return Generated([], gone, None, [], (), 0.0, opened.pop_all())
        stream = opened.enter_context(Stream(_Split(rows), **_STREAM[device.type == "cuda"]))
        with explained(device, _size(rows, model), runs=len(rows)):
            videos, steps = _run(model, rows, plan, acts, stream, on_step)
        seconds = (time.perf_counter() - started) / len(rows)
        return Generated(rows, gone, stream, videos, steps, seconds, opened.pop_all())


def _run(
    model: Model,
    rows: Sequence[_Row],
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


class Generated:
    """Runs whose videos are there, and which the store does not have yet: `finish` them, or `discard` them."""

    def __init__(
        self,
        rows: Sequence[_Row],
        gone: Sequence[Run],
        stream: Stream | None,
        videos: Sequence[NDArray[np.uint8]],
        steps: tuple[StepInfo, ...],
        seconds: float,
        opened: ExitStack,
    ) -> None:
        self._rows, self._gone, self._stream, self._videos, self._steps = rows, gone, stream, videos, steps
        self._seconds = seconds
        self._opened = opened

    def finish(self) -> list[Made]:
        """Write what is under way, score, and make each run visible.

        Raises:
            StoreError: if the store cannot be written; runs that were committed until then are kept.
        """
        found = [Made(run, now=False) for run in self._gone]
        if self._stream is None:
            return found
        with self._opened:
            self._stream.drain()
            ends = [Shown(row.sample, video, None) for row, video in zip(self._rows, self._videos, strict=True)]
            waiting = [row.waiting for row in self._rows]
            scores = iter(scored([*ends, *(shown for some in waiting for shown in some)]))
            last = [next(scores) for _ in ends]
            for row, some in zip(self._rows, waiting, strict=True):
                row.scores += [score for _ in some for score in next(scores)]
            with ThreadPoolExecutor(min(_COMMITS, len(self._rows))) as pool:
                return found + list(pool.map(self._complete, self._rows, self._videos, last))

    def _complete(self, row: _Row, video: NDArray[np.uint8], last: list[Score]) -> Made:
        row.write_video(video)
        row.writer.set_steps(self._steps)
        row.writer.add_scores([*sorted(row.scores, key=lambda score: score.step or 0), *last])
        try:
            row.writer.commit(seconds=self._seconds)
        except RunExists:
            return Made(row.run, now=False)
        return Made(row.run, now=True)

    def discard(self) -> None:
        """Leave nothing of them."""
        self._opened.close()


class Finisher:
    """Completes batches beside the thread that generates them, one at a time.

    A sweep has at most one batch in generation and one that is being completed. An error in completing one is raised
    by the next call; leaving the context waits for what is under way.

    Args:
        done: Told of each run that is complete, by the thread that generates.
    """

    def __init__(self, done: Callable[[Made], object]) -> None:
        self._done = done
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="stepscope-finisher")
        self._pending: Future[list[Made]] | None = None

    def take(self, batch: Generated) -> None:
        """Complete a batch once the one before it is complete."""
        try:
            self._wait()
        except BaseException:
            batch.discard()
            raise
        self._pending = self._pool.submit(batch.finish)

    def check(self) -> None:
        """Raise what has gone wrong until now."""
        if self._pending is not None and self._pending.done():
            self._wait()

    def _wait(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            for made in pending.result():
                self._done(made)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._wait()
        except Exception as second:
            if error is None:
                raise
            _log.error("the runs before could not be completed either: %s", second)
        finally:
            self._pool.shutdown()


class _Row:
    """One run of a batch while it is made: a sink of its blocks, which keeps decoded x̂0 for scoring."""

    def __init__(self, writer: store.RunWriter, asked: _Asked, plan: Plan) -> None:
        self.writer = writer
        self.sample, self.run, self.prefix = asked
        self.waiting: list[Shown] = []
        """Decoded x̂0 that are not scored yet."""
        self.scores: list[Score] = []
        self._steps = {(a.site.name, a.reduction.name): a.steps for a in plan.arrays}
        self._lock = threading.Lock()
        for array in plan.arrays:
            _announce(writer, array, plan.geometry)

    def write(self, site: str, reduction: str, index: dict[str, int], block: NDArray[np.generic] | Quantised) -> None:
        """See `interp.stream.Sink`."""
        self.writer.write(site, reduction, index, block)
        if isinstance(block, Quantised):
            return
        if (site, reduction) == ("x0_hat", "pixels") and scorable(self.sample, block.shape):
            step = self._steps[site, reduction][index[dims.STEP]]
            with self._lock:
                self.waiting.append(Shown(self.sample, block.astype(np.uint8, copy=False), step))
                full: list[Shown] = []
                if sum(shown.video.nbytes for shown in self.waiting) > _UNSCORED:
                    full, self.waiting = self.waiting, []
            found = [score for scores in scored(full) for score in scores]
            with self._lock:
                self.scores += found

    def write_video(self, video: NDArray[np.uint8]) -> None:
        """Write the finished video, `[f, y, x, 3]`."""
        self.writer.add_array(
            "output",
            "pixels",
            dims=(dims.FRAME, dims.Y, dims.X, dims.CHANNEL),
            shape=video.shape,
            dtype="uint8",
            coords={},  # frames are numbered by the store
            profile="compact",
        )
        self.writer.write("output", "pixels", {}, video)


class _Split:
    """Gives each run of a batch its part of a block."""

    def __init__(self, rows: Sequence[_Row]) -> None:
        self._rows = rows

    def write(self, site: str, reduction: str, index: dict[str, int], block: NDArray[np.generic] | Quantised) -> None:
        """See `interp.stream.Sink`; the runs are the block's first axis."""
        parts = map(Quantised, *block) if isinstance(block, Quantised) else block
        for row, part in zip(self._rows, parts, strict=True):
            row.write(site, reduction, index, part)


def _announce(writer: store.RunWriter, array: ArrayPlan, geometry: Geometry) -> None:
    writer.add_array(
        array.site.name,
        array.reduction.name,
        dims=array.dims,
        shape=array.shape,
        dtype=str(array.dtype).removeprefix("torch."),
        coords=_coords(array),
        attrs=_attributes(array, geometry),
        files_along=array.dims[: -len(array.cell)] if array.reduction.by_cell else (dims.STEP,),
        profile="compact" if array.reduction.compressible else "fast",
        encoding=array.encoding,
    )


def _attributes(array: ArrayPlan, geometry: Geometry) -> Json:
    """How many heads lie side by side along the channels, where that is so: nothing else in the store tells."""
    return {"heads": geometry.heads} if array.site.by_head and dims.CHANNEL in array.dims else {}


def _coords(array: ArrayPlan) -> dict[str, Any]:
    """Labels of the axes that are no places; the store numbers frames, rows, columns and channels."""
    coords: dict[str, Any] = {dims.STEP: np.array(array.steps)}
    if array.branches:
        coords[dims.BRANCH] = np.array(array.branches)
    if array.layers:
        coords[dims.LAYER] = np.array(array.layers)
    return coords | array.reduction.labels()


def _layer_sites(plan: Plan) -> list[tuple[LayerSite, list[int]]]:
    """Which layers of which sites any array of the plan needs."""
    layers: dict[LayerSite, set[int]] = {}
    for array in plan.arrays:
        if isinstance(array.site, LayerSite):
            layers.setdefault(array.site, set()).update(array.layers)
    return [(site, sorted(numbers)) for site, numbers in layers.items()]


def _size(rows: Sequence[_Row], model: Model) -> str:
    settings: SamplerSettings = rows[0].run.settings
    each = f"{settings.frames} frames of {settings.height}×{settings.width} in {model.ref.dtype}"
    return each if len(rows) == 1 else f"a batch of {len(rows)} videos, each of {each}"
