"""Attribution patching: what a donor's states would do to the answer in another run, by one backward pass a step.

The effect of `interp.interventions.Patch` at one place is, to first order, gradient · (donor − own), summed over
channels: all layers, sites and tokens of a step for about three forwards, where patching samples once for each of them.

The metric whose gradient is taken is read in latent space: with e_own and e_donor the finished latents of the two clean
runs (x̂0 of their last step), m(x̂0) = ⟨x̂0 − e_own, e_donor − e_own⟩ / ‖e_donor − e_own‖² is 0 at the run's own end and
1 at the donor's. It needs neither truth nor an encoder, so it is the same in all families. x̂0 is that of the step whose
states are patched, with the guided velocity: what the patch does through later steps is not seen.

A long way is not straight: with `points`, the gradient is the mean over that many points between both runs' states
(integrated gradients, midpoint rule). At a point, all states of a step that are asked for stand at the same share of
the way, so that one graph a point serves them all; each begins at the stored x_s of its step. Behind a single place
whose later states are not asked for too, that is the path of the patch itself, and its whole effect in the limit.

The gradient is taken at the very values that a patch would replace (`interp.gradients`).

Shape legend: f frames, y rows, x columns (of tokens; of the latent grid for x̂0), c channels.
Source: attribution patching, Nanda 2023 (neelnanda.io/attribution-patching), Syed et al. 2023 (arXiv 2310.10348);
integrated gradients, Sundararajan et al. 2017 (arXiv 1703.01365), in patching Hanna et al. 2024 (arXiv 2403.17806).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from tqdm import tqdm

import store
from interp import donors, intervening, provenance, resuming
from interp.errors import BadInput, BadIntervention
from interp.gradients import Attributed, Backward, Ends, Moved, Places, Taps, follow
from interp.interventions import Donor, Need
from interp.interventions._base import Where
from interp.model import Model
from store import Json, ResultRecord, Run, dims

Tensor = torch.Tensor

VERSION = 1
SITE = "site"
"""Axis of sites."""


class Asked(NamedTuple):
    """Attributions that are wanted of one pair of clean runs of the same settings."""

    run: Run
    """Which would be patched."""
    donor: Run
    sites: tuple[str, ...]
    """Sites inside blocks, at all layers that have them."""
    steps: tuple[int, ...]
    points: int = 0
    """Points between the run's own states and the donor's at which gradients are taken; 0 takes one at its own."""

    @property
    def params(self) -> Json:
        """What the stored result names beside its runs."""
        return {
            "receiver": self.run.id,
            "donor": self.donor.id,
            "sites": [*sorted(self.sites)],
            "steps": [*sorted(self.steps)],
            **({"points": self.points} if self.points else {}),
        }

    @property
    def graphs(self) -> int:
        """Steps that are made with a gradient."""
        return len(self.steps) * max(self.points, 1)


class Programme(NamedTuple):
    """What there is to do; nothing has been computed yet."""

    analysis: str
    """Name of the results that are kept."""
    asked: tuple[Asked, ...]
    missing: tuple[Asked, ...]

    def __str__(self) -> str:
        graphs = sum(one.graphs for one in self.missing)
        return (
            f"{len(self.asked)} pairs of runs to attribute, {len(self.asked) - len(self.missing)} of them in the store "
            f"already; {len(self.missing)} to make: {graphs} steps with a gradient, each about three forwards"
        )


def check_executor(executor: str) -> None:
    """Refuse to take gradients elsewhere: with any executor but `local`, the weights of this process are only compared.

    Raises:
        BadInput: if it is another.
    """
    if executor != "local":
        raise BadInput(f"gradients are taken in one process, not by {executor}; ask for --executor local")


def programme(model: Model, asked: Sequence[Asked], *, into: store.ActivationStore, analysis: str) -> Programme:
    """Say what `conduct` would do; the runs need not be stored yet.

    Args:
        model: That made or will make the runs.
        asked: The pairs.
        into: The store.
        analysis: Name of the results that are kept in it, one for each pair.

    Raises:
        BadIntervention: if the model has no such site, or the run no such step.
    """
    for one in asked:
        if one.points < 0:
            raise BadIntervention(f"{one.points} points between two states are none; ask for 0 or more")
        _needs(model, one)
    missing = [one for one in asked if not into.has_result(_id(analysis, one))]
    return Programme(analysis, tuple(asked), tuple(missing))


def conduct(model: Model, todo: Programme, *, into: store.ActivationStore, progress: bool = False) -> int:
    """Compute what is missing, one pair at a time; goes on where it was stopped.

    Returns:
        How many were made now.

    Raises:
        BadIntervention: if both runs of a pair end alike.
        RunNotFound: if a run is not stored.
        UnsupportedModel: if the velocity of this model's scheduler has no gradient.
    """
    ends: dict[str, Tensor] = {}
    for one in tqdm(todo.missing, unit="pair", desc="attribute", disable=not progress, dynamic_ncols=True):
        begun, taken = time.perf_counter(), provenance.take(model.device)
        for run in (one.run, one.donor):
            if run.id not in ends:
                ends[run.id] = end(model, run, into)
        data = attributed(model, one, into, towards=direction(one, ends[one.run.id], ends[one.donor.id]))
        seconds = time.perf_counter() - begun
        record = ResultRecord(
            analysis=todo.analysis,
            version=VERSION,
            params=one.params,
            run_ids=(one.run.id, one.donor.id),
            verdict="descriptive",
            finding=f"What each token of {one.donor.id} would do in {one.run.id} to first order; n = 1 pair of runs.",
            n=1,
            summary={"seconds": seconds},
        )
        into.save_result(record, data, taken)
    return len(todo.missing)


def _id(analysis: str, one: Asked) -> str:
    return ResultRecord.make_id(analysis, VERSION, one.params, (one.run.id, one.donor.id))


def end(model: Model, run: Run, acts: store.ActivationStore) -> Tensor:
    """x̂0 of the last step of a stored clean run, float32 `[f, y, x, c]` on the model's device: its finished latent.

    One step is made for it where the store holds x_s of that step, all of them where it does not.
    """
    last = run.settings.steps - 1
    seen = Ends(last)
    follow(model, run, acts, seen, start=resuming.at(model, run, last, acts))
    assert seen.x0_hat is not None
    return seen.x0_hat


def direction(asked: Asked, own: Tensor, theirs: Tensor) -> Tensor:
    """Gradient of the metric by x̂0, float32 `[f, y, x, c]`: the way from the own end to the donor's over its square.

    Raises:
        BadIntervention: if both ends are the same.
    """
    way = theirs - own
    length = way.square().sum()
    if length == 0:
        raise BadIntervention(
            f"{asked.run.id} and {asked.donor.id} end in the same latent, so no state can bring one nearer to the "
            "other; take runs of different answers"
        )
    return way / length


def attributed(model: Model, asked: Asked, acts: store.ActivationStore, *, towards: Tensor) -> xr.Dataset:
    """What each token of the donor's states would do to the metric of the same step, to first order.

    Args:
        model: That made both runs.
        asked: The pair, the sites and the steps.
        acts: Where both runs are stored; states that it does not hold are made again.
        towards: Gradient of the metric by x̂0, float32 `[f, y, x, c]`; see `direction`.

    Returns:
        `attribution`: float32 `[step, branch, layer, site, frame, y, x]`, in units of the metric; NaN in layers that do
        not have the site. `difference`: the same axes, squared L2 norm over channels of donor − own, raw.
    """
    needs = _needs(model, asked)
    found = (_integrated if asked.points else _plain)(model, asked, acts, needs, towards)
    return _dataset(found, asked, model)


def _plain(model: Model, asked: Asked, acts: store.ActivationStore, needs: tuple[Need, ...], towards: Tensor) -> Places:
    """At the run's own states, of all steps in one pass."""
    (given,) = donors.provide([(asked.run, needs)], model, acts)
    by_site = {need.site: need for need in needs}
    taps = Taps(needs, asked.steps)
    steps = Backward(
        taps, max(asked.steps), lambda site, where, own: given(by_site[site], where).to(own) - own, towards
    )
    follow(model, asked.run, acts, steps, taps)
    return steps.found


