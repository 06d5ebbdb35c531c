"""Exploration (E2 of SCIENCE.md): how many answers x̂0 holds at each step, where, and when all but one are given up.

Read twice. With the valid answers that the world knows: evidence of each by step. And without: parts of x̂0's change
that nobody named. The second is what there is for real models; the first says how far it can be trusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np
import xarray as xr
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from analyses._components import MOST
from analyses._evidence import SHOWN
from analyses._kinds import Calibration
from analyses._options import Seed
from analyses._paths import Explored, Mix, explored
from analyses._registry import Found, Verdict, once, register
from analyses._result import Result
from analyses._select import Selection, arrays_of_all, select
from analyses._stats import SAMPLE, over_samples, per_sample, wilson
from analyses._steps import switches, with_steps
from analyses._told import BASIS, given_by, judged, named, told
from analyses._words import counts, finite, some, triple, with_interval
from analyses.errors import MixedRuns, NoRuns
from store import ActivationStore, Json, dims

VERSION: Final = 2
ANSWER: Final = "answer"
"""Axis of valid answers, in the order of `Sample.answer_videos`."""
COMPONENT: Final = "component"
"""Axis of a sample's components: endings first, then what was given up."""
MIN_SAMPLES: Final = 10
"""Ambiguous samples below which there is no verdict."""
HALF: Final = 0.5
"""Share of ambiguous samples that must hold several answers and end with one, by the verdict's rule."""
_EVIDENCE: Final = "weight in the mixture; 1 = fully painted"
_WORDS: Final[dict[str, tuple[str, str, tuple[float, float]]]] = {
    "largest": ("evidence of the strongest valid answer", _EVIDENCE, (0, np.inf)),
    "second": ("evidence of the second strongest valid answer", _EVIDENCE, (0, np.inf)),
    "effective": ("effective number of valid answers", "answers", (0, np.inf)),
    "overlap": ("overlap of the places of the answers that share the evidence", "0 = apart, 1 = one place", (0, 1)),
    "commit": ("step from which one valid answer alone stays shown", "step", (0, np.inf)),
    "component_second": ("weight of the second strongest component", _EVIDENCE, (0, np.inf)),
    "component_effective": ("effective number of components", "components", (0, np.inf)),
    "component_overlap": (
        "overlap of the places of components that share the weight",
        "0 = apart, 1 = one place",
        (0, 1),
    ),
}
"""Quantity → what it is, its unit, and what is possible."""


@register
def exploration(
    acts: ActivationStore,
    *,
    where: str | None = None,
    runs: Sequence[str] | None = None,
    calibration: Result | str | None = None,
    seed: Seed = 0,
) -> Result:
    """Candidates by step, with and without knowing them; multi-path, superposition or single.

    `docs/analyses.md` lists the quantities. The valid answers are read where samples carry the true video of each and
    all runs kept pixels; components are read always, from latents where there are no pixels.

    Verdict on *several candidates early, one at the end*, over samples with several valid answers: a sample says so if
    two are shown at some step (evidence of the second at least 0.15, beyond what 64 shifts of the picture give, p ≤
    0.05) and the last step shows fewer than two. `replicates` if the 95 % Wilson interval of the share of such samples
    lies above a half, `does not replicate` if below, else `inconclusive`, also with fewer than 10 such samples;
    `descriptive` without any.

    Args:
        acts: The store; runs need `x0_hat/pixels` or `x0_hat/full`.
        where: SQL over runs and samples. Left out, and `runs` too, the clean runs are taken.
        runs: Run ids.
        calibration: A result of this analysis on worlds; its classifier then judges these samples by their components.
            Or the id of one in this store; or a store that holds one (its latest), or `STORE#ID`.
        seed: Of the bootstrap.

    Raises:
        NoRuns: if no run holds an array of x̂0, or `calibration` has no classifier.
        MixedRuns: if the runs are of several conditions, or kept x̂0 at different steps.
        NonFinite: if an x̂0 holds NaN or infinity.
    """
    chosen = select(acts, arrays=["x0_hat/pixels", "x0_hat/full"], where=where, runs=runs)
    if isinstance(calibration, str):
        calibration = named(acts, calibration)
    given = None if calibration is None else given_by(calibration)
    return once(
        acts,
        analysis="exploration",
        version=VERSION,
        params={"seed": seed, "calibration": None if calibration is None else calibration.id},
        run_ids=chosen.run_ids,
        compute=lambda: _found(acts, chosen, given, seed=seed),
    )


