"""Windows: which block of steps, and which block of layers in it, carries the decision, by family and difficulty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from analyses._registry import Found, once
from analyses._result import Result
from analyses._steps import switches
from analyses._words import finite, some, with_interval
from analyses.experiments import _exchange, _flips, _paired
from analyses.experiments._answers import NEAR, SHOWN
from analyses.experiments._base import Arm, Frame, register
from analyses.experiments._exchange import RESID, Labels, OnStates
from analyses.experiments._exchanged import Read, Stored, read, settled, stored
from analyses.experiments._flips import FEWEST, UNIT, Flips
from analyses.experiments._paired import Float, Interval, holm, p_value
from store import ActivationStore, CaptureItem, CaptureSpec, Json, Sample

VERSION = 2
MOST = 0.5
"""Flip rate from which on a block of steps decides the answer."""
SETTLED = 0.9
"""Share of clean runs whose x̂0 must show the final answer for it to have settled."""


@register
@dataclass(frozen=True, kw_only=True)
class Windows(OnStates):
    """Put a donor's states into blocks of steps and layers, and see which of them carry its answer along."""

    name: ClassVar[str] = "windows"
    claim: ClassVar[str] = (
        "The answer is decided in the first steps: a donor's states there give the donor's answer, and no longer do so "
        "after it has settled."
    )
    rule: ClassVar[str] = (
        "All video tokens of all layers in one block of steps, mean flip rate per sample (per pair of twins). The "
        "answer has settled at a block if x̂0 at its first step shows the final answer, then and in later blocks, in "
        "90 % of the clean runs. Replicates: in some block before that, at least half of the runs flip, and more than "
        "under a stranger's states (lower ends of both intervals, and p of the latter below 0.05 after Holm's "
        "correction over the blocks), and in no block after it, of which there is one, do half flip (upper ends). Does "
        "not replicate: in every block before, less than half flip (upper ends), or in "
        "some block after, half or more do (lower end). Inconclusive otherwise, without either kind of block, or with "
        "fewer than 8 samples."
    )

    twins: bool = False
    """Whether twins donate; if not, other seeds of the same sample that ended in another answer."""
    layer_blocks: int = 4
    step_blocks: int = 4
    windows: tuple[tuple[int, int], ...] | None = None
    """First and last step of each block, instead of `step_blocks` equal ones."""

    def plan(self, frame: Frame) -> tuple[Arm, ...]:
        """See `Experiment.plan`."""
        steps = self._steps(frame)
        layers = _exchange.blocks(frame.layers, self.layer_blocks)
        whole = (0, frame.layers - 1)
        # With twins, what the prompt adds behind a block tells whole swaps of layers apart; with seeds, nothing does.
        grid = ("whole", "target") if self.twins else ("target",)
        cells = [(part, whole, window) for part in ("whole", "stranger") for window in steps]
        cells += [(part, block, window) for part in grid for block in layers for window in steps]
        return tuple(
            _exchange.arm(Labels(part, RESID, *block, *window)) for part, block, window in dict.fromkeys(cells)
        )

    def _steps(self, frame: Frame) -> list[tuple[int, int]]:
        found = list(self.windows) if self.windows is not None else _exchange.blocks(frame.steps, self.step_blocks)
        _exchange.check_windows(found, frame.steps, what="step")
        return sorted(set(found))

    def keeps(self, frame: Frame) -> tuple[CaptureSpec, CaptureSpec]:
        """See `Experiment.keeps`."""
        # x̂0 where each block begins tells whether the answer has settled; the last one is the answer itself.
        seen = CaptureItem(site="x0_hat", reduction="pixels", steps=tuple(first for first, _ in self._steps(frame)))
        if self.keep:
            return _exchange.donors_keep(self.plan(frame), frame, seen), self.child
        return CaptureSpec(items=(*self.clean.items, seen)), self.child

    def compare(self, acts: ActivationStore, *, runs: Sequence[str] | None = None, where: str | None = None) -> Result:
        """See `Experiment.compare`."""
        found = stored(acts, wanted=_wanted, runs=runs, where=where)
        params: Json = {"most": MOST, "settled": SETTLED, "shown": SHOWN, "near": NEAR, "fewest": FEWEST}
        return once(
            acts,
            analysis=self.name,
            version=VERSION,
            params=params,
            run_ids=found.run_ids,
            compute=lambda: _compare(acts, found),
        )


def _wanted(labels: Labels) -> bool:
    return labels.site == RESID and labels.part != "text" and labels.first_layer < labels.last_layer