def _integrated(
    model: Model, asked: Asked, acts: store.ActivationStore, needs: tuple[Need, ...], towards: Tensor
) -> Places:
    """Mean over points of the way to the donor's states, step by step from the run's own x_s."""
    theirs = {need.site: need for need in needs}
    own = {site: need._replace(donor=Donor(run=asked.run.id)) for site, need in theirs.items()}
    (given,) = donors.provide([(asked.run, [*needs, *own.values()])], model, acts)

    def change(site: str, where: Where, value: Tensor) -> Tensor:
        return given(theirs[site], where).to(value) - given(own[site], where).to(value)

    found: Places = {}
    for step in asked.steps:
        start = resuming.at(model, asked.run, step, acts)
        for point in range(asked.points):
            share = (point + 0.5) / asked.points

            def line(site: str, where: Where, value: Tensor, share: float = share) -> Tensor:
                return given(own[site], where).to(value) + share * change(site, where, value)

            taps = Moved(needs, step, line)
            one = Backward(taps, step, change, towards)
            follow(model, asked.run, acts, one, taps, start=start)
            for place, (attribution, difference) in one.found.items():
                before = found[place].attribution if place in found else 0
                found[place] = Attributed(before + attribution / asked.points, difference)
    return found


def _needs(model: Model, asked: Asked) -> tuple[Need, ...]:
    """The donor's states, by site."""
    scope, kind = intervening.scope_of(model, asked.run), "attribution"
    branches, steps = scope.branches, scope.steps(asked.steps, kind=kind)
    donor = Donor(run=asked.donor.id)
    return tuple(Need(donor, site, steps, scope.layers(None, site, kind=kind), branches) for site in asked.sites)


def _dataset(found: Mapping[tuple[str, Where], Attributed], asked: Asked, model: Model) -> xr.Dataset:
    geometry = model.geometry(asked.run.settings)
    branches = intervening.scope_of(model, asked.run).branches
    steps = sorted(asked.steps)
    axes = (dims.STEP, dims.BRANCH, dims.LAYER, SITE, dims.FRAME, dims.Y, dims.X)
    shape = (len(steps), len(branches), geometry.layers, len(asked.sites), *geometry.tokens)
    whole = np.full((2, *shape), np.nan, np.float32)
    for (site, where), values in found.items():
        assert where.branch is not None
        at = steps.index(where.step), branches.index(where.branch), where.layer, asked.sites.index(site)
        for part, value in zip(whole, values, strict=True):
            part[at] = value.numpy()
    told = (
        ("attribution", "gradient of the metric by the state, times donor less own", "metric"),
        ("difference", "squared L2 norm over channels of donor less own", "squared activation"),
    )
    data = {
        name: (axes, part, {"long_name": long_name, "units": units})
        for part, (name, long_name, units) in zip(whole, told, strict=True)
    }
    coords = {dims.STEP: steps, dims.BRANCH: list(branches), SITE: list(asked.sites)}
    return xr.Dataset(data, coords={**coords, dims.LAYER: np.arange(geometry.layers)})
