"""A capture spec resolved against a model: which arrays there will be, and how many bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from interp.adapters import ModelAdapter
from interp.errors import BadSpec
from interp.geometry import Geometry
from interp.reductions import Reduction, reductions
from interp.sites import LayerSite, Site, sites
from store import dims
from store.records import CaptureItem, CaptureSpec, Encoding, SamplerSettings


class ArrayPlan(NamedTuple):
    """One array of a run: `<site>/<reduction>`."""

    site: Site
    reduction: Reduction
    steps: tuple[int, ...]
    branches: tuple[str, ...]
    """Empty where the array has no branch axis."""
    layers: tuple[int, ...]
    """Empty where the array has no layer axis."""
    cell: tuple[int, ...]
    """Shape of one (step, branch, layer)."""
    dtype: torch.dtype
    encoding: Encoding = "exact"

    @property
    def name(self) -> str:
        """`site/reduction`."""
        return f"{self.site.name}/{self.reduction.name}"

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of all axes."""
        lead = (dims.STEP, *([dims.BRANCH] if self.branches else []), *([dims.LAYER] if self.layers else []))
        return lead + self.reduction.dims

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of `dims`."""
        lead = (len(self.steps), *([len(self.branches)] if self.branches else []))
        return (*lead, *([len(self.layers)] if self.layers else []), *self.cell)

    @property
    def nbytes(self) -> int:
        """Bytes, uncompressed; of a lossy array one a value, and its scales."""
        if self.encoding == "exact":
            return math.prod(self.shape) * self.dtype.itemsize
        places = math.prod(size for dim, size in zip(self.dims, self.shape, strict=True) if dim in (dims.Y, dims.X))
        return math.prod(self.shape) * (places + 4) // places


class Plan(NamedTuple):
    """What one run will write."""

    geometry: Geometry
    arrays: tuple[ArrayPlan, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of one run, uncompressed, the finished video included."""
        return sum(array.nbytes for array in self.arrays) + math.prod(self.geometry.video) * 3


def plan(adapter: ModelAdapter, spec: CaptureSpec, settings: SamplerSettings) -> Plan:
    """Resolve `spec` for one run; nothing is computed and nothing is written.

    Raises:
        BadSpec: if the model has no such layer, step, branch or combination.
        BadInput: if the pipeline cannot run with `settings`.
        UnknownName: if there is no such site or reduction.
    """
    adapter.check(settings)
    geometry = adapter.geometry(settings)
    dtype = _dtype(adapter)
    arrays = (array for item in spec.items for array in _arrays(item, adapter, geometry, settings, dtype))
    return Plan(geometry, tuple(arrays))


def check_room(plan: Plan, runs: int, free: int | None, where: object) -> None:
    """Refuse what a disk cannot hold.

    Args:
        plan: What each run writes.
        runs: How many will be made.
        free: Bytes that can still be written; None where nobody knows.
        where: The store's folder.

    Raises:
        BadSpec: saying what is asked, what there is, and what to reduce.
    """
    nbytes = plan.nbytes * runs
    if free is None or nbytes <= free:
        return
    largest = max(plan.arrays, key=lambda array: array.nbytes, default=None)
    most = f", {largest.nbytes / 1e9:.3g} GB of it {largest.name}" if largest else ""
    raise BadSpec(
        f"{runs} runs would write {nbytes / 1e9:.3g} GB ({plan.nbytes / 1e9:.3g} GB each{most}), but "
        f"{free / 1e9:.3g} GB are free at {where}; keep fewer layers, steps or sites, a smaller reduction than full, "
        "or @int8"
    )


def _arrays(
    item: CaptureItem,
    adapter: ModelAdapter,
    geometry: Geometry,
    settings: SamplerSettings,
    dtype: torch.dtype,
) -> Iterator[ArrayPlan]:
    """The array of an item, and those that come with it."""
    first = _array(item, adapter, geometry, settings, dtype)
    yield first
    for reduction in first.reduction.beside(adapter):
        cell, kept = reduction.shape(first.site, geometry), reduction.dtype(first.dtype)
        yield first._replace(reduction=reduction, cell=cell, dtype=kept, encoding="exact")


def _array(
    item: CaptureItem,
    adapter: ModelAdapter,
    geometry: Geometry,
    settings: SamplerSettings,
    model_dtype: torch.dtype,
) -> ArrayPlan:
    site, reduction = sites[item.site], reductions[item.reduction]
    name = f"{site.name}/{reduction.name}"
    if reason := reduction.refuses(site):
        raise BadSpec(f"{name} is not possible: {reason}")
    reduction = reduction.bound(item, geometry)
    layers = adapter.layers(site.name) if isinstance(site, LayerSite) else ()
    if site.per_layer and not layers:
        there = ", ".join(adapter.modules)
        raise BadSpec(f"{type(adapter.pipeline).__name__} has no {site.name}; its layers have {there}")
    if item.layers is not None and not site.per_layer:
        raise BadSpec(f"{name} has no layers: {site.name} is one value a step; leave layers out")
    guided = any(adapter.guidance(settings, expert) > 1 for expert in geometry.experts)
    running = [branch for branch in site.branches if guided or branch != "uncond"]
    cell, dtype = (
        reduction.shape(site, geometry),
        reduction.dtype(torch.float32 if site.latent_grid else model_dtype),
    )
    if item.encoding != "exact" and not (dtype.is_floating_point and {dims.Y, dims.X} & set(reduction.dims)):
        raise BadSpec(f"{name} cannot be kept as {item.encoding}, which is for floats with y and x; leave that out")
    return ArrayPlan(
        site=site,
        reduction=reduction,
        steps=_chosen(item.steps, tuple(range(settings.steps)), name=name, kind="step"),
        branches=_branches(item.branches, running, name=name, guided=guided),
        layers=_chosen(item.layers, layers, name=name, kind="layer"),
        cell=cell,
        dtype=dtype,
        encoding=item.encoding,
    )


def _chosen(wanted: Sequence[int] | None, there: tuple[int, ...], *, name: str, kind: str) -> tuple[int, ...]:
    if wanted is None:
        return there
    missing = [number for number in wanted if number not in there]
    if missing:
        span = f"{there[0]} to {there[-1]}" if there == tuple(range(there[0], there[-1] + 1)) else f"{there}"
        raise BadSpec(f"{name} asks for {kind} {missing[0]}, but there are {len(there)}: {span}")
    return tuple(wanted)


def _branches(wanted: Sequence[str] | None, running: list[str], *, name: str, guided: bool) -> tuple[str, ...]:
    if wanted is None:
        return tuple(running[:1])
    for branch in wanted:
        if branch not in running:
            why = "" if guided else "; without guidance (scale 1 or below) uncond does not run"
            raise BadSpec(f"{name} has no branch {branch!r}; there are: {', '.join(running) or 'none'}{why}")
    return tuple(branch for branch in running if branch in wanted)


def _dtype(adapter: ModelAdapter) -> torch.dtype:
    # As diffusers tells it: of a model in bfloat16 some tables stay in float32, and may come first.
    denoiser: Any = next(iter(adapter.denoisers().values()))
    return denoiser.dtype
