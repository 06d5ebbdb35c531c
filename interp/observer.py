"""Tells of runs as they happen: labels values by what runs, shows them to a listener, lets editors change them.

One call of the pipeline makes one video or a batch of them. The rows of a forward are then those of all runs under one
branch, followed by those under the other where both run in one forward. A listener is shown the values of all runs at
once, an editor those of its own run.

What a step starts from is told and changed in `latents`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from nnsight.intervention.interleaver import Event, Interleaver, Mediator, Pending

from interp import noise
from interp.adapters import Forward, ModelAdapter, Place
from interp.errors import InterpError, UnsupportedModel
from interp.geometry import Geometry
from interp.latents import Latents
from interp.listeners import Editor, Listener, Start
from interp.recorder import Label
from interp.sites import LayerSite, StepValues
from interp.watched_attention import WatchedAttention
from interp.writing import with_rows, written
from store.records import SamplerSettings, StepInfo

Tensor = torch.Tensor
ROOT = "model"
SCHEDULER = "scheduler_step"


class Worker(Mediator):
    """An nnsight worker without code of its own: it waits at one location all through a run and may change what passes.

    Workers of a `with` block must ask for values in the order in which modules run, which nobody knows beforehand.
    """

    def __init__(self, location: str, change: Callable[[Any], Any]) -> None:
        super().__init__(code=None, glbls={}, lcls={})
        self._location = location
        self._change = change

    def start(self, interleaver: Interleaver | None = None) -> None:
        """Wait for the first visit (nnsight calls this when a run begins)."""
        self.interleaver = interleaver
        self.counts_at_start = dict(interleaver.counts) if interleaver is not None else {}
        self.pending = Pending(Event.VALUE, self._location, 0)

    def handle(self, provider: str, value: Any) -> Any:
        """What the model goes on with; wait for the next visit."""
        changed = self._change(value)
        self.pending = Pending(Event.VALUE, self._location, self.occurrence(provider) + 1)
        return changed


class Observer:
    """What nnsight calls a cache: it is shown the values that it subscribes to, as they happen."""

    def __init__(
        self,
        adapter: ModelAdapter,
        sites: list[tuple[LayerSite, list[int]]],
        settings: SamplerSettings,
        geometry: Geometry,
        listener: Listener,
        editors: Sequence[Editor],
        start: Start | None,
        runs: int,
    ) -> None:
        if editors and len(editors) != runs:
            raise InterpError(f"a batch of {runs} runs needs an editor for each or none, not {len(editors)}")
        self._adapter = adapter
        self._sites = sites
        self._settings = settings
        self._geometry = geometry
        self._listener = listener
        self._editors = tuple(editors)
        self._runs = runs
        self.start = start
        self.latents = Latents(adapter, geometry, editors, start)
        self.scheduler: Any = adapter.pipeline.scheduler
        """Which scheduler was called last: the pipeline's, or a copy of it."""
        self.context: str | None = None
        """Name of the cache context that the pipeline has entered."""
        self.steps: list[StepInfo] = list(start.steps) if start else []
        self._watching: WatchedAttention | None = None
        self._over: StepValues | None = None
        self.latent_dtype: torch.dtype | None = None
        """In which the pipeline holds x_s behind the first step; None where no such step has run."""
        self._forward: Forward | None = None
        self._branches: tuple[str, ...] = ()
        self._forwards = 0
        self._predicted: dict[str, Tensor] = {}
        self._calls: list[dict[str, Any]] = []
        """Arguments of the scheduler's calls of this step."""
        self._frames: list[Tensor] = []
        """Where frames are stepped one by one, the latents of each as the pipeline holds them."""
        self._called: list[Any] = []
        """Which schedulers they were."""

    def subscriptions(self) -> dict[str, list[Callable[[Any], None]]]:
        """Location → who is shown its value (nnsight asks once a run)."""
        wanted: dict[str, list[Callable[[Any], None]]] = {}
        for expert, denoiser in self._adapter.denoisers().items():
            wanted[f"{ROOT}.{expert}.input"] = [
                self._denoiser_starts(expert, inspect.signature(type(denoiser).forward))
            ]
            for location, site, layer, slot in self._locations(expert, denoiser, self._sites):
                if site.attention:
                    wanted.setdefault(f"{location}.input", []).append(self._attention_starts(site, layer))
                    wanted.setdefault(f"{location}.output", []).append(self._attention_ends)
                else:
                    wanted.setdefault(f"{location}.{slot}", []).append(self._layer_ran(site, layer, slot))
            wanted[f"{ROOT}.{expert}.output"] = [self._denoiser_ends]
        wanted[f"{ROOT}.{SCHEDULER}.input"] = [self._scheduler_starts]
        wanted[f"{ROOT}.{SCHEDULER}.output"] = [self._scheduler_ends]
        return wanted

    def workers(self) -> list[Worker]:
        """One for each location that the editor may change."""
        wanted: dict[LayerSite, set[int]] = {}
        for editor in self._editors:
            for site, layers in editor.sites:
                wanted.setdefault(site, set()).update(layers)
        edited = [(site, sorted(layers)) for site, layers in wanted.items()]
        return [
            Worker(f"{location}.{slot}", self._edit(site, layer, slot))
            for expert, denoiser in self._adapter.denoisers().items()
            for location, site, layer, slot in self._locations(expert, denoiser, edited)
        ]

    def _locations(
        self, expert: str, denoiser: Any, sites: list[tuple[LayerSite, list[int]]]
    ) -> Iterator[tuple[str, LayerSite, int, str]]:
        """What nnsight calls the modules of some sites of one denoiser, each with its site, layer and slot."""
        blocks = self._adapter.blocks(denoiser)
        names = {id(module): name for name, module in denoiser.named_modules()}
        for site, layers in sites:
            for layer in layers:
                module = self._adapter.module(blocks[layer], site.name)
                yield f"{ROOT}.{expert}.{names[id(module)]}", site, layer, self._adapter.slot(blocks[layer], site)

    def observe_selected(self, selected: list[Callable[[Any], None]], value: Any) -> None:
        """Show `value` to those that subscribed to its location."""
        for show in selected:
            show(value)

    def _denoiser_starts(self, expert: str, signature: inspect.Signature) -> Callable[[Any], None]:
        def show(value: Any) -> None:
            args, kwargs = value
            given = signature.bind_partial(None, *args, **kwargs).arguments  # None for self
            rows, left = divmod(self._adapter.rows(given), self._runs)
            if left:
                raise UnsupportedModel(
                    f"a forward of {type(self._adapter.pipeline).__name__} has {self._adapter.rows(given)} rows for "
                    f"{self._runs} videos: it does not make them side by side; ask for --batch 1"
                )
            self._forward = Forward(expert, self.context, rows, self._forwards, given)
            self._branches = self._adapter.branches(self._forward)
            self._forwards += 1

        return show

    def _labels(self, layer: int) -> list[Label]:
        """What runs now, for each row that a run has in the forward."""
        assert self._forward is not None
        return [Label(len(self.steps), branch, self._forward.expert, layer) for branch in self._branches]

    def _edit(self, site: LayerSite, layer: int, slot: str) -> Callable[[Any], Any]:
        """What the model goes on with at one location."""

        def change(value: Any) -> Any:
            assert self._forward is not None
            labels = self._labels(layer)
            if not any(editor.wants(site.name, label) for editor in self._editors for label in labels):
                return value
            rows = [(editor, label) for label in labels for editor in self._editors]
            geometry, place = self._geometry, Place(site.name, layer, self._forward)
            hidden = self._adapter.hidden(value, slot)
            changed = written(
                hidden,
                lambda raw: self._adapter.tokens(raw, geometry, place),
                lambda grid: with_rows(
                    grid, [editor.layer(site.name, at, grid[row]) for row, (editor, at) in enumerate(rows)]
                ),
            )
            if layer in self._adapter.text_layers(site.name):
                changed = written(
                    changed,
                    lambda raw: self._adapter.text_tokens(raw, geometry),
                    lambda text: with_rows(
                        text, [editor.text(site.name, at, text[row]) for row, (editor, at) in enumerate(rows)]
                    ),
                )
            return value if changed is hidden else self._adapter.replaced(value, slot, changed)

        return change

    def _layer_ran(self, site: LayerSite, layer: int, slot: str) -> Callable[[Any], None]:
        def show(value: Any) -> None:
            assert self._forward is not None
            labels = self._labels(layer)
            if not any(self._listener.wants(site.name, label) for label in labels):
                return
            hidden = self._adapter.hidden(value, slot)
            grid = self._adapter.tokens(hidden, self._geometry, Place(site.name, layer, self._forward))
            for rows, label in zip(grid.split(self._runs), labels, strict=True):
                self._listener.layer(site.name, label, rows)

        return show

    def _attention_starts(self, site: LayerSite, layer: int) -> Callable[[Any], None]:
        def show(value: Any) -> None:
            assert self._forward is not None
            labels = self._labels(layer)
            if any(self._listener.wants(site.name, label) for label in labels):
                place = Place(site.name, layer, self._forward)
                self._watching = WatchedAttention(
                    self._adapter, self._geometry, self._listener, place, labels, self._runs
                )
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
        self._predicted.update(zip(self._branches, predicted.split(self._runs), strict=True))

    def _scheduler_starts(self, value: Any) -> None:
        args, kwargs = value
        # Every diffusers scheduler calls them model_output, timestep and sample, and pipelines name them or not.
        signature = inspect.signature(type(self.scheduler).step)
        given = signature.bind_partial(None, *args, **kwargs).arguments
        if self.steps:
            self.latent_dtype = given["sample"].dtype
        if self._adapter.schedulers == "copies":  # frame after frame, each result written over what was given
            self._frames.append(given["sample"])
            given["sample"] = given["sample"].clone()
        self._calls.append(given)
        self._called.append(self.scheduler)

    def _scheduler_ends(self, value: Any) -> None:
        values = self._step_over()
        if values is None:
            return
        self._listener.step(values)
        self.steps.append(values.info)
        self._forwards, self._predicted, self._over = 0, {}, None
        self._calls, self._frames, self._called = [], [], []

    def _step_over(self) -> StepValues | None:
        """What the step did whose last call of the scheduler has just been made; None while the step goes on."""
        if self._over is not None:
            return self._over
        assert self._forward is not None
        given = self._adapter.whole_step(self._calls, self._forward)
        if given is None:
            return None
        timestep = noise.number(given["timestep"], self.scheduler.timesteps)
        level = noise.level(self.scheduler, timestep)
        info = StepInfo(
            step=len(self.steps),
            timestep=timestep,
            sigma=level.sigma,
            sigma_next=level.sigma_next,
            expert=self._forward.expert,
            guidance=self._adapter.guidance(self._settings, self._forward.expert),
        )
        # Where the step has a graph, a view that is taken without autograd would be cut from it.
        with torch.set_grad_enabled(given["model_output"].requires_grad):
            sample, guided = self._adapter.given(given["sample"], given["model_output"], self._geometry, self._forward)
            predicted = {**self._predicted, "guided": guided}
            velocity = {branch: level.velocity(sample, value) for branch, value in predicted.items()}
        self._over = StepValues(info, sample, velocity, level.signal)
        return self._over

    def handed_on(self, result: Any) -> Any:
        """What the scheduler returns, with the x_s that the next step starts from as editors want it."""
        if not self._editors or len(self.steps) + 1 >= self._settings.steps:
            return result
        values = self._step_over()
        return result if values is None else self.latents.handed_on(result, values, self._frames[:-1], self._called)