def _found(acts: ActivationStore, chosen: Selection, given: Calibration | None, *, seed: int) -> Found:
    held = arrays_of_all(acts, chosen.run_ids)
    if not held & {"x0_hat/pixels", "x0_hat/full"}:
        raise NoRuns(
            f"The {len(chosen.run_ids)} chosen runs have no array of x̂0 in common: some hold x0_hat/full, others "
            "x0_hat/pixels. Choose runs of one capture with where= or runs=."
        )
    pixels = "x0_hat/pixels" in held
    steps = _steps(acts, chosen, "pixels" if pixels else "full")
    tasks = [delayed(explored)(acts.path, sample, runs, pixels=pixels) for sample, runs in chosen.by_sample().items()]
    with threadpool_limits(1, user_api="blas"):
        samples: list[Explored] = list(compute(*tasks))
    by_run = _by_run(chosen, samples, steps)
    arrays = {str(name): array for name, array in _by_sample(samples, steps).data_vars.items()}
    for name, array in by_run.data_vars.items():
        arrays[f"{name}_by_run"] = array
        if name in _WORDS:
            arrays |= over_samples(str(name), per_sample(array).assign_attrs(array.attrs), bounds=_WORDS[str(name)][2])
    kinds = told(samples, judged(samples, seed=seed), given)
    data = xr.merge([xr.Dataset(arrays), kinds], join="outer", compat="no_conflicts")
    infos = acts.run(chosen.run_ids[0]).steps
    headline = "effective" if "effective" in data else "component_effective"
    data = with_steps(data, infos).assign_attrs(
        headline=headline, n=len(samples), runs=len(chosen.run_ids), switches=switches(infos)
    )
    verdict, share = _verdict(samples)
    return Found(
        data=data,
        finding=_sentence(data, chosen, samples, share),
        n=len(samples),
        summary=_summary(data, samples, share),
        verdict=verdict,
    )


def _steps(acts: ActivationStore, chosen: Selection, reduction: str) -> NDArray[np.int64]:
    """The captured steps, which all runs share."""
    known = {tuple(acts.load("x0_hat", reduction, runs=[run])[dims.STEP].to_numpy()) for run in chosen.run_ids}
    if len(known) > 1:
        raise MixedRuns(
            "The chosen runs kept x̂0 at different steps, which cannot be averaged: choose runs of one capture with "
            "where= or runs=."
        )
    return np.array(next(iter(known)))


def _by_run(chosen: Selection, samples: Sequence[Explored], steps: NDArray[np.int64]) -> xr.Dataset:
    """Every number of every run; NaN where a sample has no second valid answer."""
    groups = chosen.by_sample()
    parts: list[xr.Dataset] = []
    for sample in samples:
        coords = {dims.RUN: groups[sample.sample_id], dims.STEP: steps}
        found = _path(sample.parts, "component_", COMPONENT, coords)
        if sample.masks is not None and sample.answers > 1:
            found |= _path(sample.masks, "", ANSWER, coords)
        parts.append(xr.Dataset(found))
    merged = xr.concat(parts, dim=dims.RUN, join="outer", coords="minimal", compat="override", fill_value=np.nan)
    for name, (long_name, units, _) in _WORDS.items():
        if name in merged:
            merged[name] = merged[name].assign_attrs(long_name=long_name, units=units)
    return chosen.label(merged)


def _path(mix: Mix, prefix: str, axis: str, coords: Mapping[str, object]) -> dict[str, xr.DataArray]:
    cells = (dims.RUN, dims.STEP)
    steps = np.append(np.asarray(coords[dims.STEP], np.float64), np.nan)

    def label(positions: NDArray[np.float64]) -> NDArray[np.float64]:
        return steps[np.where(np.isnan(positions), len(steps) - 1, positions).astype(int)]

    numbered = {**coords, axis: np.arange(mix.weights.shape[-1])}
    found = {
        "weight" if prefix else "evidence": xr.DataArray(mix.weights, dims=(*cells, axis), coords=numbered),
        "second": xr.DataArray(mix.second(), dims=cells, coords=coords),
        "effective": xr.DataArray(mix.effective(), dims=cells, coords=coords),
        "overlap": xr.DataArray(mix.shared(), dims=cells, coords=coords).where(mix.second() >= SHOWN),
    }
    if not prefix:
        one = {dims.RUN: coords[dims.RUN]}
        pruned = {**one, axis: numbered[axis]}
        found["largest"] = xr.DataArray(mix.weights.max(axis=-1), dims=cells, coords=coords)
        found["pruned"] = xr.DataArray(label(mix.pruned()), dims=(dims.RUN, axis), coords=pruned)
        found["commit"] = xr.DataArray(label(mix.committed()), dims=dims.RUN, coords=one)
    return {f"{prefix}{name}": array for name, array in found.items()}


