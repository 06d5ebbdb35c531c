"""Self-correction (E11 of SCIENCE.md): does the answer that x̂0 shows turn from wrong to right more often than back?

The first x̂0 is a blur, and a blur is a wrong answer; every run that ends right leaves it. That is no correction. So
what counts are changes after the picture has formed, and the same from the first step on stands beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from analyses._registry import Found, Verdict, once, register
from analyses._result import Result
from analyses._select import Selection, select
from analyses._stats import SAMPLE, bare, over_samples, per_sample, wilson
from analyses._steps import switches, with_steps
from analyses._words import counts, finite, triple, with_interval
from analyses._x0 import ANSWER, METRIC, SOLVED
from analyses.errors import NoRuns
from analyses.trajectory import readings
from store import ActivationStore, Json, dims

VERSION: Final = 2
SINCE: Final = "since"
"""Axis of from when on changes count."""
STARTS: Final = ("first step", "formed picture")
"""`formed picture`: from the step on from which x̂0 stays nearer to its end than half of the first step's distance."""
MIN_SAMPLES: Final = 10
"""Samples below which there is no verdict."""
ALPHA: Final = 0.05
"""Level of the sign test."""
RARE: Final = 0.05
"""Share of samples with any correction whose interval ends below this: too rare to speak of."""
_WORDS: Final[dict[str, tuple[str, str, tuple[float, float]]]] = {
    "right": ("share of runs whose x̂0 shows a right answer", "1", (0, 1)),
    "corrected": ("share of runs whose answer turns from wrong to right at this step", "1", (0, 1)),
    "spoiled": ("share of runs whose answer turns from right to wrong at this step", "1", (0, 1)),
    "corrections": ("changes from wrong to right in a run", "changes", (0, np.inf)),
    "spoilings": ("changes from right to wrong in a run", "changes", (0, np.inf)),
    "net": ("changes from wrong to right minus changes back in a run", "changes", (-1, 1)),
    "corrected_when_wrong": ("share of steps with a wrong answer after which it is right", "1", (0, 1)),
    "spoiled_when_right": ("share of steps with a right answer after which it is wrong", "1", (0, 1)),
    "correction_step": ("step of a change from wrong to right", "step", (0, np.inf)),
    "spoiling_step": ("step of a change from right to wrong", "step", (0, np.inf)),
}
"""Quantity → what it is, its unit, and what is possible."""


class Signs(NamedTuple):
    """How many samples change for the better and for the worse, and the test of that."""

    better: NDArray[np.intp]
    worse: NDArray[np.intp]
    p: NDArray[np.float64]
    """Two-sided, exact, 1 where no sample changes."""


@register
def self_correction(
    acts: ActivationStore,
    *,
    where: str | None = None,
    runs: Sequence[str] | None = None,
    scorer: str | None = None,
) -> Result:
    """Changes of the answer read from x̂0, from wrong to right and back.

    Quantities with intervals over samples: `right` [step]; `corrected`, `spoiled` [since, step]; `corrections`,
    `spoilings`, `net`, `corrected_when_wrong`, `spoiled_when_right`, `correction_step`, `spoiling_step` [since].
    Without: `answer_by_run` [run, step] (0 or 1), `formed_by_run` [run] (a step).

    Verdict on *the model corrects itself*, by changes since the picture has formed: `replicates` if more samples
    change for the better than for the worse by an exact two-sided sign test (p ≤ 0.05; a sample's runs averaged, those
    without a change left out); `does not replicate` if more change for the worse by the same test, or if the 95 %
    Wilson interval of the share of samples with any correction ends below 0.05; else `inconclusive`, also with fewer
    than 10 samples.

    Args:
        acts: The store; runs need an array of x̂0, and scores of the decoded x̂0 by step.
        where: SQL over runs and samples. Left out, and `runs` too, the clean runs are taken.
        runs: Run ids.
        scorer: Read this scorer's scores only; needed where two scorers gave a run the same metric.

    Raises:
        NoRuns: if no run holds an array of x̂0 and an `answer` by step.
        MixedRuns: if the runs are of several conditions, or kept x̂0 at different steps.
        AmbiguousScores: if two scorers gave a run the same metric.
    """
    chosen = select(acts, arrays=["x0_hat/full", "x0_hat/pixels"], where=where, runs=runs)
    return once(
        acts,
        analysis="self_correction",
        version=VERSION,
        params={"scorer": scorer},
        run_ids=chosen.run_ids,
        compute=lambda: _found(acts, chosen, scorer=scorer),
    )


def changes(right: xr.DataArray, formed: xr.DataArray) -> xr.Dataset:
    """Every number of each run.

    Args:
        right: Whether x̂0 shows a right answer, bool `[run, step]`.
        formed: Step from which the picture has formed, `[run]`; NaN where it never does, so that no change counts.

    Returns:
        By run, those of `_WORDS` that are no `right`; NaN for a step of a change where there is none.
    """
    before = right.shift({dims.STEP: 1}, fill_value=False)
    number = right[dims.STEP].astype(np.float64)
    start = xr.concat([xr.zeros_like(formed) - 1, formed], dim=xr.Variable(SINCE, list(STARTS)))
    # A change belongs to its later step: the earlier one must count as well.
    earlier = number.shift({dims.STEP: 1})
    counts_ = (earlier >= start) & start.notnull()
    up, down = counts_ & right & ~before, counts_ & before & ~right
    found = xr.Dataset(
        {
            "corrected": up.astype(np.float64),
            "spoiled": down.astype(np.float64),
            "corrections": up.sum(dims.STEP),
            "spoilings": down.sum(dims.STEP),
            "corrected_when_wrong": _share(up, counts_ & ~before),
            "spoiled_when_right": _share(down, counts_ & before),
            "correction_step": number.where(up).mean(dims.STEP, skipna=True),
            "spoiling_step": number.where(down).mean(dims.STEP, skipna=True),
        }
    )
    return found.assign(net=found["corrections"] - found["spoilings"])


