"""How alike representations are: between layers, steps, seeds and branches, and between runs of two conditions.

Measures by two kinds of rows. By *tokens*: are the same tokens of one video near each other in both (n = tokens of a
run; one number for each run, averaged over samples)? By *samples*: are the same videos near each other in both (n =
samples, each its mean token; one number in all)? The two answer different questions, so both are given where the
store allows. CKA is linear and debiased; its kernel is the inner product of centred features.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import xarray as xr
from dask.base import compute as compute_all
from dask.delayed import delayed
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import store
from analyses import _alike, _features
from analyses._alike_rows import TOKENS, Side, compare, samples, tokens
from analyses._features import Block
from analyses._options import Numbers
from analyses._registry import Found, once, register
from analyses._result import Result
from analyses._select import Selection, arrays_of_all, conditions, select
from analyses._stats import SAMPLE, over_samples
from analyses._steps import switches, with_steps
from analyses._words import counts, finite, triple, with_interval
from analyses.errors import BadOption, MixedRuns, NoRuns
from store import ActivationStore, Json, dims
from store.places import Location

VERSION: Final = 2
Between = Literal["layers", "steps", "seeds", "branches", "runs"]
CONDITION: Final = "condition"
"""Axis of the conditions that `against` chose."""
MEASURES: Final = ("cka", "cosine", "procrustes")
_WORDS: Final = {
    "cka": "debiased linear CKA",
    "cosine": "mean cosine of the same rows, raw",
    "procrustes": "1 - Procrustes disparity",
    "dissimilarity": "1 - debiased linear CKA",
}
_ROWS: Final = {"tokens": "rows are the tokens of a run", "samples": "rows are samples, each its mean token"}
_OTHER: Final = {"layers": dims.LAYER, "steps": dims.STEP}


class _Pairs(NamedTuple):
    """What is compared with what, by sample: runs of one side and of the other."""

    one: Side
    other: Side
    by_sample: dict[str, list[tuple[str, str]]]


@register
def similarity(
    acts: ActivationStore,
    *,
    where: str | None = None,
    runs: Sequence[str] | None = None,
    between: Between = "layers",
    against: str | None = None,
    site: str = "resid_post",
    branch: str = "cond",
    measures: Sequence[str] = ("cka", "cosine"),
    steps: Numbers | None = None,
    layers: Numbers | None = None,
) -> Result:
    """Likeness of representations, each quantity as `q_tokens` and `q_samples` where the store has the rows for it.

    Between *layers*: `cka_…` [step, layer, other_layer]; between *steps* (and so between experts: the axis says which
    ran): [layer, step, other_step]; between *seeds* of a sample, *branches*, or *runs* of other conditions (another
    model, an intervention) of the same sample and seed: [step, layer], of `runs` with `condition` in front. There also
    `dissimilarity_…` = 1 - CKA, the propagation map of E5 where conditions are the injected steps. By tokens the
    interval is a Student t over samples, by samples a jackknife over them; Procrustes by samples has none. Verdict:
    always `descriptive`.

    Args:
        acts: The store; runs need the site with channels: tokens (`full`, `project`), or means (`token_mean`, …).
        where: SQL over runs and samples. Left out, and `runs` too, the clean runs are taken.
        runs: Run ids.
        between: What is compared.
        against: SQL that chooses the other runs, for `between="runs"`.
        site: Where in the model, or `latent`, `x0_hat`, `velocity`.
        branch: `cond` or `uncond`; of `between="branches"` the other one is the other.
        measures: Of `cka`, `cosine` and `procrustes`; the last is slow where many cells are compared.
        steps: None for all.
        layers: None for all.

    Raises:
        NoRuns: no run holds the site with channels, or nothing can be compared.
        MixedRuns: runs are of several conditions, or grids differ.
        NonFinite: a feature is NaN or infinite.

    Source: Kornblith et al. 2019 (CKA); Song et al. 2012 (unbiased HSIC); SCIENCE.md, E5 and "Controls".
    """
    _check(between, against, measures)
    arrays = [f"{site}/{kind}" for kind in _features.POOLED]
    chosen = select(acts, arrays=arrays, where=where, runs=runs)
    others = conditions(acts, arrays=arrays, where=against) if against else []
    run_ids = tuple(sorted({*chosen.run_ids, *(run for other in others for run in other.run_ids)}))
    params: Json = {
        "between": between,
        "against": against,
        "site": site,
        "branch": branch,
        "measures": [*measures],
        "steps": None if steps is None else [*steps],
        "layers": None if layers is None else [*layers],
    }

    def compute() -> Found:
        held = arrays_of_all(acts, run_ids)
        kinds = {"samples": next((kind for kind in _features.POOLED if f"{site}/{kind}" in held), None)}
        kinds["tokens"] = next((kind for kind in TOKENS if f"{site}/{kind}" in held), None)

        def pairs(kind: str) -> list[_Pairs]:
            grids = [
                _features.describe(acts, run_ids[0], site=site, reduction=kind, branch=one, steps=steps, layers=layers)
                for one in (branch, {"cond": "uncond"}.get(branch, "cond") if between == "branches" else branch)
            ]
            return _pairs(between, chosen, others, grids)

        arrays: dict[str, xr.DataArray] = {}
        for rows, kind in kinds.items():
            if kind is not None:
                each = [_measure(acts, one, between, rows, measures) for one in pairs(kind)]
                arrays |= _joined(each, others)
        if not arrays:
            raise NoRuns(
                f"Nothing of {site} can be compared between {between}: by tokens needs one of {', '.join(TOKENS)}, "
                f"by samples four samples; there are {len(set(chosen.sample_ids))}, and {', '.join(sorted(held))}."
            )
        info = acts.run(run_ids[0]).steps
        data = with_steps(xr.Dataset(arrays), info).assign_attrs(
            between=between,
            site=site,
            n=len(set(chosen.sample_ids)),
            runs=len(run_ids),
            switches=switches(info),
            headline=next(name for name in ("cka_tokens", "cka_samples", *arrays) if name in arrays),
        )
        return _found(data, chosen)

    return once(acts, analysis="similarity", version=VERSION, params=params, run_ids=run_ids, compute=compute)


def _check(between: str, against: str | None, measures: Sequence[str]) -> None:
    if (between == "runs") != (against is not None):
        raise BadOption("between='runs' and against= belong together: against= says which runs are the others")
    if not measures or set(measures) - set(MEASURES):
        raise BadOption(f"measures are of {', '.join(MEASURES)}, not {', '.join(measures) or 'none'}")


def _pairs(between: Between, chosen: Selection, others: list[Selection], grids: list[Any]) -> list[_Pairs]:
    """What is compared; one for each condition."""
    keyed = {key: run for key, run in zip(_keys(chosen), chosen.run_ids, strict=True)}
    made: list[_Pairs] = []
    for other in others or [chosen]:
        theirs = {key: run for key, run in zip(_keys(other), other.run_ids, strict=True)}
        if between == "seeds":
            found = [(sample, pair) for sample, own in chosen.by_sample().items() for pair in combinations(own, 2)]
        else:
            found = [(key[0], (run, theirs[key])) for key, run in keyed.items() if key in theirs]
        by_sample: dict[str, list[tuple[str, str]]] = {}
        for sample, pair in found:
            by_sample.setdefault(sample, []).append(pair)
        if not by_sample:
            raise NoRuns(
                "No sample has two seeds."
                if between == "seeds"
                else "No run has a partner of the same sample and seed."
            )
        by_sample = dict(sorted(by_sample.items()))
        made.append(_Pairs(Side(chosen.run_ids, grids[0]), Side(other.run_ids, grids[1]), by_sample))
    return made


def _keys(chosen: Selection) -> list[tuple[str, int]]:
    return list(zip(chosen.sample_ids, chosen.seeds, strict=True))


def _measure(
    acts: ActivationStore, pairs: _Pairs, between: Between, rows: str, measures: Sequence[str]
) -> dict[str, xr.DataArray]:
    """Every measure of one condition, with its interval."""
    if rows == "samples" and len(pairs.by_sample) < 4:
        return {}
    with threadpool_limits(1, user_api="blas"):
        if rows == "tokens":
            tasks = [
                delayed(_sample_tokens)(acts.path, pairs, two, between, measures) for two in pairs.by_sample.values()
            ]
            found = compute_all(*tasks)
            each = {name: np.stack([one[name] for one in found]) for name in found[0]}
            parts = {name: over_samples(name, _array(pairs, between, values, SAMPLE)) for name, values in each.items()}
        else:
            outer = (
                pairs.one.grid.labels.get(dims.LAYER, (None,))
                if between == "steps"
                else pairs.one.grid.labels[dims.STEP]
            )
            found = compute_all(*[delayed(_all_samples)(acts.path, pairs, at, between, measures) for at in outer])
            parts = {
                name: over_samples(name, _array(pairs, between, np.stack([one[name] for one in found], axis=1), SAMPLE))
                for name in found[0]
            }
    named: dict[str, xr.DataArray] = {}
    for name, ends in parts.items():
        bounded = rows == "samples" and name == "procrustes"
        attrs = {"units": "1", "long_name": f"{_WORDS[name]}; {_ROWS[rows]}"}
        if rows == "samples" and name == "cka":
            attrs["interval"] = "95 % Student t interval over jackknife pseudo-values of samples"
        for key, array in ends.items():
            if not (bounded and key != name):
                named[key.replace(name, f"{name}_{rows}")] = array.assign_attrs(attrs)
        if name == "cka" and between not in _OTHER:
            for end, source in (("", ""), ("_low", "_high"), ("_high", "_low")):
                one = 1 - ends[f"cka{source}"]
                attrs |= {"long_name": f"{_WORDS['dissimilarity']}; {_ROWS[rows]}"}
                named[f"dissimilarity_{rows}{end}"] = one.assign_attrs({**ends["cka"].attrs, **attrs})
    return named


def _outer(pairs: _Pairs, between: Between) -> tuple[int | None, ...]:
    """Labels that are measured one after the other: layers, if steps are compared, else steps."""
    labels = pairs.one.grid.labels
    return labels.get(dims.LAYER, (None,)) if between == "steps" else labels[dims.STEP]


def _array(pairs: _Pairs, between: Between, values: NDArray[Any], first: str) -> xr.DataArray:
    """Values `[sample, outer, …]` with names: of layers and steps a square for each outer label, else the grid."""
    labels = pairs.one.grid.labels
    has_layers = dims.LAYER in labels
    if between in _OTHER:
        own = _OTHER[between]
        names = [dims.LAYER if between == "steps" else dims.STEP, own, f"other_{own}"]
        if between == "steps" and not has_layers:
            values, names = values[:, 0], names[1:]
    else:
        names = [dims.STEP, dims.LAYER]
        if not has_layers:
            values, names = values[..., 0], names[:1]
    coords = {name: list(labels[name.removeprefix("other_")]) for name in names}
    return xr.DataArray(values, dims=(first, *names), coords=coords)


def _sample_tokens(
    path: Location, pairs: _Pairs, runs: list[tuple[str, str]], between: Between, measures: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Each measure of a sample by tokens, mean over its pairs of runs `[outer, …]`."""
    acts, grid = store.open(path), pairs.one.grid
    by_layer, outer = between == "steps", _outer(pairs, between)
    each: list[dict[str, NDArray[Any]]] = []
    for one, other in runs:
        found: list[dict[str, NDArray[Any]]] = []
        for at in outer:
            cell: dict[str, Any] = {"layer": at, "step": None} if by_layer else {"step": at, "layer": None}
            a = tokens(acts, grid, one, **cell)
            b = a if between in _OTHER else tokens(acts, pairs.other.grid, other, **cell)
            found.append(compare(a, b, matched=between not in _OTHER, measures=measures))
        each.append({name: np.stack([part[name] for part in found]) for name in found[0]})
    return {name: np.mean([part[name] for part in each], axis=0) for name in each[0]}


