"""Activation patching between a run and its corrupted twin: how much of the answer comes back, and from where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from analyses._registry import Found, once
from analyses._result import Result
from analyses._steps import switches
from analyses._words import finite, some, with_interval
from analyses.errors import BadPlan
from analyses.experiments import _exchange, _flips, _paired
from analyses.experiments._answers import NEAR, SHOWN
from analyses.experiments._base import Arm, Frame, register
from analyses.experiments._exchange import RESID, Labels, OnStates
from analyses.experiments._exchanged import Read, Stored, read, stored
from analyses.experiments._flips import FEWEST, Flips
from analyses.experiments._paired import Interval
from store import ActivationStore, Json

VERSION = 3


@register
@dataclass(frozen=True, kw_only=True)
class Patch(OnStates):
    """Put a clean run's states into its corrupted twin by site, layers, steps and region; see what is recovered."""

    name: ClassVar[str] = "patch"
    claim: ClassVar[str] = (
        "Middle layers carry the answer, in the tokens where it shows: a clean run's states there bring its answer "
        "back in a run that was asked something else."
    )
    rule: ClassVar[str] = (
        "The residual stream behind blocks of layers, recovered evidence of the clean answer, mean over windows of "
        "steps per pair of twins. Replicates: the target's tokens, mean over all blocks, recover more than all others "
        "(lower end of the paired difference), and those of the inner blocks of layers more than the mean of the first "
        "and the last one (lower end). Does not replicate: either difference is below 0 (upper end). Inconclusive "
        "otherwise, with fewer than 3 blocks of layers, or with fewer than 8 pairs."
    )

    twins: bool = True
    sites: tuple[str, ...] = (RESID, "attn_out", "mlp_out")
    """Sites to patch."""
    parts: tuple[str, ...] = ("whole", "target", "background")
    """Regions to patch."""
    layer_blocks: int = 4
    windows: tuple[tuple[int, int], ...] | None = None
    """First and last step of each window; the first quarter and the rest if not given."""

    def plan(self, frame: Frame) -> tuple[Arm, ...]:
        """See `Experiment.plan`."""
        quarter = max(1, frame.steps // 4)
        windows = self.windows or tuple(
            (first, last) for first, last in ((0, quarter - 1), (quarter, frame.steps - 1)) if first <= last
        )
        _exchange.check_windows(windows, frame.steps, what="step")
        _exchange.check_parts(self.parts)
        if wrong := [site for site in self.sites if site not in frame.sites]:
            raise BadPlan(f"the model has no {wrong[0]} to patch; it has {', '.join(frame.sites)}")
        return tuple(
            _exchange.arm(Labels(part, _exchange.site_of(part, frame) if part == "text" else site, *block, *window))
            for site in self.sites
            for part in self.parts
            for block in _exchange.blocks(frame.layers, self.layer_blocks)
            for window in dict.fromkeys(windows)
        )

    def compare(self, acts: ActivationStore, *, runs: Sequence[str] | None = None, where: str | None = None) -> Result:
        """See `Experiment.compare`."""
        found = stored(acts, wanted=lambda labels: True, runs=runs, where=where)
        params: Json = {"shown": SHOWN, "near": NEAR, "fewest": FEWEST}
        return once(
            acts,
            analysis=self.name,
            version=VERSION,
            params=params,
            run_ids=found.run_ids,
            compute=lambda: _compare(acts, found),
        )


class Contrasts(NamedTuple):
    """What the rule reads."""

    place: Interval
    """Recovered by the target's tokens less that by all others."""
    depth: Interval
    """Recovered by the target's tokens of inner blocks of layers less that of the first and the last block."""
    blocks: int
    """Blocks of layers."""


def _compare(acts: ActivationStore, found: Stored) -> Found:
    seen = read(acts, found)
    table = _flips.flips(seen.outcomes)
    steps = acts.run(found.exchanges[0].clean.id).steps
    contrasts = _contrasts(table)
    tests = _flips.tests(table)
    best = max(range(len(table.arms)), key=lambda at: float(np.nanmean(table.values["recovered"][at])))
    summary: Json = {
        "best": dict(table.arms[best]._asdict()),
        "recovered": finite(float(np.nanmean(table.values["recovered"][best]))),
        **_paired.ends("target_over_background", contrasts.place),
        **_paired.ends("inner_over_outer", contrasts.depth),
    }
    return Found(
        data=_flips.dataset(table, steps, found.samples, headline="recovered").assign_attrs(switches=switches(steps)),
        finding=_finding(table, table.arms[best], contrasts, seen),
        n=len(table.units),
        summary={**summary, **tests, **_flips.told(seen)},
        verdict=decide(contrasts),
    )


def _contrasts(table: Flips) -> Contrasts:
    blocks = sorted({arm.first_layer for arm in table.arms if (arm.site, arm.part) == (RESID, "target")})
    by_layer = [table.at("recovered", site=RESID, part="target", first_layer=layer) for layer in blocks]
    rest = table.at("recovered", site=RESID, part="background")
    if not blocks:
        return Contrasts(_paired.interval(rest), _paired.interval(rest), 0)
    nothing = np.full_like(rest, np.nan)
    inner = _flips.average(np.stack(by_layer[1:-1])) if len(blocks) > 2 else nothing
    outer = _flips.average(np.stack([by_layer[0], by_layer[-1]]))
    target = _flips.average(np.stack(by_layer))
    return Contrasts(_paired.interval(target - rest), _paired.interval(inner - outer), len(blocks))


def decide(found: Contrasts) -> Any:
    """The verdict, by `Patch.rule`."""
    if found.blocks < 3 or min(found.place.n, found.depth.n) < FEWEST:
        return "inconclusive"
    if found.place.low > 0 and found.depth.low > 0:
        return "replicates"
    return "does not replicate" if found.place.high < 0 or found.depth.high < 0 else "inconclusive"


def _finding(table: Flips, best: Labels, found: Contrasts, seen: Read) -> str:
    def words(one: Interval) -> str:
        return with_interval(one.mean, one.low, one.high, digits=2)

    most = _paired.interval(table.values["recovered"][table.arms.index(best)])
    return (
        f"Most of the clean answer, {words(most)}, comes back from the {best.part} tokens of {best.site} in layers "
        f"{best.first_layer} to {best.last_layer} at steps {best.first_step} to {best.last_step}; of the residual "
        f"stream, the target's tokens recover {words(found.place)} more than all others, and inner blocks of layers "
        f"{words(found.depth)} more than the first and the last; {some(seen.wrong, 'run')} left out, as the clean run "
        f"or its twin answers wrongly; n = {some(len(table.units), 'pair')}."
    )
