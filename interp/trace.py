"""Tracing: run the real pipeline under nnsight and label every value by what ran.

One nnsight observer sees the modules in the order in which they run (decision 0003). The
denoiser's input says which expert runs, and with the pipeline's `cache_context` which branch each
of its rows is; the scheduler, made visible to nnsight as a module for the time of the run, says
which step is over.

An editor may change what the model goes on with: values inside blocks, by nnsight workers that wait at the edited
modules for the whole run, and x_s, where the scheduler hands it on and where the pipeline draws it. Listeners are shown
what the model goes on with.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from types import MethodType
from typing import Any

import torch
from nnsight import NNsight
from nnsight.intervention.interleaver import Mediator

from interp import noise
from interp.adapters import ModelAdapter
from interp.geometry import Geometry
from interp.listeners import Editor, Listener, Start
from interp.observer import Observer
from interp.sites import LayerSite
from store.records import SamplerSettings, StepInfo


class TracedPipeline:
    """A pipeline that can be run with a listener.

    Args:
        adapter: Says where in the pipeline things are.
    """

    def __init__(self, adapter: ModelAdapter) -> None:
        self._adapter = adapter
        self._module = _PipelineModule(adapter)
        self._envoy = NNsight(self._module)
        kinds = {denoiser.dtype for denoiser in adapter.denoisers().values()}
        self.latent_dtype: torch.dtype | None = torch.float32 if kinds == {torch.float32} else None
        """In which the pipeline holds x_s behind the first step; a model in bfloat16 tells by a run from step 0."""

    def run(
        self,
        *,
        sites: list[tuple[LayerSite, list[int]]],
        settings: SamplerSettings,
        geometry: Geometry,
        listener: Listener,
        editors: Sequence[Editor] = (),
        start: Start | None = None,
        runs: int = 1,
        graphs: Collection[int] = (),
        **inputs: Any,
    ) -> tuple[Any, tuple[StepInfo, ...]]:
        """Run the pipeline once, for one run or for a batch of them.

        Args:
            sites: Which sites of which layers to show to the listener.
            settings: As planned; the labels come from what runs.
            geometry: As planned.
            listener: Is told every value and every step, in order.
            editors: Change values on their way, one for each run; none, if nothing changes.
            start: Begin at a later step, with its x_s.
            runs: How many videos the inputs ask for (`ModelAdapter.batched`).
            graphs: Steps whose denoisers and guidance run with autograd, so that the listener is given a velocity that
                gradients can be taken of; x_s has none, so no gradient goes from one step to another.
            **inputs: Keyword arguments of the pipeline.

        Returns:
            What the pipeline returned, and all its steps.
        """
        observer = Observer(self._adapter, sites, settings, geometry, listener, editors, start, runs)
        workers = observer.workers()
        prepared = _prepared(self._adapter, self._module.scheduler_step, observer, frozenset(graphs))
        with prepared, self._envoy.trace(**inputs):
            mediator = Mediator.current("capture")
            mediator.caches.append(observer)
            mediator.interleaver.mediators.extend(workers)
            result = self._envoy.output.save()
        if start is None:
            self.latent_dtype = observer.latent_dtype or self.latent_dtype
        return result, tuple(observer.steps)


class _SchedulerStep(torch.nn.Module):
    """A scheduler's `step` as a module, so that nnsight sees what it is given and what it returns."""

    observer: Observer | None = None
    """Of the run that goes on."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        assert self.observer is not None
        scheduler = self.observer.scheduler
        return self.observer.handed_on(type(scheduler).step(scheduler, *args, **kwargs))


class _VisibleStep:
    """What stands for the `step` of `scheduler` during a run."""

    def __init__(self, module: _SchedulerStep, observer: Observer, scheduler: Any, adapter: ModelAdapter) -> None:
        self._module = module
        self._observer = observer
        self._scheduler = scheduler
        self._adapter = adapter
        # Some pipelines look at the signature to see which arguments a scheduler takes.
        self.__signature__ = inspect.signature(MethodType(type(scheduler).step, scheduler))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._observer.scheduler = self._scheduler
        return self._module(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """The `step` of a copy of the scheduler, seen only where copies make the video: some denoise sound."""
        copied = memo[id(self._scheduler)]
        if self._adapter.schedulers == "copies":
            return _VisibleStep(self._module, self._observer, copied, self._adapter)
        return MethodType(type(copied).step, copied)


class _PipelineModule(torch.nn.Module):
    """The pipeline as one module whose children are what can be traced."""

    def __init__(self, adapter: ModelAdapter) -> None:
        super().__init__()
        self._adapter = adapter
        for name, denoiser in adapter.denoisers().items():
            self.add_module(name, denoiser)
        self.scheduler_step = _SchedulerStep()

    def forward(self, **inputs: Any) -> Any:
        return self._adapter.pipeline(**inputs)


@contextmanager
def _prepared(
    adapter: ModelAdapter, scheduler_step: _SchedulerStep, observer: Observer, graphs: frozenset[int]
) -> Iterator[None]:
    """The pipeline with its scheduler and its cache contexts made visible, for the time of one run."""
    pipeline = adapter.pipeline
    scheduler = pipeline.scheduler
    noise.supported(scheduler)
    with ExitStack() as stack:
        stack.callback(observer.close)
        visible = _VisibleStep(scheduler_step, observer, scheduler, adapter)
        stack.enter_context(_replaced(scheduler, "step", visible))
        stack.enter_context(_replaced(scheduler_step, "observer", observer))
        stack.enter_context(_replaced(pipeline, "prepare_latents", _drawn(adapter, observer)))
        if observer.start is not None:
            _begin_later(stack, scheduler, observer.start.step)
        if graphs:
            _with_graphs(stack, adapter, scheduler_step, observer, graphs)
        for denoiser in adapter.denoisers().values():
            if hasattr(denoiser, "cache_context"):
                stack.enter_context(_replaced(denoiser, "cache_context", _named(denoiser, observer)))
        shown = getattr(pipeline, "_progress_bar_config", {})
        pipeline.set_progress_bar_config(**{**shown, "disable": True})
        stack.callback(pipeline.set_progress_bar_config, **shown)
        yield


def _named(denoiser: Any, observer: Observer) -> Callable[..., Any]:
    original = denoiser.cache_context

    @contextmanager
    def cache_context(name: str, **kwargs: Any) -> Iterator[None]:
        observer.context = name
        try:
            with original(name, **kwargs):
                yield
        finally:
            observer.context = None

    return cache_context


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """`owner.name` is `value` inside the context: an attribute of the instance over that of its class."""
    owner.__dict__[name] = value
    try:
        yield
    finally:
        del owner.__dict__[name]


def _drawn(adapter: ModelAdapter, observer: Observer) -> Callable[..., Any]:
    """The pipeline's `prepare_latents`, and then what the observer makes of the first x_s."""
    drawn_by = adapter.pipeline.prepare_latents

    @wraps(drawn_by)
    def both(*args: Any, **kwargs: Any) -> Any:
        return observer.latents.drawn(adapter.prepare(drawn_by, *args, **kwargs))

    return both


