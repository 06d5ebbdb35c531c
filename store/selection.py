"""From labels to positions: what `step=`, `branch=`, `layer=` and `frame=` of `load` mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from store.errors import UnknownLabel

Label = int | str
Selector = Label | Sequence[Label] | NDArray[Any] | slice | None
"""One label (the axis goes away), several in the order wanted, a slice of labels with both ends, or all."""


def is_label(selector: Selector) -> bool:
    """Whether one label is asked, so that the axis goes away, as in xarray."""
    return selector is not None and not isinstance(selector, slice) and np.ndim(cast(Any, selector)) == 0


def choose(labels: NDArray[Any], selector: Selector, *, axis: str, array: str) -> NDArray[np.intp]:
    """The positions of `selector` among `labels`.

    Args:
        labels: The axis's labels.
        selector: See `Selector`.
        axis: Its name, for the error.
        array: `site/reduction`, for the error.

    Raises:
        UnknownLabel: a label that is not there, or a slice that holds none.
    """
    if selector is None:
        return np.arange(len(labels))
    if isinstance(selector, slice):
        return _between(labels, selector, axis=axis, array=array)
    places = {label: place for place, label in enumerate(cast("list[Label]", labels.tolist()))}
    asked = cast("list[Label]", np.atleast_1d(np.asarray(selector)).tolist())
    unknown = [label for label in asked if isinstance(label, bool) or label not in places]
    if unknown or not asked:
        text = ", ".join(map(str, unknown)) or "an empty list"
        raise UnknownLabel(f"{array} has no {axis} {text}; it has {describe(labels)}")
    return np.array([places[label] for label in asked], np.intp)


def describe(labels: NDArray[Any]) -> str:
    """The labels in a few words: `0…11`, or a list."""
    items: list[Any] = labels.tolist()
    if len(items) > 2 and items == list(range(items[0], items[0] + len(items))):
        return f"{items[0]}…{items[-1]}"
    shown = ", ".join(map(str, items[:12]))
    return f"{shown}, … ({len(items)} in all)" if len(items) > 12 else shown


def _between(labels: NDArray[Any], selector: slice, *, axis: str, array: str) -> NDArray[np.intp]:
    inside = np.ones(len(labels), bool)
    try:
        if selector.start is not None:
            inside &= labels >= selector.start
        if selector.stop is not None:
            inside &= labels <= selector.stop
        positions = np.flatnonzero(inside)[:: selector.step]
    except TypeError as error:
        raise UnknownLabel(f"{array}: {axis}={selector} does not compare with {describe(labels)}") from error
    if not len(positions):
        raise UnknownLabel(f"{array} has no {axis} in {selector}; it has {describe(labels)}")
    return positions
