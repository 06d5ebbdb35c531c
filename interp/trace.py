"""Tracing: run the real pipeline under nnsight and label every value by what ran.

One nnsight observer sees the modules in the order in which they run (decision 0003). The
denoiser's input says which expert runs, and with the pipeline's `cache_context` which branch each
of its rows is; the scheduler, made visible to nnsight as a module for the time of the run, says
which step is over.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import MethodType
from typing import Any, Protocol

import torch
from nnsight import NNsight
from nnsight.intervention.interleaver import Mediator

from interp import noise
from interp.adapters import Forward, ModelAdapter, Place
from interp.attention import Attended, Watch
from interp.errors import UnsupportedModel
from interp.geometry import Geometry
from interp.recorder import Label
from interp.sites import LayerSite, StepValues
from store.records import SamplerSettings, StepInfo

Tensor = torch.Tensor
ROOT = "model"
SCHEDULER = "scheduler_step"


class Listener(Protocol):
    """Who is told what ran: a `Recorder`, or a test."""

    def wants(self, site: str, label: Label) -> bool:
        """Whether `layer` should be called for this value."""
        ...

    def layer(self, site: str, label: Label, value_fyxc: Any) -> None:
        """One value of a layer's site: a tensor, or of a site with `attention` an `Attended`."""
        ...

    def step(self, values: StepValues) -> None:
        """One finished step."""
        ...


class TracedPipeline:
    """A pipeline that can be run with a listener.

    Args:
        adapter: Says where in the pipeline things are.
    """

    def __init__(self, adapter: ModelAdapter) -> None:
        self._adapter = adapter
        self._module = _PipelineModule(adapter)
        self._envoy = NNsight(self._module)

    def run(
        self,
        *,
        sites: list[tuple[LayerSite, list[int]]],
        settings: SamplerSettings,
        geometry: Geometry,
        listener: Listener,
        **inputs: Any,
    ) -> tuple[Any, tuple[StepInfo, ...]]:
        """Run the pipeline once.

        Args:
            sites: Which sites of which layers to show to the listener.
            settings: As planned; the labels come from what runs.
            geometry: As planned.
            listener: Is told every value and every step, in order.
            **inputs: Keyword arguments of the pipeline.

        Returns:
            What the pipeline returned, and the steps that ran.
        """
        observer = _Observer(self._adapter, self._module.scheduler_step, sites, settings, geometry, listener)
        with _prepared(self._adapter, self._module.scheduler_step, observer), self._envoy.trace(**inputs):
            Mediator.current("capture").caches.append(observer)
            result = self._envoy.output.save()
        return result, tuple(observer.steps)


class _SchedulerStep(torch.nn.Module):
    """A scheduler's `step` as a module, so that nnsight sees what it is given and what it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler: Any = None
        """Which scheduler was called last: the pipeline's, or a copy of it."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return type(self.scheduler).step(self.scheduler, *args, **kwargs)


