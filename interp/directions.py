"""Directions to steer along, from what a store holds: a probe's, a difference of means, a principal component.

Shape legend: n runs, c channels.

>>> probe = directions.of_result(acts, "8a1f…", target="side=right", step=4, layer=3)   # doctest: +SKIP
>>> Steer(direction=probe.unit, scale=2 * probe.length, layers=(3,), steps=(4,))        # doctest: +SKIP
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import store
from interp.errors import BadIntervention

__all__ = ["Direction", "between", "of_result", "principal"]

CHANNEL = store.dims.CHANNEL


class Direction(NamedTuple):
    """A direction in the channels of a site."""

    unit: tuple[float, ...]
    """Of length 1, for `Steer.direction`."""
    length: float
    """What counts as one along it, in the site's own units, for `Steer.scale`: how far a class lies from the others,
    or one unit of a number from the next, how far two means are apart, or the deviation of the runs."""


def of_result(acts: store.ActivationStore, result_id: str, *, target: str, **cell: Any) -> Direction:
    """The direction that a stored result of `probes` keeps for one cell.

    Args:
        acts: The store.
        result_id: The result's id; its attribute `site` says where the direction belongs.
        target: A class of a label, as `side=right`, or a label that is a number.
        **cell: Labels of the result's other axes: `step`, `layer`, and those that it has beside them.

    Raises:
        BadIntervention: if the result has no directions, or not that one.
        ResultNotFound: if there is no such result.
    """
    data = acts.result(result_id).data
    if "direction" not in data:
        raise BadIntervention(f"result {result_id} has no directions; make it with `stepscope analyze probes`")
    asked: dict[str, Any] = {"target": target, **cell}
    axes = [str(axis) for axis in data["direction"].dims if axis != CHANNEL]
    if set(asked) != set(axes):
        raise BadIntervention(f"a direction of result {result_id} needs {', '.join(axes)}; given: {', '.join(asked)}")
    for axis, label in asked.items():
        known = data["direction"][axis].to_numpy().tolist()
        if label not in known:
            raise BadIntervention(
                f"result {result_id} has no direction for {axis} {label!r}; it has {', '.join(map(str, known))}"
            )
    chosen = data[["direction", "direction_shift"]].sel(asked)
    return _direction(
        chosen["direction"].to_numpy(), length=float(chosen["direction_shift"]), what=f"result {result_id}"
    )


def between(
    acts: store.ActivationStore, ones: Sequence[str], others: Sequence[str], *, site: str, **cell: Any
) -> Direction:
    """From the mean token of some runs to that of others.

    Args:
        acts: The store; the runs hold `SITE/token_mean`.
        ones: Run ids from which the direction goes.
        others: Run ids to which it goes.
        site: Where, e.g. `resid_post`.
        **cell: `step`, `layer` and, where both were kept, `branch`.

    Raises:
        BadIntervention: if a group is empty, or their means are the same.
        StoreError: if a run or its cell is not stored.
    """
    if not ones or not others:
        raise BadIntervention("a difference of means needs runs on both sides")
    gap = _means(acts, others, site, cell).mean(axis=0) - _means(acts, ones, site, cell).mean(axis=0)
    return _direction(gap, length=float(np.linalg.norm(gap)), what="the difference of these means")


def principal(
    acts: store.ActivationStore, runs: Sequence[str], *, site: str, number: int = 0, **cell: Any
) -> Direction:
    """A principal component of the mean tokens of some runs; its greatest channel points up.

    Args:
        acts: The store; the runs hold `SITE/token_mean`.
        runs: Run ids, two or more.
        site: Where, e.g. `resid_post`.
        number: Which component, 0 for the one with the greatest variance.
        **cell: `step`, `layer` and, where both were kept, `branch`.

    Raises:
        BadIntervention: if so many runs have no such component.
        StoreError: if a run or its cell is not stored.
    """
    values_nc = _means(acts, runs, site, cell)
    there = min(len(runs) - 1, values_nc.shape[1])
    if not 0 <= number < there:
        raise BadIntervention(
            f"{len(runs)} runs have {max(there, 0)} principal components, counted from 0; not {number}"
        )
    _, deviation, components = np.linalg.svd(values_nc - values_nc.mean(axis=0), full_matrices=False)
    chosen = components[number]
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax()])
    length = float(deviation[number] / math.sqrt(len(runs) - 1))
    return _direction(chosen if length > 1e-12 else chosen * 0, length=length, what=f"component {number} of these runs")


def _means(acts: store.ActivationStore, runs: Sequence[str], site: str, cell: dict[str, Any]) -> NDArray[np.float64]:
    """Mean tokens `[n, c]`."""
    found = acts.load(site, "token_mean", runs=list(runs), lazy=False, **cell).squeeze()
    axes = [str(axis) for axis in found.dims if axis not in (store.dims.RUN, CHANNEL)]
    if axes:
        raise BadIntervention(f"a direction is that of one cell of {site}/token_mean: give {', '.join(axes)} as well")
    return np.atleast_2d(found.to_numpy()).astype(np.float64)


def _direction(values: NDArray[Any], *, length: float, what: str) -> Direction:
    norm = float(np.linalg.norm(values.astype(np.float64)))
    if not (math.isfinite(norm) and norm > 0 and math.isfinite(length)):
        raise BadIntervention(f"{what} has no direction: its length is {norm:g}")
    return Direction(tuple((values.astype(np.float64) / norm).tolist()), length)