class Block(NamedTuple):
    """What the rule reads of one block of steps."""

    first: int
    last: int
    flip: Interval
    """Share of runs that end in the donor's answer."""
    gain: Interval
    """Flips less those under a stranger's states."""
    p: float
    """Of no gain, corrected over the blocks."""
    settled: float
    """Share of clean runs whose x̂0 shows the final answer from the block's first step on."""


def _compare(acts: ActivationStore, found: Stored) -> Found:
    seen = read(acts, found)
    table = _flips.flips(seen.outcomes)
    steps = acts.run(found.exchanges[0].clean.id).steps
    shares = settled(acts, found, seen)
    rows = _blocks(table, shares)
    tests = _flips.tests(table)
    best = max(rows, key=lambda row: row.flip.mean, default=None)
    data = _flips.dataset(table, steps, found.samples, headline="flip")
    begins = np.array([shares.get(arm.first_step, np.nan) for arm in table.arms])
    data["settled"] = ("arm", begins, {"long_name": "share of clean runs whose answer has settled", "units": "share"})
    data = data.assign(_groups(table, found.samples)).assign_attrs(switches=switches(steps))
    summary: Json = {
        "decided_in": None if best is None else [best.first, best.last],
        "flip": None if best is None else finite(best.flip.mean),
        "settled_at": next((row.first for row in rows if row.settled >= SETTLED), None),
    }
    return Found(
        data=data,
        finding=_finding(table, rows, seen),
        n=len(table.units),
        summary={**summary, **tests, **_flips.told(seen)},
        verdict=decide(rows),
    )


def _blocks(table: Flips, shares: dict[int, float]) -> list[Block]:
    """Blocks of steps in which all layers were exchanged whole, by their first step."""
    widest = max((arm.last_layer - arm.first_layer for arm in table.arms), default=0)
    whole = [
        (arm, at)
        for at, arm in enumerate(table.arms)
        if arm.part == "whole" and arm.last_layer - arm.first_layer == widest
    ]
    corrected = holm(np.array([p_value(table.gain(arm)) for arm, _ in whole], np.float64))
    found = [
        Block(
            arm.first_step,
            arm.last_step,
            _flips.rate(table.values["flip"][at]),
            _paired.interval(table.gain(arm)),
            float(p),
            shares.get(arm.first_step, float("nan")),
        )
        for (arm, at), p in zip(whole, corrected, strict=True)
    ]
    return sorted(found, key=lambda row: (row.first, row.last))


def _groups(table: Flips, samples: dict[str, Sample]) -> dict[str, Any]:
    """Flips of each family and difficulty."""
    of = [f"{samples[unit].record.family} {samples[unit].record.difficulty}".strip() for unit in table.units]
    names = sorted(set(of))
    parts: list[Float] = []
    for name in names:
        values = table.values["flip"].copy()
        values[:, [group != name for group in of]] = np.nan
        parts.append(values)
    told = {"long_name": "share of runs that end in the donor's answer, by family and difficulty", "units": "share"}
    found = _flips.ranges("flip_by_group", np.stack(parts), ("group", "arm"), **told)
    return {**found, "samples_of_group": ("group", [of.count(name) for name in names]), "group": names}


def decide(rows: Sequence[Block]) -> Any:
    """The verdict, by `Windows.rule`."""
    before = [row for row in rows if row.settled < SETTLED]
    after = [row for row in rows if row.settled >= SETTLED]
    if not before or not after or any(row.flip.n < FEWEST for row in rows):
        return "inconclusive"
    if any(row.flip.low >= MOST for row in after) or all(row.flip.high < MOST for row in before):
        return "does not replicate"
    early = any(row.flip.low >= MOST and row.gain.low > 0 and row.p < 0.05 for row in before)
    return "replicates" if early and all(row.flip.high < MOST for row in after) else "inconclusive"


def _finding(table: Flips, rows: Sequence[Block], seen: Read) -> str:
    def words(one: Interval) -> str:
        return with_interval(one.mean, one.low, one.high, digits=2)

    each = "; ".join(
        f"steps {row.first} to {row.last} flip {words(row.flip)} (settled before: {row.settled:.0%})" for row in rows
    )
    units = "pair" if "flip_back" in table.values else UNIT
    return (
        f"A donor's states in all layers of one block of steps: {each or 'not tested'}; "
        f"{some(seen.wrong, 'run')} left out, as the clean run or its donor answers wrongly; "
        f"n = {some(len(table.units), units)}."
    )
