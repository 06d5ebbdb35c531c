"""Tells of runs as they happen: labels values by what runs, shows them to a listener, lets editors change them.

One call of the pipeline makes one video or a batch of them. The rows of a forward are then those of all runs under one
branch, followed by those under the other where both run in one forward. A listener is shown the values of all runs at
once, an editor those of its own run.

Shape legend: b runs of the batch, n tokens, f frames, y rows, x columns, c channels.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from nnsight.intervention.interleaver import Event, Interleaver, Mediator, Pending

from interp import noise
from interp.adapters import Forward, ModelAdapter, Place
from interp.attention import Attended, Watch
from interp.errors import InterpError, UnsupportedModel
from interp.geometry import Geometry
from interp.recorder import Label
from interp.sites import LayerSite, StepValues
from interp.writing import written
from store.records import SamplerSettings, StepInfo

Tensor = torch.Tensor
ROOT = "model"
SCHEDULER = "scheduler_step"


class Listener(Protocol):
    """Who is told what ran: a `Recorder`, or a test."""

    def wants(self, site: str, label: Label) -> bool:
        """Whether `layer` should be called for this value."""
        ...

    def layer(self, site: str, label: Label, value_bfyxc: Any) -> None:
        """One value of a layer's site in all runs: a tensor, or of a site with `attention` an `Attended` for each."""
        ...

    def step(self, values: StepValues) -> None:
        """One finished step."""
        ...


class Upcoming(NamedTuple):
    """The step that is about to begin, for who may change what it starts from."""

    step: int
    sigma: float
    """Its noise level; NaN at the first step that runs, before the scheduler has told."""
    clean_share: float
    """Coefficient of x0 in x_s at this noise level; NaN where sigma is."""
    initial: float
    """Standard deviation of the noise that sampling starts from."""
    before: StepValues | None
    """What the step before it did, of the run that is edited; None at the first step that runs."""


class Editor(Protocol):
    """Who changes values of one run: `interp.editing.Edits`, or a test."""

    @property
    def sites(self) -> list[tuple[LayerSite, list[int]]]:
        """Which sites of which layers it may change."""
        ...

    def wants(self, site: str, label: Label) -> bool:
        """Whether it changes this value."""
        ...

    def layer(self, site: str, label: Label, value_fyxc: Tensor) -> Tensor:
        """The video tokens that the model goes on with; `value_fyxc` itself if they stay."""
        ...

    def text(self, site: str, label: Label, value_nc: Tensor) -> Tensor:
        """The same for the text tokens of a value that holds some."""
        ...

    def latent(self, upcoming: Upcoming, value_fyxc: Tensor, first: int) -> Tensor:
        """The x_s that a step starts from, latent frames `first` on; `value_fyxc` itself if it stays."""
        ...

    def resets(self, step: int) -> bool:
        """Whether x_s of a step is changed in a way that a solver's past does not belong to."""
        ...


