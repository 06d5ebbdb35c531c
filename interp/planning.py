"""A capture spec resolved against a model: which arrays there will be, and how many bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from interp.adapters import ModelAdapter
from interp.errors import BadSpec
from interp.geometry import Geometry
from interp.reductions import Reduction, reductions
from interp.sites import Site, sites
from store import dims
from store.records import CaptureItem, CaptureSpec, SamplerSettings


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
        """Bytes, uncompressed."""
        return math.prod(self.shape) * self.dtype.itemsize


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
    arrays = tuple(_array(item, adapter, geometry, settings) for item in spec.items)
    return Plan(geometry, arrays)


def _array(item: CaptureItem, adapter: ModelAdapter, geometry: Geometry, settings: SamplerSettings) -> ArrayPlan:
    site, reduction = sites[item.site], reductions[item.reduction]
    name = f"{site.name}/{reduction.name}"
    if reason := reduction.refuses(site):
        raise BadSpec(f"{name} is not possible: {reason}")
    if item.layers is not None and not site.per_layer:
        raise BadSpec(f"{name} has no layers: {site.name} is one value a step; leave layers out")
    guided = any(adapter.guidance(settings, expert) > 1 for expert in geometry.experts)
    running = [branch for branch in site.branches if guided or branch != "uncond"]
    return ArrayPlan(
        site=site,
        reduction=reduction,
        steps=_chosen(item.steps, range(settings.steps), name=name, kind="step"),
        branches=_branches(item.branches, running, name=name, guided=guided),
        layers=_chosen(item.layers, range(geometry.layers), name=name, kind="layer") if site.per_layer else (),
        cell=reduction.shape(site, geometry),
        dtype=reduction.dtype(torch.float32 if site.latent_grid else _dtype(adapter)),
    )


def _chosen(wanted: Sequence[int] | None, there: range, *, name: str, kind: str) -> tuple[int, ...]:
    if wanted is None:
        return tuple(there)
    missing = [number for number in wanted if number not in there]
    if missing:
        raise BadSpec(f"{name} asks for {kind} {missing[0]}, but there are {len(there)}: 0 to {len(there) - 1}")
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
    return next(next(iter(adapter.denoisers().values())).parameters()).dtype