def sign_test(net: NDArray[np.float64]) -> Signs:
    """Whether samples change for the better more often than for the worse.

    Args:
        net: Of each sample, its runs averaged, `[…, sample]`.
    """
    better, worse = (net > 0).sum(axis=-1), (net < 0).sum(axis=-1)
    p = np.minimum(1, 2 * stats.binom.cdf(np.minimum(better, worse), better + worse, 0.5))
    return Signs(better, worse, np.where(better + worse > 0, p, 1))


def judge(signs: Signs, *, samples: int, rare: bool) -> Verdict:
    """The rule of `self_correction`.

    Args:
        signs: Of one set of samples.
        samples: How many there are.
        rare: See `is_rare`.
    """
    if samples < MIN_SAMPLES:
        return "inconclusive"
    if float(signs.p) <= ALPHA:
        return "replicates" if signs.better > signs.worse else "does not replicate"
    return "does not replicate" if rare else "inconclusive"


def is_rare(corrected: int, samples: int) -> bool:
    """Whether corrections are surely rare; no correction at all is, in 73 samples and more.

    Args:
        corrected: Samples with a correction in any of their runs.
        samples: All of them.
    """
    return wilson(corrected, samples)[1] < RARE


def _share(what: xr.DataArray, of: xr.DataArray) -> xr.DataArray:
    total = of.sum(dims.STEP)
    return what.sum(dims.STEP) / total.where(total > 0)


def _found(acts: ActivationStore, chosen: Selection, *, scorer: str | None) -> Found:
    read = readings(acts, chosen, scorer=scorer)
    if "score" not in read or ANSWER not in read[METRIC]:
        raise NoRuns(
            "The chosen runs have no score `answer` of x̂0 by step: capture runs of a world with x0_hat/pixels (their "
            "x̂0 are scored then), or write scores with a step."
        )
    score = read["score"].sel({METRIC: ANSWER}, drop=True).dropna(dims.STEP, how="any")
    if score.sizes[dims.STEP] < 2:
        raise NoRuns("The chosen runs have fewer than two steps at which all x̂0 are scored: nothing can change.")
    right = score >= SOLVED
    one = changes(right, read["distance_commit"]).assign(right=right.astype(np.float64))
    arrays: dict[str, xr.DataArray] = {}
    for name, (words, units, bounds) in _WORDS.items():
        if not bool(one[name].notnull().any()):
            continue  # the step of a change, and there is none
        by_sample = per_sample(one[name].assign_coords(sample_id=read["sample_id"]))
        arrays |= over_samples(name, by_sample.assign_attrs(long_name=words, units=units), bounds=bounds)
    formed = bare(read["distance_commit"]).assign_attrs(long_name="step of a formed picture", units="step")
    data = xr.Dataset(arrays).assign(formed_by_run=formed)
    data["answer_by_run"] = right.astype(np.int8).assign_attrs(long_name="answer read from x̂0", units="1 = right")
    infos = acts.run(chosen.run_ids[0]).steps
    samples = len(set(chosen.sample_ids))
    data = with_steps(data, infos).assign_attrs(
        headline="net", n=samples, runs=len(chosen.run_ids), switches=switches(infos)
    )
    net = per_sample(one["net"].assign_coords(sample_id=read["sample_id"])).sel({SINCE: STARTS[1]})
    signs = sign_test(net.transpose(..., SAMPLE).to_numpy())
    ups = per_sample(one["corrections"].assign_coords(sample_id=read["sample_id"])).sel({SINCE: STARTS[1]})
    return _told(data, chosen, signs, corrected=int((ups > 0).sum()), samples=samples)


def _told(data: xr.Dataset, chosen: Selection, signs: Signs, *, corrected: int, samples: int) -> Found:
    own = data.sel({SINCE: STARTS[1]})
    numbers = {name: triple(own, name) for name in ("corrections", "spoilings", "net")}
    steps = {name: triple(own, name) for name in ("correction_step", "spoiling_step") if name in own}
    when = f", at step {with_interval(*steps['correction_step'])} on average" if numbers["corrections"][0] > 0 else ""
    finding = (
        f"Once x̂0 has formed, its answer turns from wrong to right {with_interval(*numbers['corrections'], digits=2)} "
        f"times a run{when}, and back {with_interval(*numbers['spoilings'], digits=2)} times; samples that change: "
        f"{int(signs.better)} for the better, {int(signs.worse)} for the worse (sign test p = {float(signs.p):.2g}; "
        f"{counts(samples=samples, runs=len(chosen.run_ids))})."
    )
    summary: Json = {
        "better": int(signs.better),
        "worse": int(signs.worse),
        "corrected_samples": corrected,
        "p": float(signs.p),
        **{
            f"{name}{end}": finite(value)
            for name, ends in {**numbers, **steps}.items()
            for end, value in zip(("", "_low", "_high"), ends, strict=True)
        },
    }
    verdict = judge(signs, samples=samples, rare=samples > 0 and is_rare(corrected, samples))
    return Found(data=data, finding=finding, n=samples, summary=summary, verdict=verdict)
