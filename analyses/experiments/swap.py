"""Layer swaps (E7): a grid of layers × step windows, in both directions, with every control that one cell lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from analyses._registry import Found, once
from analyses._result import Result
from analyses._steps import switches
from analyses._words import some, with_interval
from analyses.experiments import _exchange, _flips, _paired
from analyses.experiments._answers import NEAR, SHOWN
from analyses.experiments._base import Arm, Frame, register
from analyses.experiments._exchange import PARTS, RESID, TEXT, Labels, OnStates
from analyses.experiments._exchanged import Read, Stored, read, stored
from analyses.experiments._flips import FEWEST, Flips
from analyses.experiments._paired import Interval, ends, holm
from store import ActivationStore, Json

VERSION = 2
MOST = 0.5
"""Flip rate from which on a swap flips the answer."""
LAYERS = 6
"""Layers that are tested if none are named."""


@register
@dataclass(frozen=True, kw_only=True)
class Swap(OnStates):
    """Put the tokens of one layer of a run with another target into a run, and see whose target is answered."""

    name: ClassVar[str] = "swap"
    claim: ClassVar[str] = (
        "Replacing the tokens of one middle layer at the first step by those of a run with another target turns the "
        "answer into that target."
    )
    rule: ClassVar[str] = (
        "Swaps of all video tokens of one layer at step 0 alone, mean flip rate per pair of twins, both directions. "
        "Replicates: at some layer that is neither the first nor the last tested, at least half of the runs flip "
        "(lower end of the interval), more than under the same tokens of a stranger (p below 0.05 after Holm's "
        "correction over all arms), and swapping the tokens where the answers differ flips more than swapping all "
        "others (lower end). Does not replicate: at every such layer less than half flip (upper ends). Inconclusive "
        "otherwise, without these controls, or with fewer than 8 pairs."
    )

    twins: bool = True
    layers: tuple[int, ...] | None = None
    """Layers to swap, one at a time; six from first to last if not given."""
    windows: tuple[tuple[int, int], ...] | None = None
    """First and last step of each window; the first step, the first quarter and all if not given."""
    parts: tuple[str, ...] | None = None
    """What to take of the donor, of `PARTS`; all that the model has if not given."""
    inner_controls: bool = False
    """Whether parts other than `whole` are taken at layers between the first and the last tested one alone, which are
    all that the rule reads."""

    def plan(self, frame: Frame) -> tuple[Arm, ...]:
        """See `Experiment.plan`."""
        layers = self.layers
        if layers is None:
            layers = tuple(np.linspace(0, frame.layers - 1, min(LAYERS, frame.layers)).round().astype(int).tolist())
        windows = self.windows or ((0, 0), (0, max(0, frame.steps // 4 - 1)), (0, frame.steps - 1))
        _exchange.check_windows([(layer, layer) for layer in layers], frame.layers, what="layer")
        _exchange.check_windows(windows, frame.steps, what="step")
        parts = _exchange.parts_of(frame) if self.parts is None else self.parts
        _exchange.check_parts(parts)
        layers = sorted(set(layers))
        inner = layers[1:-1] if self.inner_controls else layers
        return tuple(
            _exchange.arm(Labels(part, _exchange.site_of(part, frame), layer, layer, *window))
            for part in parts
            for layer in (layers if part == "whole" else inner)
            for window in dict.fromkeys(windows)
        )

    def compare(self, acts: ActivationStore, *, runs: Sequence[str] | None = None, where: str | None = None) -> Result:
        """See `Experiment.compare`."""
        found = stored(acts, wanted=_wanted, runs=runs, where=where)
        params: Json = {"most": MOST, "shown": SHOWN, "near": NEAR, "fewest": FEWEST}
        return once(
            acts,
            analysis=self.name,
            version=VERSION,
            params=params,
            run_ids=found.run_ids,
            compute=lambda: _compare(acts, found),
        )


def _wanted(labels: Labels) -> bool:
    return labels.first_layer == labels.last_layer and labels.site in (RESID, TEXT)


class Cell(NamedTuple):
    """What the rule reads of one layer at step 0."""

    layer: int
    flip: Interval
    """Share of runs that end in the donor's answer."""
    p: float
    """Of no gain over a stranger's tokens, corrected."""
    gain: Interval
    """Flips less those under a stranger's tokens."""
    place: Interval
    """Flips under the target's tokens less those under all others."""


