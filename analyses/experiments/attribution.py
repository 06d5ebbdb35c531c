"""Attribution patching: the cheap, first-order version of `patch`, held against the real one on the same arms.

What each token of a donor's states would do to the answer, to first order, `interp.attribution` has computed and
stored: gradient · (donor − own) of a metric read from the guided x̂0 of the same step, 0 at the run's own end and 1 at
the donor's. Here these numbers are added up to the arms of `patch`, and ranked against what real patches recovered.

Of an arm, attributions are added over its tokens and branches, and averaged over its steps: each step has an x̂0 of its
own. Over layers they are added where each writes its own part (`attn_out`, `mlp_out`); of the residual stream, whose
later layers hold what earlier ones do, the last layer of the block counts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

from analyses._registry import Found, once
from analyses._result import Result
from analyses._words import finite, some, with_interval
from analyses.errors import BadPlan, NoRuns
from analyses.experiments import _flips, _paired
from analyses.experiments._answers import NEAR, SHOWN, Question
from analyses.experiments._base import Arm, Frame, Sought, register
from analyses.experiments._exchange import Labels, twins_of
from analyses.experiments._exchanged import Exchange, Outcome, Read, Stored, read, stored
from analyses.experiments._flips import FEWEST, UNIT, Flips
from analyses.experiments._paired import Float, Interval, means
from analyses.experiments._token_cells import token_cells
from analyses.experiments.patch import Patch
from store import ActivationStore, Json, Run, Sample, digest, dims
from store.results import ResultEntry

VERSION: Final = 3
TOKENS: Final = "attribution_tokens"
"""Name of the results that hold attributions by token, one for each receiving run and its donor."""
PARTS: Final = ("whole", "target", "background")
"""Regions that arms may have."""
USABLE: Final = 0.5
"""Rank correlation with the real patches from which on the cheap version is usable."""
ARMS: Final = 6
"""Arms below which nothing is decided: of fewer, chance alone often ranks most alike."""
GROUP: Final = "group"
"""Axis of the arms that are ranked together."""
_RESIDUAL: Final = ("resid_pre", "resid_post")


@register
@dataclass(frozen=True, kw_only=True)
class Attribution(Patch):
    """The arms of `Patch`, each also foretold from one backward pass a step; see how well the cheap one ranks them."""

    name: ClassVar[str] = "attribution"
    takes_gradients: ClassVar[bool] = True
    claim: ClassVar[str] = (
        "Which states carry the answer can be told without patching any: the gradient of the answer in x̂0 of the same "
        "step, times the difference to the donor's states, ranks patches by what they recover."
    )
    rule: ClassVar[str] = (
        "Spearman's rho between attributed and recovered evidence over all arms of a pair of twins, mean over pairs. "
        "Replicates (the cheap version is usable): rho is at least 0.5 (lower end), and above the rho of the size of "
        "the change alone, the norm of donor less own without any gradient (lower end of the paired difference above "
        "0). Does not replicate: rho is below 0.5, or below that of the size (upper ends). Inconclusive otherwise, "
        "with fewer than 6 arms, or with fewer than 8 pairs."
    )

    points: int = 0
    """Points between both twins' states at which gradients are taken (midpoint rule); 0 for one at the run's own."""

    def plan(self, frame: Frame) -> tuple[Arm, ...]:
        """See `Experiment.plan`."""
        if wrong := [part for part in self.parts if part not in PARTS]:
            raise BadPlan(f"nothing is attributed to the part {wrong[0]!r}; there are {', '.join(PARTS)}")
        if self.points < 0:
            raise BadPlan(f"there are no {self.points} points between two states; ask for 0 or more")
        return super().plan(frame)

    def sought(self, clean: Sequence[tuple[Sample, Run]], frame: Frame) -> tuple[Sought, ...]:
        """See `Experiment.sought`."""
        twins = twins_of(list({sample.id: sample for sample, _ in clean}.values()))
        runs = {(run.sample_id, run.seed): run for _, run in clean}
        windows = [Labels(**arm.labels) for arm in self.plan(frame)]  # pyright: ignore[reportArgumentType]
        steps = tuple(sorted({step for one in windows for step in one.steps}))
        return tuple(
            Sought(run, runs[twins[run.sample_id].id, run.seed], tuple(dict.fromkeys(self.sites)), steps, self.points)
            for _, run in clean
            if run.sample_id in twins
        )

    def compare(self, acts: ActivationStore, *, runs: Sequence[str] | None = None, where: str | None = None) -> Result:
        """See `Experiment.compare`."""
        found = stored(acts, wanted=lambda labels: labels.part in ("whole", "mask"), runs=runs, where=where)
        entries = _entries(acts, found, points=self.points)
        kept = Stored(tuple(one for one in found.exchanges if _pair(one) in entries), found.samples)
        ids = sorted({entry.record.id for entry in entries.values()})
        params: Json = {"shown": SHOWN, "near": NEAR, "fewest": FEWEST, "attributions": digest(*ids)}
        return once(
            acts,
            analysis=self.name,
            version=VERSION,
            params=params,
            run_ids=kept.run_ids,
            compute=lambda: _compare(acts, kept, entries, points=self.points),
        )


Pair = tuple[str, str]
"""Ids of a receiving run and of its donor."""


def _pair(one: Exchange) -> Pair:
    return one.clean.id, one.rival.id


def _entries(acts: ActivationStore, found: Stored, *, points: int) -> dict[Pair, ResultEntry]:
    """The stored attributions of each pair of runs that hold all sites and steps of its arms.

    Raises:
        NoRuns: if there are none.
    """
    wanted: dict[Pair, tuple[set[str], set[int]]] = {}
    for one in found.exchanges:
        some_sites, some_steps = wanted.setdefault(_pair(one), (set(), set()))
        some_sites.add(one.arm.site)
        some_steps.update(one.arm.steps)
    entries: dict[Pair, ResultEntry] = {}
    for entry in acts.results(f"analysis = '{TOKENS}'").values():
        params: Any = entry.record.params
        pair = params["receiver"], params["donor"]
        if params.get("points", 0) != points:
            continue
        if pair in wanted and wanted[pair][0] <= set(params["sites"]) and wanted[pair][1] <= set(params["steps"]):
            entries[pair] = entry
    if not entries:
        raise NoRuns(
            f"None of the {len(wanted)} pairs of runs has attributions at all sites and steps of its patches, with "
            f"{points} points between states; make them with `stepscope experiment attribution`."
        )
    return entries


class Cells(NamedTuple):
    """What is foretold of one pair of runs, float64 `[step, layer, site, part]`; NaN in layers without the site."""

    attributed: xr.DataArray
    """Share of the way to the donor's answer."""
    size: xr.DataArray
    """L2 norm of donor less own, raw."""

    def at(self, arm: Labels) -> tuple[float, float]:
        """Of an arm: what is attributed to it, and its size."""
        layers = list(arm.layers[-1:] if arm.site in _RESIDUAL else arm.layers)
        places: dict[str, Any] = {dims.STEP: list(arm.steps), dims.LAYER: layers, "site": arm.site, "part": arm.part}
        chosen = (one.sel(places).sum(dims.LAYER, skipna=False).mean(dims.STEP) for one in self)
        attributed, size = (float(one) for one in chosen)
        return attributed, size


