"""What a sweep would take before any weights are loaded: runs, bytes, and the time that they may take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

import store
from interp.catalogue import Costs, cost, human
from interp.model import Model
from interp.planning import Plan, check_room, plan
from store import CaptureSpec, Sample, SamplerSettings

_SIDES = {"cpu": 1024, "cuda": 8192}
_SECONDS = 0.4


class Speed(NamedTuple):
    """How fast a device multiplies matrices, measured."""

    flops: float
    """Floating-point operations a second."""
    dtype: str
    device: str
    """Its name, for people."""

    def seconds(self, operations: float) -> float:
        """How long so many operations take at this speed."""
        return operations / self.flops

    def __str__(self) -> str:
        """What the times are based on."""
        return (
            f"an estimate: all operations at {self.flops / 1e12:.3g} TFLOP/s, which a product of {self.dtype} matrices "
            f"reached now on {self.device}; without text encoder, VAE, writing and anything else on the device"
        )


def measure(device: torch.device, dtype: torch.dtype) -> Speed:
    """Multiply matrices for less than a second; the fastest product counts.

    Args:
        device: Where; it needs the memory of three matrices, 400 MB on a GPU in bfloat16.
        dtype: Of the matrices.
    """
    side = _SIDES.get(device.type, 1024)
    # Equal numbers draw less power, and a GPU multiplies them faster than it does a model's.
    generator = torch.Generator(device).manual_seed(0)
    matrix = torch.randn(side, side, generator=generator, device=device, dtype=dtype)
    best, ends = float("inf"), time.perf_counter() + _SECONDS
    while True:
        started = time.perf_counter()
        torch.mm(matrix, matrix)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
        if time.perf_counter() > ends:
            break
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return Speed(2 * side**3 / best, str(dtype).removeprefix("torch."), name)


class Forecast(NamedTuple):
    """What a sweep would do, told from the model's configuration."""

    costs: Costs
    """The model, and one run of it."""
    plan: Plan
    """What each run writes."""
    runs: int
    """Runs asked for."""
    stored: int
    """Of these, runs that the store has of a model of this name; weights are compared when they are loaded."""
    free: int | None
    """Bytes free where the store is or would be; None where nobody knows, as on S3."""

    @property
    def missing(self) -> int:
        """Runs to make."""
        return self.runs - self.stored

    @property
    def nbytes(self) -> int:
        """Bytes that the missing runs write, uncompressed."""
        return self.plan.nbytes * self.missing

    def table(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """Columns and rows: bytes of a run by array, the finished video last."""
        rows = [
            (array.name, " × ".join(f"{size} {dim}" for dim, size in zip(array.dims, array.shape, strict=True)), array)
            for array in self.plan.arrays
        ]
        video = self.plan.nbytes - sum(array.nbytes for array in self.plan.arrays)
        shown = [(name, shape, human(array.nbytes)) for name, shape, array in rows]
        return ["array", "shape", "bytes a run"], [*shown, ("output/pixels", "the finished video", human(video))]


def foresee(
    model: Model,
    samples: Sequence[Sample],
    spec: CaptureSpec,
    *,
    into: str | Path,
    seeds: Sequence[int],
    settings: SamplerSettings,
) -> Forecast:
    """Say what capturing would take, and refuse what the disk cannot hold; nothing is made.

    Args:
        model: As `catalogue.skeleton` returns it; weights are not needed.
        samples: The questions.
        spec: What is kept.
        into: Folder or address of the store, which need not be there.
        seeds: One run for each sample and seed.
        settings: How to sample.

    Raises:
        BadSpec: if the model cannot give what the spec asks, or the disk cannot hold it.
        BadInput: if the pipeline cannot run with the settings.
    """
    planned = plan(model.adapter, spec, settings)
    try:
        acts = store.open(into)
    except (store.StoreNotFound, store.NotAStore):  # it will be made, or refused with its reason
        acts = None
    asked = {(sample.id, seed) for sample in samples for seed in seeds}
    stored = 0 if acts is None else _stored(acts, model.id, asked, spec, settings)
    free = store.free(into)
    check_room(planned, len(asked) - stored, free, into)
    return Forecast(cost(model, settings), planned, len(asked), stored, free)


def _stored(
    acts: store.ActivationStore,
    model: str,
    asked: set[tuple[str, int]],
    spec: CaptureSpec,
    settings: SamplerSettings,
) -> int:
    runs = (acts.run(run_id).run for run_id in acts.run_ids())
    there = {
        (run.sample_id, run.seed)
        for run in runs
        if (run.model.id, run.capture, run.settings, run.interventions) == (model, spec, settings, ())
    }
    return len(asked & there)


def duration(seconds: float) -> str:
    """A time as one reads it.

    Example:
        >>> duration(7000)
        '1.9 h'
    """
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s"
