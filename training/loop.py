"""The training loop of every stage: gradients averaged over ranks, averaged weights, checkpoints by the clock."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from training import checkpoint, muon, parallel
from training.config import Config, Fit
from training.progress import NEW, Budget, Progress


class Step(NamedTuple):
    """What a loss is told."""

    number: int
    fraction: float
    """Share of the training that is done."""
    generator: torch.Generator
    """Seeded for this step and this rank."""


Loss = Callable[[Step], tuple[Tensor, Mapping[str, Tensor]]]
"""What is minimised, and numbers to log."""


def seed(config: Config, step: int) -> int:
    """Seed of this rank's random numbers in `step`."""
    return (config.seed * 1_000_003 + step) * 1024 + parallel.rank()


def run(
    config: Config,
    fit: Fit,
    *,
    stage: str,
    file: Path,
    weights: Mapping[str, nn.Parameter],
    loss: Loss,
    extra: Callable[[int], Mapping[str, Any]] = lambda step: {},
) -> None:
    """Train `weights` in place and write `file`; continues where an earlier try stopped.

    Args:
        config: Seed, device, and how often to write.
        fit: Rate, batch and end.
        stage: Name in the log.
        file: Checkpoint: tensors under `model.`, `ema.` (where `fit` asks for it) and `optimizer.`; the record has
            `step`, `seconds`, `fraction`, `start`, `devices`, `batch`, `rate` and what `extra` gives.
        weights: What is trained, by name, equal on every rank.
        loss: Called once a step, on this rank's own data.
        extra: More for the record, asked with the number of steps done whenever the file is written.
    """
    record = checkpoint.record(file)
    budget = Budget(fit, record, device=config.device)
    if budget.spent:
        return
    names, values = list(weights), list(weights.values())
    optimizers = muon.optimizers(weights, rate=fit.rate, weight_decay=fit.weight_decay, muon=fit.muon)
    ema = _restore(file, weights, optimizers, averaged=fit.ema > 0)
    progress = Progress(stage, fraction=record.get("fraction", 0.0))
    generator = torch.Generator(config.device)
    recent: list[Mapping[str, Tensor]] = []
    written = time.monotonic()

    def write(step: int, fraction: float) -> None:
        tensors = checkpoint.named("model", weights) | checkpoint.named("ema", dict(zip(names, ema, strict=False)))
        for optimizer, own in optimizers:
            tensors |= checkpoint.named("optimizer", checkpoint.optimizer_state(optimizer, own))
        seconds = budget.start["seconds"] + budget.seconds
        state: dict[str, Any] = {"step": step, "seconds": seconds, "fraction": fraction, "start": budget.start}
        state |= {"devices": parallel.size(), "batch": fit.batch, "rate": fit.rate}
        checkpoint.save(file, tensors, state | dict(extra(step)))

    for number in itertools.count(record.get("step", 0)):
        fraction = budget.fraction(number)
        if fraction >= 1:
            break
        generator.manual_seed(seed(config, number))
        value, numbers = loss(Step(number, fraction, generator))
        for weight in values:
            weight.grad = None
        value.backward()
        parallel.average([weight.grad for weight in values if weight.grad is not None])
        nn.utils.clip_grad_norm_(values, 1.0)
        for optimizer, _ in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = fit.rate * schedule(budget.done(number), fraction, fit.warmup)
            optimizer.step()
        if ema:
            decay = min(fit.ema, (1 + number) / (10 + number))
            torch._foreach_lerp_(ema, [weight.detach() for weight in values], 1 - decay)
        recent.append(numbers)
        if progress.due(fraction):
            means = {name: float(torch.stack([part[name] for part in recent]).mean()) for name in numbers}
            progress.log(fraction, f"step {number} " + ", ".join(f"{name} {mean:.5f}" for name, mean in means.items()))
            recent.clear()
        if parallel.first() and time.monotonic() - written >= config.checkpoint_seconds:
            write(number + 1, fraction)
            written = time.monotonic()
    if parallel.first():
        write(number, 1.0)
    parallel.barrier()


def legs(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`steps`, `seconds`, `devices`, `batch` and `rate` of each training behind a checkpoint, the first one first.

    `part` as well, where it was not all that was trained.
    """
    start = record.get("start", NEW)
    own = {name: record[name] for name in ("devices", "batch", "rate", "part") if name in record}
    own |= {"steps": record["step"] - start["step"], "seconds": record["seconds"] - start["seconds"]}
    return [*start["legs"], *([own] if own["steps"] else [])]


def schedule(step: int, fraction: float, warmup: int) -> float:
    """Rate relative to its peak: half a cosine down to 2 %, under a linear rise over the first steps."""
    return min(1.0, (step + 1) / max(1, warmup)) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, fraction))))


def _restore(
    file: Path, weights: Mapping[str, nn.Parameter], optimizers: muon.Optimizers, *, averaged: bool
) -> list[Tensor]:
    """The averaged weights; what `file` has of weights, averages and moments is put in place."""
    tensors = checkpoint.load(file)[0] if file.exists() else {}
    with torch.no_grad():
        for name, weight in weights.items():
            if tensors:
                weight.copy_(tensors[f"model.{name}"])
        ema = [weight.detach().clone() for weight in weights.values()] if averaged else []
        for name, average in zip(weights, ema, strict=False):
            if tensors:
                average.copy_(tensors[f"ema.{name}"])
    moments = checkpoint.under("optimizer", tensors)
    for optimizer, names in optimizers:
        own = {key: moment for key, moment in moments.items() if key.rsplit("/", 1)[0] in set(names)}
        if own:
            checkpoint.restore_optimizer(optimizer, names, own)
    return ema