def _cells(entry: ResultEntry, one: Exchange, samples: dict[str, Sample]) -> Cells:
    """Attributions of a pair, added up over branches and the tokens of each part."""
    data = entry.data.compute().astype(np.float64).sum(dims.BRANCH, skipna=False)
    question = Question(samples[one.clean.sample_id], samples[one.rival.sample_id])
    where = question.where(question.of_receiver[0], question.of_donor[0])
    frames, rows, columns = (data.sizes[axis] for axis in (dims.FRAME, dims.Y, dims.X))
    target = token_cells(where, (frames, rows, columns))
    regions = np.stack([np.ones_like(target), target, ~target]).astype(np.float64)
    masks = xr.DataArray(regions, dims=("part", dims.FRAME, dims.Y, dims.X), coords={"part": list(PARTS)})
    attributed, squares = (
        xr.dot(data[name], masks, dim=(dims.FRAME, dims.Y, dims.X)) for name in ("attribution", "difference")
    )
    return Cells(attributed, np.sqrt(squares))


class Ranked(NamedTuple):
    """Arms as they were foretold and as they turned out, float64 `[arm, unit]` each."""

    table: Flips
    attributed: Float
    size: Float

    def rho(self, foretold: Float, chosen: Sequence[int]) -> Float:
        """Spearman's rho of some arms with what they recovered, float64 `[unit]`; NaN where either does not vary."""
        recovered = self.table.values["recovered"]
        return np.array([_rho(foretold[chosen, at], recovered[chosen, at]) for at in range(recovered.shape[1])])


def _rho(ours: Float, theirs: Float) -> float:
    there = np.isfinite(ours) & np.isfinite(theirs)
    ours, theirs = ours[there], theirs[there]
    if len(ours) < 3 or np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        return float("nan")
    return float(np.corrcoef(stats.rankdata(ours), stats.rankdata(theirs))[0, 1])


def _ranked(outcomes: Sequence[Outcome], cells: dict[Pair, Cells]) -> Ranked:
    table = _flips.flips(outcomes)
    rows = [table.arms.index(one.arm) for one in outcomes]
    columns = [table.units.index(one.exchange.unit) for one in outcomes]
    foretold = np.array([cells[_pair(one.exchange)].at(one.arm) for one in outcomes], np.float64)
    shape = len(table.arms), len(table.units)
    attributed, size = (means(foretold[:, at], rows, columns, shape) for at in (0, 1))
    return Ranked(table, attributed, size)


class Agreement(NamedTuple):
    """What the rule reads."""

    rho: Interval
    """With the real patches."""
    above_size: Interval
    """That rho less the one of the size of the change."""
    arms: int


