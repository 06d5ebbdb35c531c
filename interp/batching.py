"""Which runs are made together in one call of the pipeline.

A batch of b runs costs little more than one where a GPU waits for its host, as with small models. Each run keeps its
own seed, interventions, statistics and scores, and is written by itself. Its first latents are drawn from its own
generator, bit for bit as alone. What follows differs by rounding, as matrices of another size are multiplied in another
order: in float32 on a CPU by at most `TOLERANCE` (tested for each family), in bfloat16 as two devices would.

Runs go together that have the same settings, keep the same and begin at the same step (`interp.resuming`); they may
have interventions of their own, which see their own rows alone. Where a solver remembers earlier steps, a change of x_s
may have it forget them, which concerns all rows: then only runs with the same interventions go together.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Final

from interp import intervening, noise
from interp.errors import BadInput
from interp.making import Batch
from interp.model import Model
from interp.planning import Plan
from store import Run, Sample

_log = logging.getLogger(__name__)

TOLERANCE: Final = 1e-4
"""Greatest difference between values of a run made in a batch and made alone, in float32 on a CPU, as a part of the
value, or where that is smaller, of the root mean square of its array."""

Pairs = Sequence[tuple[Sample, Run]]


def check(size: int) -> None:
    """Refuse what is no size of a batch.

    Raises:
        BadInput: if it is below 1.
    """
    if size < 1:
        raise BadInput(f"a batch of {size} runs makes nothing; give 1 or more")


def told(model: Model, runs: int, *, size: int, calls: int | None = None) -> str:
    """One line: how many calls of the pipeline some runs take.

    Args:
        model: Its weights are not needed.
        runs: How many there are.
        size: The greatest batch.
        calls: How many calls, where that is known; else the runs are taken to go together.
    """
    name, alone = type(model.pipeline).__name__, model.adapter.alone
    if size > 1 and alone:
        return f"calls of {name}: {runs}, one for each run: {alone}"
    return f"calls of {name}: {-(-runs // size) if calls is None else calls}, of up to {size} runs each"


def batches(model: Model, sweeps: Sequence[tuple[Pairs, Plan]], *, size: int) -> list[Batch]:
    """All runs of some sweeps, each once, in batches of at most `size` runs that are as equal in size as can be.

    Where the model's pipeline makes one video a call, each run is a batch of its own, and the log says why.
    """
    if size > 1 and model.adapter.alone:
        name = type(model.pipeline).__name__
        _log.warning("%s makes its runs one by one, not in batches of %d: %s", name, size, model.adapter.alone)
        size = 1
    groups: dict[str, tuple[dict[str, tuple[Sample, Run]], Plan]] = {}
    seen: set[str] = set()
    for pairs, plan in sweeps:
        for sample, run in pairs:
            if run.id not in seen:
                seen.add(run.id)
                groups.setdefault(_kind(model, run), ({}, plan))[0][run.id] = (sample, run)
    return [
        Batch(tuple(part), plan) for members, plan in groups.values() for part in _parts(list(members.values()), size)
    ]


def _kind(model: Model, run: Run) -> str:
    """What runs that go together have in common."""
    changes = run.interventions if noise.remembers(model.pipeline.scheduler) else bool(run.interventions)
    start = intervening.begins(model, run) if run.interventions else 0
    return repr((run.settings.canonical(), run.capture.canonical(), changes, start))


def _parts(pairs: list[tuple[Sample, Run]], size: int) -> list[list[tuple[Sample, Run]]]:
    count = -(-len(pairs) // size)
    ends = [len(pairs) * number // count for number in range(count + 1)]
    return [pairs[start:end] for start, end in itertools.pairwise(ends)]