def _all_samples(
    path: Location, pairs: _Pairs, at: int | None, between: Between, measures: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Each measure by samples, as what each sample adds to it `[sample, …]` (the same of all, where nobody knows)."""
    acts, grid = store.open(path), pairs.one.grid
    layers = grid.labels.get(dims.LAYER)
    block = (
        Block(grid.labels[dims.STEP], None if at is None else (at,))
        if between == "steps"
        else Block((at or 0,), layers)
    )
    groups = [[[run[side] for run in two] for two in pairs.by_sample.values()] for side in (0, 1)]
    a = list(samples(acts, pairs.one, groups[0], block).swapaxes(0, 1))
    b = a if between in _OTHER else list(samples(acts, pairs.other, groups[1], block).swapaxes(0, 1))
    matched = between not in _OTHER
    found = compare(a, b, matched=matched, measures=measures)
    count = len(groups[0])
    spread = {name: np.broadcast_to(values, (count, *values.shape)).copy() for name, values in found.items()}
    if "cka" in measures and matched:
        for cell, (x, y) in enumerate(zip(a, b, strict=True)):
            spread["cka"][:, cell] = _alike.pseudo_values(_alike.grams([x]), _alike.grams([y]))[:, 0, 0]
    elif "cka" in measures:
        kernels = _alike.grams(a)
        spread["cka"] = _alike.pseudo_values(kernels, kernels)
    if "cosine" in measures:
        for sample in range(count):
            alone = [[part[sample : sample + 1] for part in side] for side in (a, b)]
            spread["cosine"][sample] = compare(alone[0], alone[1], matched=matched, measures=("cosine",))["cosine"]
    return spread


def _joined(each: list[dict[str, xr.DataArray]], others: list[Selection]) -> dict[str, xr.DataArray]:
    """One array a quantity; of several conditions along `condition`."""
    if not others:
        return each[0]
    kept = [name for name in each[0] if all(name in one for one in each)]
    told = [_told(other) for other in others]
    try:
        joined = {
            name: xr.concat([one[name] for one in each], xr.IndexVariable(CONDITION, told), join="exact")
            for name in kept
        }
    except xr.AlignmentError as error:
        raise MixedRuns("The conditions kept the site at different steps or layers: choose with against=.") from error
    return {name: array.assign_attrs(each[0][name].attrs) for name, array in joined.items()}


def _told(other: Selection) -> str:
    """A condition in words: its model, and its interventions as they stand in the record."""
    done = "; ".join(", ".join(f"{key}={value}" for key, value in one.items()) for one in other.template.interventions)
    return f"{other.template.model.id}: {done}" if done else other.template.model.id


def _found(data: xr.Dataset, chosen: Selection) -> Found:
    name, between = str(data.attrs["headline"]), str(data.attrs["between"])
    cells = data[[f"{name}", f"{name}_low", f"{name}_high"]] if f"{name}_low" in data else data[[name]]
    rows = _ROWS[name.rpartition("_")[2]]
    if between in _OTHER:
        own = _OTHER[between]  # type: ignore[index]
        other = f"other_{own}"
        cells = cells.dropna(own, how="all").dropna(other, how="all")  # other rows may have been kept of more of them
        place = {int(value): at for at, value in enumerate(cells[own].to_numpy())}
        at, beside = (
            xr.DataArray([place[int(value)] for value in cells[dim].to_numpy()], dims=[dim]) for dim in (own, other)
        )
        apart = np.abs(at - beside)
        near, far = (cells.where(apart == at) for at in (1, int(apart.max())))
        told = f"neighbouring {between} {_mean(near, name)}, the two farthest apart {_mean(far, name)}"
        summary = {"neighbours": finite(float(near[name].mean())), "farthest": finite(float(far[name].mean()))}
    else:
        least = cells[name].to_numpy()
        at = np.unravel_index(int(np.nanargmin(least)), least.shape)
        place = cells.isel({dim: int(i) for dim, i in zip(cells[name].dims, at, strict=True)})
        where = ", ".join(f"{dim} {place[dim].item()}" for dim in cells[name].dims)
        ends = triple(place, name) if f"{name}_low" in place else (float(place[name]), np.nan, np.nan)
        told = f"{between} are alike to {_mean(cells, name)}, least at {where}: {with_interval(*ends, digits=2)}"
        summary = {"mean": finite(float(cells[name].mean())), "least": finite(ends[0]), "least_at": where}
    n = int(data.attrs["n"])
    finding = (
        f"{_WORDS[name.rpartition('_')[0]]} of {data.attrs['site']} ({rows}): {told} "
        f"({counts(samples=n, runs=int(data.attrs['runs']))})."
    )
    return Found(data=data, finding=finding[0].upper() + finding[1:], n=n, summary=dict(summary))


def _mean(cells: xr.Dataset, name: str) -> str:
    return f"{float(cells[name].mean()):.2f} on average"
