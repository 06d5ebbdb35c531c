"""Attention maps of chosen queries."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from interp.adapters import ModelAdapter
from interp.attention import Attended
from interp.errors import BadSpec
from interp.geometry import Geometry, Grid
from interp.reductions import Reduction, reductions
from interp.reductions._base import Tensor
from interp.reductions._heads import numbers_of
from interp.sites import Site
from store.dims import FRAME, HEAD, QUERY, X, Y
from store.records import CaptureItem, TokenBox


class Query(NamedTuple):
    """One entry of the axis `query`."""

    label: str
    """`frame:y:x`, or `mean(…)` of a box."""
    centre: tuple[float, ...]
    """Frame, row and column; of a box the means."""
    tokens: tuple[int, ...]
    """Numbers in the flattened grid; their attention is averaged."""


class Asked(NamedTuple):
    """What the maps of an item are of."""

    queries: tuple[Query, ...]
    tokens: tuple[tuple[int, ...], ...]
    """Those of each query."""
    heads: tuple[int, ...] | None
    """None for the mean over all."""

    def labels(self) -> dict[str, object]:
        """Labels along `query` and `head`; `query_frame`, `query_y` and `query_x` say where a query is."""
        centres = np.array([query.centre for query in self.queries])
        places = {f"query_{axis}": (QUERY, centres[:, k]) for k, axis in enumerate((FRAME, Y, X))}
        heads = {} if self.heads is None else {HEAD: list(self.heads)}
        return {**heads, QUERY: [query.label for query in self.queries], **places}

    @property
    def sizes(self) -> tuple[int, ...]:
        """Lengths of `dims`."""
        return (len(self.queries),) if self.heads is None else (len(self.heads), len(self.queries))

    @property
    def dims(self) -> tuple[str, ...]:
        """Axes that come before those of the keys."""
        return (QUERY,) if self.heads is None else (HEAD, QUERY)


class _OfQueries(Reduction):
    """A reduction of attention, with what the item of the spec asks for."""

    def __init__(self, asked: Asked | None = None) -> None:
        self._asked = asked

    @property
    def asked(self) -> Asked:
        """Queries and heads; there once it was bound."""
        assert self._asked is not None
        return self._asked

    def refuses(self, site: Site) -> str | None:
        """See `Reduction.refuses`."""
        return None if site.attention else "it is for pattern alone"

    def labels(self) -> dict[str, object]:
        """See `Reduction.labels`."""
        return self.asked.labels()


class Map(_OfQueries):
    """Softmax of chosen queries over all video tokens, in float32, by head or as the mean over heads.

    Computed in blocks of keys from the very queries and keys that the model's softmax gets (`interp.attention`). Where
    text or a history is among the keys, maps add up to less than 1: the rest is kept beside them as `pattern/text`.
    """

    name = "map"
    by_cell = True

    @property
    def dims(self) -> tuple[str, ...]:
        """See `Reduction.dims`."""
        return (*self.asked.dims, FRAME, Y, X)

    def bound(self, item: CaptureItem, geometry: Geometry) -> Map:
        """See `Reduction.bound`."""
        queries = queries_of(item, geometry.tokens)
        heads = None if item.heads == "mean" else numbers_of(item, geometry)
        return Map(Asked(queries, tuple(query.tokens for query in queries), heads))

    def beside(self, adapter: ModelAdapter) -> tuple[Reduction, ...]:
        """See `Reduction.beside`."""
        return (TextShare(self.asked),) if adapter.joint else ()

    def shape(self, site: Site, geometry: Geometry) -> tuple[int, ...]:
        """See `Reduction.shape`."""
        return (*self.asked.sizes, *geometry.tokens)

    def reduce(self, value_bfyxc: tuple[Attended, ...], adapter: ModelAdapter) -> Tensor:
        """See `Reduction.reduce`."""
        return torch.stack([run.maps(self.asked.tokens, self.asked.heads).video for run in value_bfyxc])


class TextShare(_OfQueries):
    """How much of each query's attention goes to keys that are no video tokens, in float32: text or a history.

    Comes with `Map` where there are such keys.
    """

    name = "text"

    @property
    def dims(self) -> tuple[str, ...]:
        """See `Reduction.dims`."""
        return self.asked.dims

    def shape(self, site: Site, geometry: Geometry) -> tuple[int, ...]:
        """See `Reduction.shape`."""
        return self.asked.sizes

    def reduce(self, value_bfyxc: tuple[Attended, ...], adapter: ModelAdapter) -> Tensor:
        """See `Reduction.reduce`."""
        return torch.stack([run.maps(self.asked.tokens, self.asked.heads).text for run in value_bfyxc])


def queries_of(item: CaptureItem, grid: Grid) -> tuple[Query, ...]:
    """The queries of an item on the token grid, in the order in which they are named.

    Raises:
        BadSpec: if there are none, one is not on the grid, or one is named twice.
    """
    name = f"{item.site}/{item.reduction}"
    if not item.queries:
        raise BadSpec(f"{name} needs queries, such as @queries=0:3:4 (frame:y:x), 0:*:* or mean(0:1-3:2-5)")
    found = [query for box in item.queries for query in _of_box(box, grid, name)]
    labels = [query.label for query in found]
    if (
        twice := sorted({label for label in labels if labels.count(label) > 1})
        if len(set(labels)) < len(labels)
        else []
    ):
        raise BadSpec(f"{name}: each query once; named twice: {', '.join(twice[:3])}")
    return tuple(found)


def _of_box(box: TokenBox, grid: Grid, name: str) -> list[Query]:
    spans = [
        range(span[0], span[1] + 1) if span else range(size)
        for span, size in zip((box.frame, box.y, box.x), grid, strict=True)
    ]
    for axis, span, size in zip((FRAME, Y, X), spans, grid, strict=True):
        if span[-1] >= size:
            raise BadSpec(f"{name} asks for {axis} {span[-1]} of the tokens, but there are {size}: 0 to {size - 1}")
    places = list(itertools.product(*spans))
    if not box.mean:
        return [Query(":".join(map(str, place)), place, (_number(place, grid),)) for place in places]
    centre = (_middle(spans[0]), _middle(spans[1]), _middle(spans[2]))
    label = ":".join(str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans)
    return [Query(f"mean({label})", centre, tuple(_number(place, grid) for place in places))]


def _number(place: Sequence[int], grid: Grid) -> int:
    return (place[0] * grid.height + place[1]) * grid.width + place[2]


def _middle(span: range) -> float:
    return (span[0] + span[-1]) / 2


reductions.add(Map.name, Map())