class Start(NamedTuple):
    """Where a run begins that does not begin at step 0."""

    step: int
    latent_bfyxc: Tensor
    """x_s of this step, in the dtype in which runs from step 0 would have it."""
    steps: tuple[StepInfo, ...]
    """The steps before it."""


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
        self.scheduler: Any = adapter.pipeline.scheduler
        """Which scheduler was called last: the pipeline's, or a copy of it."""
        self.context: str | None = None
        """Name of the cache context that the pipeline has entered."""
        self.steps: list[StepInfo] = list(start.steps) if start else []
        self._watching: _Attention | None = None
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
                lambda grid: _rows(
                    grid, [editor.layer(site.name, at, grid[row]) for row, (editor, at) in enumerate(rows)]
                ),
            )
            if layer in self._adapter.text_layers(site.name):
                changed = written(
                    changed,
                    lambda raw: self._adapter.text_tokens(raw, geometry),
                    lambda text: _rows(
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
                self._watching = _Attention(self._adapter, self._geometry, self._listener, place, labels, self._runs)
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

    def drawn(self, raw: Any) -> Any:
        """The first x_s, from what the pipeline has prepared: its latents, or a tuple that begins with them."""
        if isinstance(raw, tuple):
            return (self.drawn(raw[0]), *raw[1:])
        kind = raw.dtype if self.start is None else self.start.latent_bfyxc.dtype
        return written(raw.to(kind), self._adapter.prepared, self._first)

    def _first(self, raw: Tensor) -> Tensor:
        if self.start is not None:
            stored = self.start.latent_bfyxc
            raw = self._on_latent(raw, lambda part, first: stored[:, first:].to(part))
        upcoming = Upcoming(len(self.steps), math.nan, math.nan, self._adapter.initial, None)
        return self._edited(raw, upcoming)

    def handed_on(self, result: Any) -> Any:
        """What the scheduler returns, with the x_s that the next step starts from as its first part."""
        step = len(self.steps) + 1
        if not self._editors or step >= self._settings.steps:
            return result
        values = self._step_over()
        if values is None:
            return result
        sigma = values.info.sigma_next
        upcoming = Upcoming(step, sigma, self._adapter.clean_share(sigma), self._adapter.initial, values)
        resets = {editor.resets(step) for editor in self._editors}
        if len(resets) > 1:
            raise InterpError(f"at step {step} the solver forgets its past in some runs of the batch, but not in all")
        if resets == {True}:
            for scheduler in self._called:
                noise.forget(scheduler)
        if isinstance(result, tuple):
            # CogVideoX hands the solver's past round through the pipeline, as the second part.
            rest = tuple(None for _ in result[1:]) if resets == {True} else result[1:]
            return (self._edited_whole(result[0], upcoming), *rest)
        result.prev_sample = self._edited_whole(result.prev_sample, upcoming)
        return result

    def _edited_whole(self, last: Tensor, upcoming: Upcoming) -> Tensor:
        """A step's last result; where that is one frame, the others are changed where the pipeline has them."""
        if self._adapter.schedulers == "one":
            return self._edited(last, upcoming)
        raw = torch.stack([*self._frames[:-1], last], dim=2)
        changed = self._edited(raw, upcoming).unbind(dim=2)
        for frame, new in zip(self._frames[:-1], changed[:-1], strict=True):
            frame.copy_(new)
        return changed[-1]

    def _edited(self, raw: Tensor, upcoming: Upcoming) -> Tensor:
        if not self._editors:
            return raw
        before = upcoming.before
        own = [upcoming._replace(before=before and before.of(run)) for run in range(self._runs)]

        def edited(part_bfyxc: Tensor, first: int) -> Tensor:
            rows = zip(self._editors, own, part_bfyxc, strict=True)
            return _rows(part_bfyxc, [editor.latent(known, row, first) for editor, known, row in rows])

        return self._on_latent(raw, edited)

    def _on_latent(self, raw: Tensor, change: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Change the part of latents that the pipeline does not hold fixed; `change` is told its first frame."""
        held = self._adapter.held
        return written(raw, lambda value: self._adapter.moving(value, self._geometry), lambda part: change(part, held))


def _rows(grid: Tensor, rows: list[Tensor]) -> Tensor:
    """Rows as one tensor; `grid` itself where none of them has changed."""
    same = all(new.data_ptr() == old.data_ptr() for new, old in zip(rows, grid, strict=True))
    return grid if same else torch.stack(rows)


class _Attention(Watch):
    """One self-attention while it runs: its rows are shown as they go into the softmax, in one call or several."""

    def __init__(
        self,
        adapter: ModelAdapter,
        geometry: Geometry,
        listener: Listener,
        place: Place,
        labels: list[Label],
        runs: int,
    ) -> None:
        super().__init__(self._called)
        self._adapter, self._geometry, self._listener, self._place = adapter, geometry, listener, place
        self._labels, self._runs = labels, runs
        self._rows: list[Attended] = []
        """Those of the label that is being completed."""
        self._seen = 0

    def check(self) -> None:
        """Refuse an attention that did not go through PyTorch's softmax attention, or not as often as it has rows."""
        if self._seen != len(self._labels) * self._runs:
            raise UnsupportedModel(
                f"the self-attention of layer {self._place.layer} showed {self._seen} of "
                f"{len(self._labels) * self._runs} rows; "
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
            label = self._labels[self._seen // self._runs]
            self._seen += 1
            if self._listener.wants(self._place.site, label):
                used = query.shape[-1] ** -0.5 if scale is None else scale
                self._rows.append(Attended(query, key, mask, used, at_fyx))
                if len(self._rows) == self._runs:
                    self._listener.layer(self._place.site, label, tuple(self._rows))
                    self._rows = []