def decide(found: Agreement) -> Any:
    """The verdict, by `Attribution.rule`."""
    if found.arms < ARMS or min(found.rho.n, found.above_size.n) < FEWEST:
        return "inconclusive"
    if found.rho.low >= USABLE and found.above_size.low > 0:
        return "replicates"
    return "does not replicate" if found.rho.high < USABLE or found.above_size.high < 0 else "inconclusive"


def _compare(acts: ActivationStore, found: Stored, entries: dict[Pair, ResultEntry], *, points: int) -> Found:
    seen = read(acts, found)
    pairs = {_pair(one.exchange): one.exchange for one in seen.outcomes}
    cells = {pair: _cells(entries[pair], one, found.samples) for pair, one in pairs.items()}
    ranked = _ranked(seen.outcomes, cells)
    every = range(len(ranked.table.arms))
    rhos = ranked.rho(ranked.attributed, every), ranked.rho(ranked.size, every)
    agreement = Agreement(_paired.interval(rhos[0]), _paired.interval(rhos[0] - rhos[1]), len(every))
    seconds = [float(str(entries[pair].record.summary["seconds"])) for pair in pairs]
    summary: Json = {
        **_paired.ends("rho", agreement.rho),
        **_paired.ends("rho_of_size", _paired.interval(rhos[1])),
        **_paired.ends("rho_above_size", agreement.above_size),
        "arms": agreement.arms,
        "points": points,
        "seconds_a_pair": float(np.mean(seconds)),
        "left_out": seen.wrong,
        "reading_agreement": finite(seen.agreement),
    }
    return Found(
        data=_dataset(acts, found, ranked, cells, pairs),
        finding=_finding(ranked, agreement, seen, points=points),
        n=len(ranked.table.units),
        summary=summary,
        verdict=decide(agreement),
    )


def _dataset(
    acts: ActivationStore, found: Stored, ranked: Ranked, cells: dict[Pair, Cells], pairs: dict[Pair, Exchange]
) -> xr.Dataset:
    """The table of `patch`, with what was foretold of each arm, rho by group, and attributions by single cell."""
    steps = acts.run(found.exchanges[0].clean.id).steps
    data = _flips.dataset(ranked.table, steps, found.samples, headline="rho")
    told = {"long_name": "attributed evidence of the donor's answer", "units": "share"}
    added = _flips.ranges("attributed", ranked.attributed, ("arm",), **told)
    added["attributed_by_sample"] = (("arm", UNIT), ranked.attributed, told)
    size = {"long_name": "L2 norm of donor less own", "units": "activation"}
    added["size_by_sample"] = (("arm", UNIT), ranked.size, size)
    groups = _groups(ranked.table.arms)
    names = (("rho", ranked.attributed, "attributed"), ("rho_of_size", ranked.size, "size of the change"))
    for name, foretold, words in names:
        rhos = np.array([ranked.rho(foretold, chosen) for chosen in groups.values()])
        long_name = f"Spearman's rho of {words} and recovered, over the arms of a group"
        added |= _flips.ranges(name, rhos, (GROUP,), long_name=long_name, units="1")
        added[f"{name}_by_sample"] = ((GROUP, UNIT), rhos, {"long_name": long_name, "units": "1"})
    return data.assign(added).assign_coords({GROUP: list(groups)}).assign(cell=_by_cell(ranked, cells, pairs))


def _groups(arms: Sequence[Labels]) -> dict[str, list[int]]:
    """All arms, and those of each site, window of steps and part, by number."""
    found: dict[str, list[int]] = {"all": list(range(len(arms)))}
    for at, arm in enumerate(arms):
        for label in (arm.site, f"steps {arm.first_step}-{arm.last_step}", arm.part):
            found.setdefault(label, []).append(at)
    return found


def _by_cell(ranked: Ranked, cells: dict[Pair, Cells], pairs: dict[Pair, Exchange]) -> xr.DataArray:
    """What is attributed to each `[step, layer, cell_site, cell_part]`, mean over directions, then over pairs."""
    by_unit = [
        xr.concat([cells[pair].attributed for pair, one in pairs.items() if one.unit == unit], "direction").mean(
            "direction"
        )
        for unit in ranked.table.units
    ]
    # Arms have a site and a part as well; of cells they are axes, under names of their own.
    found = xr.concat(by_unit, UNIT).mean(UNIT).rename(site="cell_site", part="cell_part")
    return found.assign_attrs(long_name="attributed evidence of the donor's answer", units="share", n=len(by_unit))


def _finding(ranked: Ranked, found: Agreement, seen: Read, *, points: int) -> str:
    def words(one: Interval) -> str:
        return with_interval(one.mean, one.low, one.high, digits=2)

    return (
        f"{_passes(points)} {some(found.arms, 'arm')} of real patches with rho {words(found.rho)}, "
        f"{words(found.above_size)} above the size of the change alone; {some(seen.wrong, 'run')} left out, as the "
        f"clean run or its twin answers wrongly; n = {some(len(ranked.table.units), 'pair')}."
    )


def _passes(points: int) -> str:
    return f"{points} backward passes a step rank" if points > 1 else "One backward pass a step ranks"