def _with_graphs(
    stack: ExitStack, adapter: ModelAdapter, scheduler_step: _SchedulerStep, observer: Observer, graphs: frozenset[int]
) -> None:
    """Turn autograd on from a step's first denoiser up to its scheduler, for the time of `stack`.

    Pipelines turn it off for a whole call. Gradients are for activations, so that weights need none: without, a graph
    would hold the input of every linear layer.
    """

    def begins(*args: Any) -> None:
        torch.set_grad_enabled(len(observer.steps) in graphs)

    def ends(*args: Any) -> None:
        torch.set_grad_enabled(False)

    stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())
    stack.callback(scheduler_step.register_forward_pre_hook(ends).remove)
    for denoiser in adapter.denoisers().values():
        stack.callback(denoiser.register_forward_pre_hook(begins, prepend=True).remove)
        for weight in denoiser.parameters():
            if weight.requires_grad:
                stack.callback(weight.requires_grad_)
                weight.requires_grad_(False)


def _begin_later(stack: ExitStack, scheduler: Any, step: int) -> None:
    """Let the pipeline's loop begin at `step`, for the time of `stack`: the timesteps before it are not handed out."""
    set_timesteps = scheduler.set_timesteps
    set_begin_index = getattr(scheduler, "set_begin_index", None)

    @wraps(set_timesteps)
    def later(*args: Any, **kwargs: Any) -> None:
        set_timesteps(*args, **kwargs)
        scheduler.timesteps = scheduler.timesteps[step:]
        if set_begin_index is not None:
            set_begin_index(step)

    stack.enter_context(_replaced(scheduler, "set_timesteps", later))
    if set_begin_index is not None:  # pipelines set it to 0 themselves
        stack.enter_context(_replaced(scheduler, "set_begin_index", lambda begin_index=0: set_begin_index(step)))
