"""Propagation of noise (E5): injected step × later step, how unlike the clean run the states still are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import xarray as xr
from dask.base import compute as compute_all
from dask.delayed import delayed
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import store
from analyses import _alike
from analyses._alike_rows import compare, tokens
from analyses._features import Grid, describe
from analyses._registry import Found, once
from analyses._result import Result
from analyses._stats import SAMPLE, over_samples
from analyses._steps import switches, with_steps
from analyses._words import some, with_interval
from analyses.errors import NoRuns
from analyses.experiments import _paired
from analyses.experiments._base import Arm, Experiment, Frame, register
from analyses.experiments._flips import FEWEST, ranges
from analyses.experiments._paired import Float, Interval, Pair, pairs
from analyses.experiments.noise import Labels, Noise, at_step, labels_of
from store import ActivationStore, CaptureItem, CaptureSpec, Json, StepInfo, dims
from store.places import Location

VERSION = 2
SITE, KEPT = "resid_post", "project"
NOISES: Final = ("plain", "matched")
INJECTED: Final = "injected"
"""Axis of the steps that noise was put at."""
HEALED: Final = 0.5
"""Share of the first dissimilarity below which noise has healed."""
LAYERS: Final = 3
"""Layers that are kept if none are named."""


@register
@dataclass(frozen=True, kw_only=True)
class Propagation(Experiment):
    """Put noise at one step, and follow how far the hidden states of all later steps are from the clean run's."""

    name: ClassVar[str] = "propagation"
    claim: ClassVar[str] = (
        "Noise that is put in early never heals, and steps in the middle are the most sensitive to noise."
    )
    rule: ClassVar[str] = (
        "Dissimilarity is 1 - debiased linear CKA over tokens between a changed and its clean run, mean over kept "
        "layers; the sensitivity of a step is its mean from that step to the last. Early noise heals if, after plain "
        "noise at the tested steps of the first third, dissimilarity at the last step is below half of that at the "
        "injected one. The peak of a kind of noise is its tested step of highest mean sensitivity. Replicates: early "
        "noise does not heal (lower end of the paired difference at 0 or above), and under plain and under matched "
        "noise the peak is neither the first nor the last tested step and above the mean of the others (lower end, and "
        "p below 0.05 after Holm's correction over the tested steps, as it was chosen among them). Does not replicate: "
        "early noise heals (upper end below 0), or under either noise the peak is the first or last tested step and "
        "above the mean of the others (the same). Inconclusive otherwise, with fewer than three "
        "tested steps, or with fewer than 8 samples."
    )

    at: tuple[int, ...] | None = None
    """Steps to put noise at; six from first to last if not given."""
    layers: tuple[int, ...] | None = None
    """Layers whose states are kept; three from a quarter of the depth to the last if not given."""

    def plan(self, frame: Frame) -> tuple[Arm, ...]:
        """See `Experiment.plan`."""
        steps = Noise(at=self.at).steps(frame)
        # At step 0 x_s is noise, and matched is plain.
        return (*(at_step(step) for step in steps), *(at_step(step, matched=True) for step in steps if step))

    def keeps(self, frame: Frame) -> tuple[CaptureSpec, CaptureSpec]:
        """See `Experiment.keeps`."""
        layers = self.layers
        if layers is None:
            layers = tuple(np.linspace(frame.layers // 4, frame.layers - 1, LAYERS).round().astype(int).tolist())
        # Tokens on 64 directions: inner products, of which CKA is made, stay nearly what they are, for a quarter of the
        # bytes at a width of 256 and an 80th at 5120. Of x_s or x̂0 a single number would do, but the claim is about
        # hidden states.
        states = CaptureItem(site=SITE, reduction=KEPT, layers=layers, branches=("cond",))
        return CaptureSpec(items=(*self.clean.items, states)), CaptureSpec(items=(states,))

    def compare(self, acts: ActivationStore, *, runs: Sequence[str] | None = None, where: str | None = None) -> Result:
        """See `Experiment.compare`."""
        found = [pair for pair in pairs(acts, arm_of=_arm, runs=runs, where=where) if _holds(acts, pair)]
        if not found:
            raise NoRuns(
                f"No run with noise at a step holds {SITE}/{KEPT} beside its clean run; make them with "
                "`stepscope experiment propagation`."
            )
        params: Json = {"healed": HEALED, "fewest": FEWEST, "site": SITE, "reduction": KEPT}
        return once(
            acts,
            analysis=self.name,
            version=VERSION,
            params=params,
            run_ids=sorted({run.id for pair in found for run in (pair.run, pair.clean)}),
            compute=lambda: _compare(acts, found),
        )


def _arm(interventions: tuple[Json, ...]) -> Labels | None:
    labels = labels_of(interventions)
    fits = labels is not None and (labels.noise, labels.dose, labels.draw) == ("step", 1.0, 0)
    return labels if fits else None


def _holds(acts: ActivationStore, pair: Pair) -> bool:
    """Whether both runs hold the states."""
    return all(
        (SITE, KEPT) in {(array.site, array.reduction) for array in acts.run(run.id).arrays}
        for run in (pair.run, pair.clean)
    )


class Seen(NamedTuple):
    """One changed run beside its clean one; NaN before the injected step."""

    apart: Float
    """Dissimilarity over tokens, float64 `[step, layer]`."""
    means: NDArray[np.float32]
    """Mean token of the changed run and of the clean one, `[2, step, layer, channel]`."""


class Shape(NamedTuple):
    """Axes of the result."""

    samples: tuple[str, ...]
    injected: tuple[int, ...]
    steps: tuple[int, ...]
    layers: tuple[int, ...]


def _compare(acts: ActivationStore, found: Sequence[Pair]) -> Found:
    grid = describe(acts, found[0].run.id, site=SITE, reduction=KEPT, branch="cond")
    labels = [pair.arm for pair in found]
    shape = Shape(
        tuple(sorted({pair.run.sample_id for pair in found})),
        tuple(sorted({arm.step for arm in labels if isinstance(arm, Labels)})),
        grid.labels[dims.STEP],
        grid.labels[dims.LAYER],
    )
    with threadpool_limits(1, user_api="blas"):
        seen: list[Seen] = list(compute_all(*[delayed(_seen)(acts.path, grid, pair) for pair in found]))
    apart, means = _by_sample(shape, found, seen)
    steps = acts.run(found[0].clean.id).steps
    rates = sensitivity(apart)
    verdict, contrasts = _contrasts(shape, apart, rates)
    data = _dataset(shape, apart, means, rates, steps)
    peaks = {
        noise: shape.injected[at] for noise, row in zip(NOISES, rates, strict=True) if (at := _peak(row)) is not None
    }
    at = [int(step) for step in switches(steps)]
    summary: Json = {f"peak_{noise}": step for noise, step in peaks.items()}
    tests: Json = {
        "comparisons": int(np.isfinite(data["p_adjusted"]).sum()),
        "significant": int((data["p_adjusted"] < 0.05).sum()),
        "correction": _paired.CORRECTION,
    }
    return Found(
        data=data.assign_attrs(switches=at, headline="dissimilarity_tokens"),
        finding=_finding(shape, contrasts, peaks, at),
        n=len(shape.samples),
        summary={**summary, **_paired.ends("not_healed", contrasts["healing"]), **tests, "switches": at},  # pyright: ignore[reportArgumentType]
        verdict=verdict,
    )


def _seen(path: Location, grid: Grid, pair: Pair) -> Seen:
    acts = store.open(path)
    steps, layers = grid.labels[dims.STEP], grid.labels[dims.LAYER]
    apart = np.full((len(steps), len(layers)), np.nan)
    means = np.full((2, *apart.shape, grid.channels), np.nan, np.float32)
    assert isinstance(pair.arm, Labels)
    for place, step in enumerate(steps):
        if step >= pair.arm.step:
            both = [tokens(acts, grid, run.id, step=step, layer=None) for run in (pair.run, pair.clean)]
            apart[place] = 1 - compare(both[0], both[1], matched=True, measures=("cka",))["cka"]
            means[:, place] = [[layer.mean(axis=0) for layer in side] for side in both]
    return Seen(apart, means)


def _by_sample(shape: Shape, found: Sequence[Pair], seen: Sequence[Seen]) -> tuple[Float, Float]:
    """Means over the seeds of a sample, NaN where there is no run.

    Returns:
        Dissimilarity `[noise, injected, sample, step, layer]`, and mean tokens of the changed runs and the clean ones
        `[noise, injected, 2, sample, step, layer, channel]`.
    """
    size = len(NOISES), len(shape.injected), len(shape.samples)
    groups: dict[tuple[int, int, int], list[Seen]] = {}
    for pair, one in zip(found, seen, strict=True):
        assert isinstance(pair.arm, Labels)
        place = int(pair.arm.matched), shape.injected.index(pair.arm.step), shape.samples.index(pair.run.sample_id)
        groups.setdefault(place, []).append(one)
    apart = np.full((*size, *seen[0].apart.shape), np.nan)
    means = np.full((*size[:2], 2, size[2], *seen[0].means.shape[1:]), np.nan)
    for (noise, injected, sample), ones in groups.items():
        apart[noise, injected, sample] = np.mean([one.apart for one in ones], axis=0)
        means[noise, injected, :, sample] = np.mean([one.means for one in ones], axis=0)
    return apart, means


def sensitivity(apart: Float) -> Float:
    """Mean over layers and over the steps from the injected one on, `[noise, injected, sample]`; NaN without a run.

    Args:
        apart: `[noise, injected, sample, step, layer]`, NaN before the injected step.
    """
    lead = apart.shape[:3]
    flat = apart.reshape(-1, apart.shape[3] * apart.shape[4])
    there = np.isfinite(flat)
    total = np.where(there, flat, 0).sum(axis=1)
    return np.divide(total, there.sum(axis=1), out=np.full(len(flat), np.nan), where=there.any(axis=1)).reshape(lead)


def _contrasts(shape: Shape, apart: Float, rates: Float) -> tuple[Any, dict[str, Interval]]:
    """The verdict, and what it was reached by."""
    third = [at for at, step in enumerate(shape.injected) if step < len(shape.steps) / 3]
    layered = apart.mean(axis=-1)
    begins = [shape.steps.index(step) for step in shape.injected]
    early = [layered[0, at, :, -1] - HEALED * layered[0, at, :, begins[at]] for at in third]
    found = {"healing": _paired.interval(_mean(early, len(shape.samples)))}
    places: list[Peak] = []
    for noise, name in enumerate(NOISES):
        tested, peak = _tested(rates[noise]), _peak(rates[noise]) or 0
        above = [rates[noise, at] - _others(rates[noise], at) for at in tested]
        p = _paired.holm(np.array([_paired.p_value(one) for one in above]))
        found[name] = _paired.interval(rates[noise, peak] - _others(rates[noise], peak))
        inner = len(tested) > 2 and tested[0] < peak < tested[-1]
        places.append(Peak(found[name], float(p[tested.index(peak)]) if tested else float("nan"), inner))
    few = len(shape.injected) < 3
    return ("inconclusive" if few else decide(found["healing"], places)), found


def _mean(rows: Sequence[Float], size: int) -> Float:
    return np.mean(rows, axis=0) if rows else np.full(size, np.nan)


class Peak(NamedTuple):
    """The tested step of highest mean sensitivity under one kind of noise."""

    above: Interval
    """Its sensitivity less the mean of the other steps."""
    p: float
    """Of no difference, corrected over the tested steps."""
    inner: bool
    """Whether it is neither the first nor the last tested step."""

    @property
    def stands_out(self) -> bool:
        """Whether it is more than the highest of steps that are all alike."""
        return self.above.low > 0 and self.p < 0.05


def decide(healing: Interval, peaks: Sequence[Peak]) -> Any:
    """The verdict, by `Propagation.rule`.

    Args:
        healing: Dissimilarity at the last step less half of that at the injected one, after early plain noise.
        peaks: Of plain and of matched noise.
    """
    if min(healing.n, *(peak.above.n for peak in peaks)) < FEWEST:
        return "inconclusive"
    if healing.high < 0 or any(peak.stands_out and not peak.inner for peak in peaks):
        return "does not replicate"
    return "replicates" if healing.low >= 0 and all(peak.stands_out for peak in peaks) else "inconclusive"


def _dataset(shape: Shape, apart: Float, means: Float, rates: Float, steps: Sequence[StepInfo]) -> xr.Dataset:
    """Everything by noise, injected step, later step and layer."""
    axes = ("noise", INJECTED, SAMPLE, dims.STEP, dims.LAYER)
    coords = {"noise": list(NOISES), INJECTED: list(shape.injected), dims.STEP: list(shape.steps)}
    coords[dims.LAYER] = list(shape.layers)
    told = "1 - debiased linear CKA between the changed and the clean run; "
    by_tokens = xr.DataArray(apart, dims=axes, coords=coords)
    data: dict[str, Any] = {}
    for rows, values in (("tokens", by_tokens), ("samples", _over_samples(means, axes, coords))):
        if values is not None:
            words = {"tokens": "rows are the tokens of a run", "samples": "rows are samples, each its mean token"}[rows]
            found = over_samples(f"dissimilarity_{rows}", values)
            data |= {name: one.assign_attrs(long_name=told + words, units="1") for name, one in found.items()}
    flat = ("noise", INJECTED)
    long_name = "mean dissimilarity from the injected step to the last"
    data |= ranges("sensitivity", rates, flat, long_name=long_name, units="1")
    above = np.stack([[row[at] - _others(row, at) for at in range(len(row))] for row in rates])
    p = np.array([[_paired.p_value(one) for one in row] for row in above])
    size = np.array([[_paired.effect_size(one) for one in row] for row in above])
    data["sensitivity_by_sample"] = ((*flat, SAMPLE), rates, {"long_name": long_name, "units": "1"})
    data["effect_size"] = (flat, size, {"long_name": "d_z of the sensitivity less the mean of the other steps"})
    data["p_value"] = (flat, p, {"long_name": "p of a sensitivity like the mean of the other steps"})
    corrected = _paired.holm(p.ravel()).reshape(p.shape)
    data["p_adjusted"] = (flat, corrected, {"long_name": f"the same, {_paired.CORRECTION} over all of them"})
    whole = with_steps(xr.Dataset(data, coords={**coords, SAMPLE: list(shape.samples)}), steps)
    info = {step.step: step.expert for step in steps}
    return whole.assign_coords(injected_expert=(INJECTED, [info[step] for step in shape.injected]))


def _tested(rates: Float) -> list[int]:
    """Places of the steps that have runs, of `[injected, sample]`."""
    return [int(at) for at in np.flatnonzero(np.isfinite(rates).any(axis=1))]


def _peak(rates: Float) -> int | None:
    """Place of the highest mean sensitivity, of `[injected, sample]`."""
    return max(_tested(rates), key=lambda at: float(np.nanmean(rates[at])), default=None)


def _others(rates: Float, at: int) -> Float:
    """Mean sensitivity of all tested steps but one, `[sample]`; NaN with no other."""
    return _mean([rates[place] for place in _tested(rates) if place != at], rates.shape[1])


def _over_samples(means: Float, axes: tuple[str, ...], coords: dict[str, Any]) -> xr.DataArray | None:
    """Dissimilarity over samples as what each sample adds to it, `[noise, injected, sample, step, layer]`.

    None with fewer than five samples, as each must leave four behind.
    """
    noises, injected, _, samples, steps, layers, _ = means.shape
    if samples < 5:
        return None
    found = np.full((noises, injected, samples, steps, layers), np.nan)
    for place in np.ndindex(noises, injected, steps, layers):
        changed, clean = (means[(*place[:2], side, slice(None), *place[2:])] for side in (0, 1))
        if np.isfinite(changed).all():
            values = _alike.pseudo_values(_alike.grams([changed]), _alike.grams([clean]))
            found[(*place[:2], slice(None), *place[2:])] = 1 - values[:, 0, 0]
    return xr.DataArray(found, dims=axes, coords=coords)


def _finding(shape: Shape, found: dict[str, Interval], peaks: dict[str, int], at: Sequence[int]) -> str:
    def words(one: Interval) -> str:
        return with_interval(one.mean, one.low, one.high, digits=3)

    told = ", ".join(
        f"of {noise} noise at step {step}, {words(found[noise])} above the mean of the others"
        for noise, step in peaks.items()
    )
    switch = ""
    if at:
        same = [noise for noise, step in peaks.items() if step in at]
        coincides = f", where {' and '.join(same)} noise peaks" if same else ""
        switch = f"; another expert takes over at step {', '.join(map(str, at))}{coincides}"
    return (
        f"After early plain noise the states at the last step are {words(found['healing'])} further from clean than "
        f"half of the distance at the injected step; sensitivity peaks {told}{switch}; "
        f"n = {some(len(shape.samples), SAMPLE)}."
    )
