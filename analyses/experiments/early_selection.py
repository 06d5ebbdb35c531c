"""Several seeds begun, one continued: chosen early by what x̂0 shows, without any truth.

Computed from whole runs that kept their x̂0; the cost is that of doing it: every seed up to the choice, one to its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from analyses._registry import Found, once
from analyses._result import Result
from analyses._words import finite, some
from analyses.errors import BadPlan
from analyses.experiments import _gain
from analyses.experiments._base import Arm, Experiment, Frame, register
from analyses.experiments._gain import FEWEST, LEAST, ROOM, words
from analyses.experiments._outcomes import RIGHT
from analyses.experiments._paired import Float, interval
from analyses.experiments._table import (
    INTERVAL,
    Arms,
    Entry,
    Made,
    Stored,
    dataset,
    differs,
    gathered,
    mean,
    stored,
    tests,
)
from store import ActivationStore, CaptureItem, CaptureSpec, Json, Run, dims

VERSION: Final = 2
SCORE: Final = "overall"
CRITERIA: Final = ("settled", "agreeing", "sharp", "faithful")
"""What may choose; the first is what the verdict is about."""
METHODS: Final = ("any", *CRITERIA, "long", "fewer", "best")
"""In the order of the result."""

Pixels = NDArray[np.floating[Any]]


class Labels(NamedTuple):
    """What tells one arm from another; 0 where it has no such thing."""

    method: str
    """`any`: a seed taken blindly (mean over seeds). A criterion (`CRITERIA`): the seed that it prefers goes on.
    `long`: one seed with as many forwards. `fewer`: as many whole runs as these forwards pay for, `agreeing` chooses
    among the finished ones. `best`: all seeds to their end, an oracle chooses by the score."""
    at: int
    """Steps made of every seed before the choice."""
    seeds: int
    steps: int
    """Denoising steps of the run that is handed out."""


@register
@dataclass(frozen=True, kw_only=True)
class EarlySelection(Experiment):
    """Begin several seeds, and continue the one whose x̂0 looks most decided."""

    name: ClassVar[str] = "early-selection"
    claim: ClassVar[str] = "Which seed will be right shows in the first steps: choosing there beats one longer run."
    rule: ClassVar[str] = (
        "Gain: score of the seed chosen by `settled` (least change between its last two x̂0) at a quarter of the steps, "
        "less the mean score over all seeds. What can be gained: score of the best seed less that mean. The longer run "
        "has as many steps more as the other seeds make before the choice. " + _gain.RULE
    )
    clean: ClassVar[CaptureSpec] = CaptureSpec(items=(CaptureItem(site="x0_hat", reduction="pixels"),))

    at: tuple[int, ...] | None = None
    """Steps made before the choice, 2 or more; 2, an eighth, a quarter and half of all if not given."""

    def plan(self, frame: Frame) -> tuple[Arm, ...]:
        """See `Experiment.plan`."""
        n = len(frame.seeds)
        if n < 2:
            raise BadPlan("early-selection chooses among seeds: ask for --seeds 0-3 or so, not one")
        steps = sorted({cost(n, at, frame.steps) for at in choices(self.at, frame.steps)})
        return tuple(
            Arm(Labels("long", 0, 1, total)._asdict(), (), {"steps": total}, seeds=frame.seeds[:1]) for total in steps
        )

    def compare(self, acts: ActivationStore, *, runs: Sequence[str] | None = None, where: str | None = None) -> Result:
        """See `Experiment.compare`."""
        found = stored(acts, metric=SCORE, belongs=belongs, runs=runs, where=where)
        at: list[Any] = choices(self.at, found.clean[0].run.settings.steps)
        params: Json = {"metric": SCORE, "at": at, "least": LEAST, "room": ROOM, "fewest": FEWEST}
        return once(
            acts,
            analysis=self.name,
            version=VERSION,
            params=params,
            run_ids=found.run_ids,
            compute=lambda: _compare(acts, found, at),
        )


def choices(wanted: tuple[int, ...] | None, steps: int) -> list[int]:
    """Numbers of steps before the choice.

    Raises:
        BadPlan: if there are too few steps before one, or none after it.
    """
    if steps < 3:
        raise BadPlan(
            f"early-selection needs 3 denoising steps or more: two x̂0 to compare and one to go on, not {steps}"
        )
    if wrong := [at for at in wanted or () if not 2 <= at < steps]:
        raise BadPlan(f"there is no choice after {some(wrong[0], 'step')} of {steps}: after 2 to {steps - 1} there is")
    return sorted(set(wanted or (2, max(2, steps // 8), max(2, steps // 4), max(2, steps // 2))))


def cost(seeds: int, at: int, steps: int) -> int:
    """Steps that a choice among seeds takes: all of them up to it, one to its end."""
    return seeds * at + steps - at


def belongs(run: Run, clean: Run) -> bool:
    """Whether a run is one of the clean ones in more steps."""
    return run.settings.steps > clean.settings.steps and differs(run, clean, only=["steps"])


def preferences(x0: Pixels, before: Pixels, first_frame: Pixels) -> dict[str, NDArray[np.float64]]:
    """How much each criterion prefers each seed, `[seed]`; none looks at the truth or the score.

    `settled`: less mean absolute change since the x̂0 before. `agreeing`: nearer to the mean x̂0 of the other seeds.
    `sharp`: greater mean absolute difference of neighbouring pixels. `faithful`: its first frame nearer to the given
    one.

    Args:
        x0: Last x̂0 before the choice, `[seed, frame, y, x, channel]`.
        before: The x̂0 before it.
        first_frame: `[y, x, channel]`.
    """
    axes = (1, 2, 3, 4)
    others = (x0.sum(axis=0) - x0) / (len(x0) - 1)
    edges = sum(np.abs(np.diff(x0, axis=axis)).mean(axis=axes) for axis in (2, 3))
    found = {
        "settled": -np.abs(x0 - before).mean(axis=axes),
        "agreeing": -np.abs(x0 - others).mean(axis=axes),
        "sharp": edges,
        "faithful": -np.abs(x0[:, 0] - first_frame).mean(axis=(1, 2, 3)),
    }
    return {name: np.asarray(values, np.float64) for name, values in found.items()}


def _compare(acts: ActivationStore, found: Stored, at: Sequence[int]) -> Found:
    own = found.clean[0].run.settings.steps
    pools = _pools(found)
    n = len(next(iter(pools.values())))
    entries = [entry for sample, pool in pools.items() for entry in _of_sample(acts, sample, pool, at, own)]
    entries += [
        Entry(Labels("long", 0, 1, one.run.settings.steps), one.run.sample_id, one.score, one.forwards, one.seconds)
        for one in found.others
        if one.run.sample_id in pools
    ]
    arms = gathered(entries, order=lambda one: (METHODS.index(one.method), one.at, one.steps))
    blind = Labels("any", 0, 1, own)
    data = dataset(arms, blind, against="any seed", untested=lambda label: label.method == "best")
    data = data.assign(_commitment(acts, pools, own))
    quarter = min(at, key=lambda one: abs(one - own / 4))
    main, longer = Labels(CRITERIA[0], quarter, n, own), Labels("long", 0, 1, cost(n, quarter, own))
    gain, equal = arms.of(main) - arms.of(blind), arms.of(main) - arms.of(longer)
    room = mean(arms.of(Labels("best", own, n, own)) - arms.of(blind))
    summary: Json = {
        "seeds": n,
        "chosen_at": quarter,
        "gain": finite(interval(gain).mean),
        "gain_low": finite(interval(gain).low),
        "gain_high": finite(interval(gain).high),
        "gain_over_longer_run": finite(interval(equal).mean),
        "any_seed": finite(mean(arms.of(blind))),
        "best_seed_gain": finite(room),
        **tests(data),
    }
    return Found(
        data=data,
        finding=_finding(arms, main, blind, equal, room),
        n=len(arms.samples),
        summary=summary,
        verdict=_gain.decide(gain, equal, room=room),
    )


def _pools(found: Stored) -> dict[str, list[Made]]:
    """The clean runs of each sample, those of the seeds that every sample has, by seed."""
    samples = sorted({one.run.sample_id for one in found.clean})
    seeds = [{one.run.seed for one in found.clean if one.run.sample_id == sample} for sample in samples]
    shared = sorted(set.intersection(*seeds))
    by_key = {one.key: one for one in found.clean}
    return {sample: [by_key[sample, seed] for seed in shared] for sample in samples}


def _of_sample(acts: ActivationStore, sample: str, pool: list[Made], at: Sequence[int], own: int) -> list[Entry]:
    """What can be had from the whole runs of one sample."""
    n, scores = len(pool), [one.score for one in pool]
    each, time = mean(one.forwards for one in pool), mean(one.seconds for one in pool)
    best = float(np.max(scores)) if np.isfinite(scores).all() else float("nan")
    found = [
        Entry(Labels("any", 0, 1, own), sample, mean(scores), each, time),
        Entry(Labels("best", own, n, own), sample, best, n * each, n * time),
    ]
    if n < 2:
        return found
    first = acts.sample(sample).first_frame.astype(np.float32) / 255
    steps = sorted({one for step in at for one in (step - 2, step - 1)} | {own - 1})
    x0 = {step: _x0(acts, pool, step) for step in steps}
    for step in at:
        share = cost(n, step, own) / own
        told = preferences(x0[step - 1], x0[step - 2], first)
        for name in CRITERIA:
            chosen = scores[int(told[name].argmax())]
            found.append(Entry(Labels(name, step, n, own), sample, chosen, share * each, float("nan")))
        whole = int(share)
        among = preferences(x0[own - 1][:whole], x0[own - 1][:whole], first)["agreeing"] if whole > 1 else np.zeros(1)
        fewer = scores[int(among.argmax())]
        found.append(Entry(Labels("fewer", step, whole, own), sample, fewer, whole * each, whole * time))
    return found


def _x0(acts: ActivationStore, pool: Sequence[Made], step: int) -> Pixels:
    runs = [acts.load("x0_hat", "pixels", runs=[one.run.id], step=step, lazy=False).to_numpy()[0] for one in pool]
    return np.stack(runs).astype(np.float32) / 255


def _commitment(acts: ActivationStore, pools: Mapping[str, list[Made]], own: int) -> dict[str, xr.DataArray]:
    """Share of runs whose answer read from x̂0 is right or wrong as at the end, by step: the commitment curve."""
    ids = [one.run.id for pool in pools.values() for one in pool]
    query = """SELECT run_id, step, avg(value) FROM scores
    WHERE metric = 'answer' AND list_contains(?, run_id) GROUP BY ALL"""
    rows = {
        (str(id), -1 if step is None else int(step)): value >= RIGHT
        for id, step, value in acts.sql(query, [ids]).fetchall()
    }
    same = np.full((len(pools), own), np.nan)
    for row, pool in zip(same, pools.values(), strict=True):
        for step in range(own):
            told = [rows[one.run.id, step] == rows[one.run.id, -1] for one in pool if (one.run.id, step) in rows]
            row[step] = mean(map(float, told))
    ranges = [interval(column) for column in same.T]
    attrs = {"long_name": "share of runs whose answer is right or wrong as at the end", "units": "share"}
    attrs |= {"n": str(len(pools)), "interval": INTERVAL}
    return {
        f"committed{suffix}": xr.DataArray(
            [getattr(one, part) for one in ranges], dims=dims.STEP, coords={dims.STEP: np.arange(own)}, attrs=attrs
        )
        for part, suffix in (("mean", ""), ("low", "_low"), ("high", "_high"))
    }


def _finding(arms: Arms, main: Labels, blind: Labels, equal: Float, room: float) -> str:
    n = some(len(arms.samples), "sample")
    base = arms.of(blind)
    if main not in arms.labels or not np.isfinite(base).any():
        return f"Nothing scored these videos, or there is one seed only, n = {n}."
    others = [
        f"{name} {words(interval(arms.of(main._replace(method=name)) - base))}"
        for name in CRITERIA
        if name != main.method
    ]
    at = arms.labels.index(main)
    longer = f"; over one run of as many forwards {words(interval(equal))}" if np.isfinite(equal).any() else ""
    return (
        f"Of {main.seeds} seeds the most settled after {main.at} of {main.steps} steps scores "
        f"{words(interval(arms.of(main) - base))} against {mean(base):.3f} of any seed, for {arms.forwards[at]:.0f} "
        f"forwards instead of {arms.forwards[arms.labels.index(blind)]:.0f}{longer}; by other criteria "
        f"{', '.join(others)}; the best seed would give {room:+.3f}; n = {n}."
    )