class _VisibleStep:
    """What stands for the `step` of `scheduler` during a run."""

    def __init__(self, module: _SchedulerStep, scheduler: Any, adapter: ModelAdapter) -> None:
        self._module = module
        self._scheduler = scheduler
        self._adapter = adapter
        # Some pipelines look at the signature to see which arguments a scheduler takes.
        self.__signature__ = inspect.signature(MethodType(type(scheduler).step, scheduler))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._module.scheduler = self._scheduler
        return self._module(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """The `step` of a copy of the scheduler, seen only where copies make the video: some denoise sound."""
        copied = memo[id(self._scheduler)]
        if self._adapter.schedulers == "copies":
            return _VisibleStep(self._module, copied, self._adapter)
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


class _Observer:
    """What nnsight calls a cache: it is shown the values that it subscribes to, as they happen."""

    def __init__(
        self,
        adapter: ModelAdapter,
        scheduler_step: _SchedulerStep,
        sites: list[tuple[LayerSite, list[int]]],
        settings: SamplerSettings,
        geometry: Geometry,
        listener: Listener,
    ) -> None:
        self._adapter = adapter
        self._scheduler_step = scheduler_step
        self._sites = sites
        self._settings = settings
        self._geometry = geometry
        self._listener = listener
        self.context: str | None = None
        """Name of the cache context that the pipeline has entered."""
        self.steps: list[StepInfo] = []
        self._forward: Forward | None = None
        self._branches: tuple[str, ...] = ()
        self._forwards = 0
        self._predicted: dict[str, Tensor] = {}
        self._calls: list[dict[str, Any]] = []
        self._watching: _Attention | None = None

    def subscriptions(self) -> dict[str, list[Callable[[Any], None]]]:
        """Location → who is shown its value (nnsight asks once a run)."""
        wanted: dict[str, list[Callable[[Any], None]]] = {}
        for expert, denoiser in self._adapter.denoisers().items():
            wanted[f"{ROOT}.{expert}.input"] = [
                self._denoiser_starts(expert, inspect.signature(type(denoiser).forward))
            ]
            blocks = self._adapter.blocks(denoiser)
            names = {id(module): name for name, module in denoiser.named_modules()}
            for site, layers in self._sites:
                for layer in layers:
                    module = self._adapter.module(blocks[layer], site.name)
                    slot = self._adapter.slot(blocks[layer], site)
                    location = f"{ROOT}.{expert}.{names[id(module)]}"
                    if site.attention:
                        wanted.setdefault(f"{location}.input", []).append(self._attention_starts(site, layer))
                        wanted.setdefault(f"{location}.output", []).append(self._attention_ends)
                    else:
                        wanted.setdefault(f"{location}.{slot}", []).append(self._layer_ran(site, layer, slot))
            wanted[f"{ROOT}.{expert}.output"] = [self._denoiser_ends]
        wanted[f"{ROOT}.{SCHEDULER}.input"] = [self._scheduler_starts]
        wanted[f"{ROOT}.{SCHEDULER}.output"] = [self._scheduler_ends]
        return wanted

    def observe_selected(self, selected: list[Callable[[Any], None]], value: Any) -> None:
        """Show `value` to those that subscribed to its location."""
        for show in selected:
            show(value)

    def _denoiser_starts(self, expert: str, signature: inspect.Signature) -> Callable[[Any], None]:
        def show(value: Any) -> None:
            args, kwargs = value
            given = signature.bind_partial(None, *args, **kwargs).arguments  # None for self
            self._forward = Forward(expert, self.context, self._adapter.rows(given), self._forwards, given)
            self._branches = self._adapter.branches(self._forward)
            self._forwards += 1

        return show

    def _layer_ran(self, site: LayerSite, layer: int, slot: str) -> Callable[[Any], None]:
        def show(value: Any) -> None:
            assert self._forward is not None
            labels = [Label(len(self.steps), branch, self._forward.expert, layer) for branch in self._branches]
            if not any(self._listener.wants(site.name, label) for label in labels):
                return
            hidden = self._adapter.hidden(value, slot)
            grid = self._adapter.tokens(hidden, self._geometry, Place(site.name, layer, self._forward))
            for row, label in enumerate(labels):
                self._listener.layer(site.name, label, grid[row])

        return show

    def _attention_starts(self, site: LayerSite, layer: int) -> Callable[[Any], None]:
        def show(value: Any) -> None:
            assert self._forward is not None
            labels = [Label(len(self.steps), branch, self._forward.expert, layer) for branch in self._branches]
            if any(self._listener.wants(site.name, label) for label in labels):
                place = Place(site.name, layer, self._forward)
                self._watching = _Attention(self._adapter, self._geometry, self._listener, place, labels)
                self._watching.__enter__()

        return show

    def _attention_ends(self, value: Any) -> None:
        if self._watching is not None:
            watching = self._watching
            self.close()
            watching.check()

    def close(self) -> None:
        """End what a module that raised has left open."""
        if self._watching is not None:
            self._watching.__exit__(None, None, None)
            self._watching = None

    def _denoiser_ends(self, value: Any) -> None:
        assert self._forward is not None
        predicted = self._adapter.predicted(value, self._geometry, self._forward)
        self._predicted.update(zip(self._branches, predicted, strict=True))

    def _scheduler_starts(self, value: Any) -> None:
        args, kwargs = value
        # Every diffusers scheduler calls them model_output, timestep and sample, and pipelines name them or not.
        signature = inspect.signature(type(self._scheduler_step.scheduler).step)
        given = signature.bind_partial(None, *args, **kwargs).arguments
        if self._adapter.schedulers == "copies":  # frame after frame, each result written over what was given
            given["sample"] = given["sample"].clone()
        self._calls.append(given)

    def _scheduler_ends(self, value: Any) -> None:
        assert self._forward is not None
        given = self._adapter.whole_step(self._calls, self._forward)
        if given is None:
            return
        level = noise.level(self._scheduler_step.scheduler, given["timestep"])
        info = StepInfo(
            step=len(self.steps),
            timestep=float(given["timestep"]),
            sigma=level.sigma,
            sigma_next=level.sigma_next,
            expert=self._forward.expert,
            guidance=self._adapter.guidance(self._settings, self._forward.expert),
        )
        sample, guided = self._adapter.given(given["sample"], given["model_output"], self._geometry, self._forward)
        predicted = {**self._predicted, "guided": guided}
        velocity = {branch: level.velocity(sample, value) for branch, value in predicted.items()}
        self._listener.step(StepValues(info, sample, velocity, level.signal))
        self.steps.append(info)
        self._forwards, self._predicted, self._calls = 0, {}, []


class _Attention(Watch):
    """One self-attention while it runs: its rows are shown as they go into the softmax, in one call or several."""

    def __init__(
        self, adapter: ModelAdapter, geometry: Geometry, listener: Listener, place: Place, labels: list[Label]
    ) -> None:
        super().__init__(self._called)
        self._adapter, self._geometry, self._listener, self._place = adapter, geometry, listener, place
        self._labels = labels
        self._seen = 0

    def check(self) -> None:
        """Refuse an attention that did not go through PyTorch's softmax attention, or not as often as it has rows."""
        if self._seen != len(self._labels):
            raise UnsupportedModel(
                f"the self-attention of layer {self._place.layer} showed {self._seen} of {len(self._labels)} rows; "
                "pattern needs PyTorch's scaled_dot_product_attention: set the attention backend to native"
            )

    def _called(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        rows, tokens = query.shape[0], query.shape[2]
        if is_causal or key.shape[2] != tokens:
            raise UnsupportedModel(f"the self-attention of layer {self._place.layer} is causal or has other keys")
        index = torch.arange(rows * tokens).view(rows, tokens, 1)
        at_bfyx = self._adapter.tokens(index, self._geometry, self._place)[..., 0]
        if not self._adapter.joint and at_bfyx.numel() < index.numel():
            raise UnsupportedModel(f"the self-attention of layer {self._place.layer} has keys that are no video tokens")
        mask = None if attn_mask is None else attn_mask[(None,) * (4 - attn_mask.ndim)]
        for at_fyx in at_bfyx:
            label = self._labels[self._seen]
            self._seen += 1
            if self._listener.wants(self._place.site, label):
                used = query.shape[-1] ** -0.5 if scale is None else scale
                self._listener.layer(self._place.site, label, Attended(query, key, mask, used, at_fyx))


@contextmanager
def _prepared(adapter: ModelAdapter, scheduler_step: _SchedulerStep, observer: _Observer) -> Iterator[None]:
    """The pipeline with its scheduler and its cache contexts made visible, for the time of one run."""
    pipeline = adapter.pipeline
    scheduler = pipeline.scheduler
    noise.supported(scheduler)
    with ExitStack() as stack:
        stack.callback(observer.close)
        stack.enter_context(_replaced(scheduler, "step", _VisibleStep(scheduler_step, scheduler, adapter)))
        for denoiser in adapter.denoisers().values():
            if hasattr(denoiser, "cache_context"):
                stack.enter_context(_replaced(denoiser, "cache_context", _named(denoiser, observer)))
        shown = getattr(pipeline, "_progress_bar_config", {})
        pipeline.set_progress_bar_config(**{**shown, "disable": True})
        stack.callback(pipeline.set_progress_bar_config, **shown)
        yield


def _named(denoiser: Any, observer: _Observer) -> Callable[..., Any]:
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
