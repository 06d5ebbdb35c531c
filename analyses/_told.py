"""Kinds of the samples of an `exploration`: its classifier's features, its judgement, and how well it judges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import store
from analyses._kinds import FEATURES, KINDS, Calibration, HeldOut, Interval, can_hold_out, features, held_out
from analyses._paths import Explored
from analyses._registry import load
from analyses._result import Result
from analyses._stats import SAMPLE
from analyses.errors import NoRuns
from store import ActivationStore

BASIS: Final = "basis"
"""Axis of `masks` (the valid answers are known) and `components` (they are not)."""
KIND, CALLED, FEATURE = "kind", "called", "feature"
_BOOTSTRAP: Final = "95 % bootstrap interval over samples; each was judged by a classifier that never saw its family"


def judged(samples: Sequence[Explored], *, seed: int) -> dict[str, tuple[list[Explored], HeldOut]]:
    """By basis, the samples that have a kind and how well it is told in held-out families; empty where it cannot be."""
    found: dict[str, tuple[list[Explored], HeldOut]] = {}
    for basis in ("masks", "components"):
        known = [one for one in samples if one.kind in KINDS and (basis == "components" or one.masks is not None)]
        kinds, families = np.array([one.kind for one in known]), np.array([one.family for one in known])
        if known and can_hold_out(kinds, families):
            found[basis] = (known, held_out(_features(known, basis), kinds, families, seed=seed))
    return found


def _features(samples: Sequence[Explored], basis: str) -> NDArray[np.float64]:
    mixes = [one.masks if basis == "masks" and one.masks is not None else one.parts for one in samples]
    return np.stack([features(mix) for mix in mixes])


def told(
    samples: Sequence[Explored], found: dict[str, tuple[list[Explored], HeldOut]], given: Calibration | None
) -> xr.Dataset:
    """Features and kinds of each sample, and how well kinds are told."""
    ids, ours = [one.sample_id for one in samples], _features(samples, "components")
    data = xr.Dataset(
        {"features_by_sample": ((SAMPLE, FEATURE), ours, {"long_name": "features of the components"})},
        coords={SAMPLE: ids, FEATURE: list(FEATURES), KIND: list(KINDS), CALLED: list(KINDS)},
    )
    if given is not None:
        attrs = {"long_name": "probability of each kind, by the calibration that was given"}
        data["kind_by_sample"] = ((SAMPLE, KIND), given.apply(ours), attrs)
    if not found:
        return data
    data = data.assign_coords({BASIS: list(found)})
    each = [held for _, held in found.values()]
    n = min(len(known) for known, _ in found.values())
    for name, axes, words, values in (
        ("auroc", (BASIS, KIND), "AUROC, one kind against the rest", [one.auroc for one in each]),
        ("mean_auroc", (BASIS,), "AUROC, mean over kinds", [one.mean_auroc for one in each]),
        ("confusion", (BASIS, KIND, CALLED), "share of a kind that is called each kind", [o.confusion for o in each]),
    ):
        attrs = {"long_name": words, "units": "0 to 1", "n": n, "interval": _BOOTSTRAP}
        for end, field in zip(("", "_low", "_high"), Interval._fields, strict=True):
            data[name + end] = (axes, np.stack([getattr(one, field) for one in values]), attrs)
    rows = [
        xr.DataArray(held.probability, dims=(SAMPLE, KIND), coords={SAMPLE: [one.sample_id for one in known]})
        for known, held in found.values()
    ]
    data["probability_by_sample"] = xr.concat([row.reindex({SAMPLE: ids}) for row in rows], dim=BASIS)
    if "components" in found:
        fitted = found["components"][1].calibration
        axes_of = {"mean": (FEATURE,), "scale": (FEATURE,), "coefficient": (KIND, FEATURE), "intercept": (KIND,)}
        for name, axes in axes_of.items():
            data[f"calibration_{name}"] = (axes, getattr(fitted, name))
    return data


def named(acts: ActivationStore, name: str) -> Result:
    """The exploration that a word on the command line means.

    Args:
        acts: The store that is analysed.
        name: A result id of that store; or the place of another store, whose latest exploration with a classifier is
            taken; or `PLACE#ID`.

    Raises:
        NoRuns: there is no such result, store or classifier.
    """
    place, _, id = name.partition("#")
    if not id and acts.has_result(place):
        return load(acts, place)
    try:
        other = store.open(place)
        if id:
            return load(other, id)
        entries = other.results("analysis = 'exploration'")
    except store.StoreError as error:
        raise NoRuns(
            f"calibration={name} is no result of this store, and no store that holds one: {error}. Name a result id of "
            "`stepscope analyze exploration`, the folder of a store with one, or FOLDER#ID."
        ) from error
    fitted = [id for id, entry in entries.items() if "calibration_mean" in entry.data]
    if not fitted:
        raise NoRuns(
            f"{place} has {len(entries)} explorations, none with a classifier of kinds: run `stepscope analyze "
            "exploration` there first, on runs whose samples are of all three kinds, each from two families or more."
        )
    return load(other, fitted[-1])


def given_by(result: Result) -> Calibration:
    """The classifier of components that another exploration fitted.

    Raises:
        NoRuns: if it fitted none.
    """
    data = result.to_dataset()
    if "calibration_mean" not in data:
        raise NoRuns(
            f"Result {result.id} of {result.record.analysis} has no classifier of kinds: calibrate on an exploration "
            "of runs whose samples are of all three kinds, each from two families or more."
        )
    return Calibration(*(data[f"calibration_{name}"].to_numpy() for name in Calibration._fields))
