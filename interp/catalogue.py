"""Which models can be traced, and what capturing one would cost, told from its configuration alone."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import diffusers
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch.overrides import TorchFunctionMode

from interp import bundled
from interp.adapters import REFUSED, adapters
from interp.errors import BadSpec, UnknownModel, UnsupportedModel, first_line
from interp.geometry import Grid
from interp.model import Model
from interp.planning import plan
from interp.reductions import reductions
from interp.sites import sites
from interp.sources import source_of
from interp.spec import DEFAULT
from store.records import CaptureItem, CaptureSpec, SamplerSettings, TokenBox


class _Tokenizer:
    """Answers what a pipeline asks its tokenizer when it is made."""

    eos_token_id = 0

    def convert_tokens_to_ids(self, token: str) -> int:
        return 0


STAND_INS: Final[Mapping[str, Any]] = {
    "safety_checker": torch.nn.Identity(),
    "text_tokenizer": _Tokenizer(),
}
"""What some pipelines ask for when they are made, though nothing that only plans needs it."""


class Traceable(NamedTuple):
    """One pipeline class that has an adapter."""

    family: str
    """Name of the adapter."""
    pipeline: str
    guidance: str
    """How guidance runs, see `interp.adapters._base.Layout`."""
    sites: tuple[str, ...]
    """Sites of its layers."""


class Refused(NamedTuple):
    """One video pipeline of diffusers that cannot be traced."""

    pipeline: str
    reason: str


def traceable() -> list[Traceable]:
    """Every pipeline class that can be traced, by family.

    Example:
        >>> [row.family for row in traceable() if row.pipeline == "WanVACEPipeline"]
        ['wan_vace']
    """
    return [
        Traceable(family, pipeline, adapters[family].layout, tuple(adapters[family].modules))
        for family in adapters.names()
        for pipeline in sorted(adapters[family].pipelines)
    ]


def refused() -> list[Refused]:
    """Every video pipeline of diffusers that cannot be traced, and why."""
    return [Refused(pipeline, reason) for pipeline, reason in sorted(REFUSED.items())]


class Cost(NamedTuple):
    """What one site through one reduction takes: all layers, heads and steps, one branch; of `pattern` one query."""

    site: str
    reduction: str
    dtype: str
    cell: tuple[int, ...]
    """Shape of one (step, layer)."""
    layers: int
    """0 where the site is one value a step."""
    nbytes: int
    """Bytes of one run, uncompressed."""


class Costs(NamedTuple):
    """A model and what capturing one run of it would cost."""

    model: str
    pipeline: str
    family: str
    dtype: str
    parameters: dict[str, int]
    """Expert → parameters of its denoiser."""
    weights: int
    """Bytes of all denoisers' parameters."""
    layers: int
    width: int
    tokens: Grid
    """Frames, rows and columns of the video's tokens."""
    latent: tuple[int, ...]
    """Frames, rows, columns and channels of the latents."""
    settings: SamplerSettings
    forwards: int
    """Forwards of a denoiser in one run, one for each step and branch."""
    flops: int
    """Floating-point operations of these forwards, about: 2 a parameter and token, 4 a channel and pair of tokens."""
    default: int
    """Bytes of one run under the default capture spec, the finished video included."""
    costs: tuple[Cost, ...]

    def __str__(self) -> str:
        """Four lines: the model, one run of it, its grids, and the default capture."""
        asked, denoisers = self.settings, len(self.parameters)
        size = f"{sum(self.parameters.values()) / 1e9:.3g} B parameters, {human(self.weights)} as {self.dtype}"
        shape = f"{f'{denoisers} denoisers of ' if denoisers > 1 else ''}{self.layers} layers × {self.width} channels"
        tokens, latent = ("×".join(str(axis) for axis in grid) for grid in (self.tokens, self.latent))
        return "\n".join(
            [
                f"{self.model}: {self.pipeline} ({self.family}), {shape}, {size}",
                f"one run: {asked.steps} steps, {self.forwards} forwards, about {self.flops / 1e15:.3g} PFLOP",
                f"{asked.frames} frames of {asked.height}×{asked.width}: "
                f"{tokens} = {math.prod(self.tokens):,} tokens, latents {latent}",
                f"the default capture: {human(self.default)} a run",
            ]
        )

    def table(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """Columns and rows: bytes of a run by site and reduction."""
        names = list(dict.fromkeys(cost.reduction for cost in self.costs))
        found = {(cost.site, cost.reduction): human(cost.nbytes) for cost in self.costs}
        layers = {cost.site: str(cost.layers or "") for cost in self.costs}
        rows = [(site, count, *(found.get((site, name), "") for name in names)) for site, count in layers.items()]
        return ["site", "layers", *names], rows


def human(nbytes: int) -> str:
    """Bytes as one reads them.

    Example:
        >>> human(335_544_320)
        '336 MB'
    """
    value, units = float(nbytes), ["B", "kB", "MB", "GB", "TB", "PB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.3g} {units[0]}"


def skeleton(name_or_path: str | Path, *, dtype: torch.dtype = torch.bfloat16, revision: str | None = None) -> Model:
    """A model without weights: everything that a plan asks for, nothing that could run.

    Reads `model_index.json` and the configurations of the denoisers, the VAE and the scheduler; of a hub id it fetches
    no other file. Weights are on torch's `meta` device, which holds shapes only.

    Args:
        name_or_path: As `interp.load` takes it.
        dtype: Of the weights that there would be.
        revision: Hub commit, branch or tag; the newest if not given.

    Raises:
        UnknownModel: if there is no such model.
        UnsupportedModel: if no adapter knows its pipeline.
    """
    source = source_of(name_or_path)
    try:
        pipeline = _without_weights(source.where, dtype, revision)
    except (OSError, ValueError, KeyError) as error:
        raise UnknownModel(f"cannot read the configuration of {str(name_or_path)!r}: {first_line(error)}") from error
    bundled.add_expert(pipeline, source.defaults)
    return Model(pipeline, id=source.id, defaults=source.defaults)


def cost(model: Model, settings: SamplerSettings | None = None) -> Costs:
    """What capturing one run of `model` would cost, by site and reduction.

    Args:
        model: As `skeleton` or `interp.load` returns it.
        settings: How it would sample; the model's defaults if not given.

    Raises:
        BadInput: if the pipeline cannot run with the settings.
    """
    settings = settings or model.settings()
    adapter, geometry = model.adapter, model.geometry(settings)
    denoisers = adapter.denoisers()
    parameters = {name: sum(weight.numel() for weight in module.parameters()) for name, module in denoisers.items()}
    tokens = math.prod(geometry.tokens)
    guided = any(adapter.guidance(settings, expert) > 1 for expert in geometry.experts)
    forwards = settings.steps * (1 + guided)
    # Experts are of one size, and each step runs one of them.
    dense = 2 * max(parameters.values()) * tokens
    attention = 4 * tokens**2 * geometry.width * geometry.layers
    first: Any = next(iter(denoisers.values()))  # its dtype is what it computes in; some weights may stay in float32
    return Costs(
        model=model.id,
        pipeline=type(model.pipeline).__name__,
        family=next(name for name in adapters.names() if adapters[name] is type(adapter)),
        dtype=str(first.dtype).removeprefix("torch."),
        parameters=parameters,
        weights=sum(weight.nbytes for module in denoisers.values() for weight in module.parameters()),
        layers=geometry.layers,
        width=geometry.width,
        tokens=geometry.tokens,
        latent=(*geometry.latent, geometry.latent_channels),
        settings=settings,
        forwards=forwards,
        flops=forwards * (dense + attention),
        default=plan(adapter, DEFAULT, settings).nbytes,
        costs=tuple(
            found for site in sites for name in reductions.names() if (found := _cost(model, settings, site.name, name))
        ),
    )


def _cost(model: Model, settings: SamplerSettings, site: str, reduction: str) -> Cost | None:
    """One line of the table, or None where the model has no such site or the site no such reduction."""
    first = TokenBox(frame=(0, 0), y=(0, 0), x=(0, 0))
    queries = (first,) if sites[site].attention else None
    spec = CaptureSpec(items=(CaptureItem(site=site, reduction=reduction, queries=queries),))
    try:
        array = plan(model.adapter, spec, settings).arrays[0]
    except BadSpec:
        return None
    dtype = str(array.dtype).removeprefix("torch.")
    return Cost(site, reduction, dtype, array.cell, len(array.layers), array.nbytes)


def _without_weights(source: str, dtype: torch.dtype, revision: str | None) -> Any:
    """The pipeline of a folder or hub id, made from configurations alone."""
    with warnings.catch_warnings():  # diffusers hands an argument on that the hub's client no longer knows
        warnings.filterwarnings("ignore", message="The `local_dir_use_symlinks` argument", category=UserWarning)
        config: Any = DiffusionPipeline.load_config(source, revision=revision)
        index: dict[str, Any] = dict(config)
        kind = getattr(diffusers, str(index["_class_name"]), None)
        if kind is None:
            raise UnsupportedModel(f"the installed diffusers has no {index['_class_name']}, which {source} needs")
        expected = _expected(kind, index)
        return kind(**{name: _component(source, name, value, dtype, revision) for name, value in expected})


def _expected(kind: type[DiffusionPipeline], index: dict[str, Any]) -> list[tuple[str, Any]]:
    """What `kind` is made from: its entry in the index, or None where that has none."""
    modules, optional = kind._get_signature_keys(kind)
    return [(name, index.get(name)) for name in sorted(modules)] + [
        (name, index[name]) for name in sorted(optional) if name in index
    ]


def _component(source: str, name: str, value: Any, dtype: torch.dtype, revision: str | None) -> Any:
    """One component without weights, or None where no plan asks for it; what is no component is passed on."""
    if name in STAND_INS:
        return STAND_INS[name]
    if not isinstance(value, (list, tuple)):
        return value
    library, class_name = value
    if library is None or library == "transformers":
        return None
    kind: Any = getattr(importlib.import_module(library) if library == "diffusers" else diffusers, class_name, None)
    if kind is None or not hasattr(kind, "from_config"):
        return None
    config = kind.load_config(source, subfolder=name, revision=revision)
    if torch.nn.Module not in kind.__mro__:
        return kind.from_config(config)
    with torch.device("meta"), _FollowDevice():
        made: Any = kind.from_config(config)
    for weight in made.parameters():
        weight.data = weight.data.to(dtype)
    return made


class _FollowDevice(TorchFunctionMode):
    """Makes `torch.linspace` follow `torch.device`.

    torch remembers which functions follow it from the first time that it is asked. transformers may be what asks, and
    has another function in the place of `torch.linspace` then.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        here = {"device": "meta"} if func is torch.linspace else {}
        return func(*args, **{**here, **(kwargs or {})})