def _compare(acts: ActivationStore, found: Stored) -> Found:
    seen = read(acts, found)
    table = _flips.flips(seen.outcomes)
    steps = acts.run(found.exchanges[0].clean.id).steps
    cells = _cells(table)
    tests = _flips.tests(table)
    best = max(cells, key=lambda cell: cell.flip.mean, default=None)
    summary: Json = {
        "best_layer": None if best is None else best.layer,
        **({"flip_at_first_step": None} if best is None else ends("flip_at_first_step", best.flip)),
        **ends("flip_of_all_arms", _flips.rate(table.at("flip", part="whole"))),
    }
    return Found(
        data=_flips.dataset(table, steps, found.samples, headline="flip").assign_attrs(switches=switches(steps)),
        finding=_finding(table, best, tests, seen),
        n=len(table.units),
        summary={**summary, **tests, **_flips.told(seen)},
        verdict=decide(cells),
    )


def _cells(table: Flips) -> list[Cell]:
    """Layers that were swapped whole at step 0 alone."""
    corrected = holm(_flips.p_values(table))
    found: list[Cell] = []
    for at, arm in enumerate(table.arms):
        if (arm.part, arm.first_step, arm.last_step) != ("whole", 0, 0):
            continue
        place = [table.at("flip", **{**arm._asdict(), "part": part}) for part in ("target", "background")]
        found.append(
            Cell(
                arm.first_layer,
                _flips.rate(table.values["flip"][at]),
                float(corrected[at]),
                _paired.interval(table.gain(arm)),
                _paired.interval(place[0] - place[1]),
            )
        )
    return found


def decide(cells: Sequence[Cell]) -> Any:
    """The verdict, by `Swap.rule`."""
    inner = [cell for cell in cells if min(c.layer for c in cells) < cell.layer < max(c.layer for c in cells)]
    if not inner or any(cell.flip.n < FEWEST for cell in inner):
        return "inconclusive"
    if any(
        cell.flip.low >= MOST and cell.gain.mean > 0 and cell.p < 0.05 and cell.place.low > 0 for cell in inner
    ):  # NaN is below nothing
        return "replicates"
    return "does not replicate" if all(cell.flip.high < MOST for cell in inner) else "inconclusive"


def _finding(table: Flips, best: Cell | None, tests: Json, seen: Read) -> str:
    n = some(len(table.units), "pair")
    whole = [arm for arm in table.arms if arm.part == "whole"]
    if best is None or not whole:
        return f"No layer was swapped whole at the first step alone, so the claim is not tested, n = {n}."
    widest = max(whole, key=lambda arm: (arm.last_step - arm.first_step, -arm.first_layer))

    def words(values: Any) -> str:
        one = values if isinstance(values, Interval) else _flips.rate(values)
        return with_interval(one.mean, one.low, one.high, digits=2)

    long = {"first_step": widest.first_step, "last_step": widest.last_step}
    others = ", ".join(
        f"{part} {words(table.at('flip', part=part, **long))}"
        for part in PARTS
        if any((arm.part, arm.last_step) == (part, widest.last_step) for arm in table.arms)
    )
    return (
        f"Swapping all tokens of one layer at the first step alone flips at most {words(best.flip)} of the answers "
        f"(layer {best.layer}); over steps {widest.first_step} to {widest.last_step}, mean over layers: {others}; "
        f"{tests['significant']} of {tests['comparisons']} arms flip more or less than a stranger's tokens do, after "
        f"{tests['correction']}'s correction; {some(seen.wrong, 'run')} left out, as the clean run or its donor "
        f"answers wrongly; n = {n}."
    )