def _by_sample(samples: Sequence[Explored], steps: NDArray[np.int64]) -> xr.Dataset:
    """The evidence behind each sample's label, small enough to look at."""
    maps = [one.found.found[0].map for one in samples if one.found.found]
    grid = maps[0].shape[1:] if maps else (1, 1)
    shown = np.zeros((len(samples), MOST, *grid), np.float32)
    where = {name: np.full((len(samples), MOST), np.nan) for name in ("step", "frame", "position")}
    for i, sample in enumerate(samples):
        for j, part in enumerate(sample.found.found):
            shown[i, j] = part.map.max(axis=0)
            where["step"][i, j] = steps[part.step]
            where["frame"][i, j] = part.map.sum(axis=(1, 2)).argmax()
            where["position"][i, j] = part.run
    masks = [sample.masks for sample in samples]
    peak = [
        steps[(sample.parts if mix is None else mix).second().mean(axis=0).argmax()]
        for sample, mix in zip(samples, masks, strict=True)
    ]
    axes = (SAMPLE, COMPONENT)
    return xr.Dataset(
        {
            "component_map_by_sample": ((*axes, dims.Y, dims.X), shown, {"long_name": "largest change over frames"}),
            "component_step_by_sample": (axes, where["step"], {"long_name": "step in which it was found"}),
            "component_frame_by_sample": (axes, where["frame"], {"long_name": "frame that shows it most"}),
            "component_run_by_sample": (axes, where["position"], {"long_name": "run, counted among the sample's"}),
            "chance_by_sample": (SAMPLE, [sample.chance for sample in samples], {"long_name": "p of two candidates"}),
            "two_by_sample": (SAMPLE, [sample.two for sample in samples], {"long_name": "two candidates are shown"}),
            "answers_by_sample": (SAMPLE, [sample.answers for sample in samples], {"long_name": "known valid answers"}),
            "peak_step_by_sample": (SAMPLE, peak, {"long_name": "step at which the second is strongest"}),
        },
        coords={
            SAMPLE: [sample.sample_id for sample in samples],
            COMPONENT: np.arange(MOST),
            "family": (SAMPLE, [sample.family for sample in samples]),
            "kind_of_world": (SAMPLE, [sample.kind for sample in samples]),
        },
    )


def _verdict(
    samples: Sequence[Explored],
) -> tuple[Verdict | Literal["descriptive"], tuple[int, float, float] | None]:
    """The rule of `exploration`, and how many samples say so, with the interval of their share."""
    ambiguous = [one for one in samples if one.answers > 1]
    if not ambiguous:
        return "descriptive", None
    yes = sum(one.two and one.one_at_last for one in ambiguous)
    low, high = wilson(yes, len(ambiguous))
    share = (yes, low, high)
    if len(ambiguous) < MIN_SAMPLES or low <= HALF <= high:
        return "inconclusive", share
    return ("replicates" if low > HALF else "does not replicate"), share


def _summary(data: xr.Dataset, samples: Sequence[Explored], share: tuple[int, float, float] | None) -> Json:
    ambiguous = sum(one.answers > 1 for one in samples)
    found: Json = {"samples_with_several_answers": ambiguous}
    if share is not None:
        found |= {"several_then_one": share[0] / ambiguous, "several_then_one_low": share[1]}
        found |= {"several_then_one_high": share[2], "samples_several_then_one": share[0]}
        found |= {f"commit{end}": finite(float(data[f"commit{end}"])) for end in ("", "_low", "_high")}
        found |= {"false_claims": sum(one.two for one in samples if one.answers == 1)}
    name = "effective" if share is not None else "component_effective"
    found |= {f"{name}_at_first_step{end}": finite(float(data[f"{name}{end}"][0])) for end in ("", "_low", "_high")}
    found |= {f"called_{kind}": count for kind, count in _called(data).items()}
    for basis in data[BASIS].to_numpy() if BASIS in data.coords else []:
        one = data.sel(basis=basis)
        found |= {f"auroc_{basis}{end}": float(one[f"mean_auroc{end}"]) for end in ("", "_low", "_high")}
    return found


def _called(data: xr.Dataset) -> dict[str, int]:
    """Samples that the given calibration calls each kind; empty without one."""
    if "kind_by_sample" not in data:
        return {}
    likeliest = data["kind_by_sample"].argmax("kind").to_numpy()
    return {str(kind): int((likeliest == at).sum()) for at, kind in enumerate(data["kind"].to_numpy())}


def _sentence(
    data: xr.Dataset, chosen: Selection, samples: Sequence[Explored], share: tuple[int, float, float] | None
) -> str:
    behind = counts(samples=len(samples), runs=len(chosen.run_ids))
    if called := _called(data):
        told = ", ".join(f"{count} {kind}" for kind, count in called.items())
        behind = f"judged by the given calibration: {told}; {behind}"
    if share is None:
        widest = data.isel(step=int(data["component_effective"].to_numpy().argmax()))
        number, step = with_interval(*triple(widest, "component_effective")), int(widest[dims.STEP])
        return f"x̂0 holds {number} components at its widest step, {step}; its valid answers are not known ({behind})."
    ambiguous = sum(one.answers > 1 for one in samples)
    text = (
        f"{share[0]} of {some(ambiguous, 'sample')} with several valid answers "
        f"({100 * share[0] / ambiguous:.0f} %, {100 * share[1]:.0f} to {100 * share[2]:.0f} %) show two of them at "
        "some step and one at the last"
    )
    commit = triple(data, "commit")
    text += f"; one alone is left from step {with_interval(*commit)} on" if np.isfinite(commit[0]) else ""
    if BASIS in data.coords:
        for basis in data[BASIS].to_numpy():
            auroc = triple(data.sel(basis=basis), "mean_auroc")
            text += f"; kinds in held-out families by {basis}: AUROC {with_interval(*auroc, digits=2)}"
    return f"{text} ({behind})."
