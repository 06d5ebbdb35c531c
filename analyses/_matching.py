"""Where tokens of the first frame find themselves in each later frame: the largest of softmax(Q_first · K_later / √d).

The softmax is over the tokens of one later frame, for each head; its mean over heads is one more way to look. The other
direction asks which later token looks most at the one in question: softmax(Q_later · K_first / √d) over the tokens of
the first frame. Only some rows are made at once, of one later frame, so N×N is never in memory.

Shapes: a heads, d channels of a head, n tokens that are looked for, f frames, h×w tokens of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from analyses.errors import BadPlan, NonFinite, NoRuns
from store import ActivationStore, dims

Reads = Literal["qk", "map"]
Direction = Literal["from_first", "to_first"]
ROWS: Final = 256
"""Later queries whose attention to the first frame is made at once."""
MAP: Final = "pattern/map"
QK: Final = ("q/full", "k/full")


class Matches(NamedTuple):
    """Places that were found, flattened h·w."""

    mean: NDArray[np.intp]
    """By the mean over heads `[n, f]`; the first frame holds zeros."""
    heads: NDArray[np.intp]
    """By each head `[a, n, f]`; no heads where only their mean was kept."""


def from_qk(query_nad: NDArray[np.float32], keys_fmad: Any) -> Matches:
    """Matches of queries in the first frame.

    Args:
        query_nad: Queries `[n, a, d]`.
        keys_fmad: Keys `[f, m, a, d]` of numpy or dask; of the latter one frame is read at a time.

    Raises:
        NonFinite: one is NaN or infinite.
    """
    tokens, heads, width = query_nad.shape
    frames = keys_fmad.shape[0]
    found = Matches(np.zeros((tokens, frames), np.intp), np.zeros((heads, tokens, frames), np.intp))
    query_and = query_nad.swapaxes(0, 1) / np.sqrt(width)
    for frame in range(1, frames):
        part = keys_fmad[frame]
        key_mad = part if isinstance(part, np.ndarray) else part.compute(scheduler="synchronous")
        logits_anm = query_and @ key_mad.transpose(1, 2, 0)
        if not np.isfinite(logits_anm).all():
            raise NonFinite("a query or key is NaN or infinite")
        found.heads[:, :, frame] = logits_anm.argmax(axis=-1)
        found.mean[:, frame] = _softmax(logits_anm).mean(axis=0).argmax(axis=-1)
    return found


def to_first(queries_fmad: Any, key_mad: NDArray[np.float32], tokens: NDArray[np.intp]) -> Matches:
    """The later tokens that look most at some of the first frame.

    Args:
        queries_fmad: Queries `[f, m, a, d]` of numpy or dask; of the latter one frame is read at a time.
        key_mad: All keys of the first frame `[m, a, d]`, over which each later query's softmax goes.
        tokens: Those that are looked for, numbers among the m.

    Raises:
        NonFinite: one is NaN or infinite.
    """
    places, heads, width = key_mad.shape
    frames = queries_fmad.shape[0]
    found = Matches(np.zeros((len(tokens), frames), np.intp), np.zeros((heads, len(tokens), frames), np.intp))
    key_adm = key_mad.transpose(1, 2, 0) / np.sqrt(width)
    for frame in range(1, frames):
        part = queries_fmad[frame]
        query_amd = (part if isinstance(part, np.ndarray) else part.compute(scheduler="synchronous")).swapaxes(0, 1)
        looks_anm = np.empty((heads, len(tokens), places), np.float32)
        for start in range(0, places, ROWS):
            logits = query_amd[:, start : start + ROWS] @ key_adm
            if not np.isfinite(logits).all():
                raise NonFinite("a query or key is NaN or infinite")
            looks_anm[..., start : start + ROWS] = _softmax(logits)[..., tokens].swapaxes(1, 2)
        found.heads[:, :, frame] = looks_anm.argmax(axis=-1)
        found.mean[:, frame] = looks_anm.mean(axis=0).argmax(axis=-1)
    return found


def from_maps(maps_anfm: NDArray[np.float32], *, by_head: bool) -> Matches:
    """The same from attention over all keys `[a, n, f, m]`: a share of one frame's softmax is a ratio within the frame.

    Args:
        maps_anfm: Of each head; one that is the mean over heads, if not `by_head`.
        by_head: Whether heads are kept.
    """
    total = maps_anfm.sum(axis=-1, keepdims=True)
    within = np.divide(maps_anfm, total, out=np.zeros_like(maps_anfm), where=total > 0)
    mean = within.mean(axis=0).argmax(axis=-1)
    heads = within.argmax(axis=-1) if by_head else np.empty((0, *mean.shape), np.intp)
    mean[:, 0], heads[..., 0] = 0, 0
    return Matches(mean, heads)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


class Source(NamedTuple):
    """What of a store is read, and its axes."""

    reads: Reads
    direction: Direction
    branch: str
    steps: tuple[int, ...]
    layers: tuple[int, ...]
    grid: tuple[int, int, int]
    """Latent frames, rows and columns."""
    heads: tuple[int, ...]
    """Numbers of the heads; none if only their mean was kept."""

    @property
    def sites(self) -> str:
        """What is read, in words."""
        return "q and k before rotary embedding" if self.reads == "qk" else "attention as the model uses it"


def describe(
    acts: ActivationStore,
    run: str,
    *,
    reads: Reads,
    direction: Direction,
    branch: str,
    steps: Sequence[int] | None,
    layers: Sequence[int] | None,
    heads: int | None,
) -> Source:
    """The axes of what a run holds.

    Raises:
        NoRuns: nobody knows the number of heads, or the captured queries are not tokens of the first frame.
        BadPlan: maps cannot be read in this direction, or the heads do not divide the channels.
    """
    if direction == "to_first" and reads == "map":
        raise BadPlan(f"{MAP} holds queries of the first frame only: direction='to_first' needs q/full and k/full.")
    site, kind = (MAP if reads == "map" else QK[0]).split("/")
    array = acts.load(site, kind, runs=[run], branch=branch, step=steps, layer=layers)
    if reads == "qk":
        numbers = tuple(range(count_heads(array, heads)))
    else:
        first_tokens(array)
        numbers = tuple(int(one) for one in array[dims.HEAD].to_numpy()) if dims.HEAD in array.dims else ()
    return Source(
        reads=reads,
        direction=direction,
        branch=branch,
        steps=tuple(int(one) for one in array[dims.STEP].to_numpy()),
        layers=tuple(int(one) for one in array[dims.LAYER].to_numpy()),
        grid=(array.sizes[dims.FRAME], array.sizes[dims.Y], array.sizes[dims.X]),
        heads=numbers,
    )


def count_heads(array: xr.DataArray, heads: int | None) -> int:
    """How many heads lie side by side along the channels of an array.

    Raises:
        NoRuns: neither the array nor the caller says.
        BadPlan: they do not divide the channels.
    """
    told = heads if heads is not None else array.attrs.get("heads")
    name = f"{array.attrs['site']}/{array.attrs['reduction']}"
    if told is None:
        raise NoRuns(f"{name} was captured before arrays said how many heads they hold: say heads=, or capture again.")
    if array.sizes[dims.CHANNEL] % told:
        raise BadPlan(f"{told} heads do not divide the {array.sizes[dims.CHANNEL]} channels of {name}: say heads=.")
    return int(told)


def first_tokens(maps: xr.DataArray) -> dict[tuple[int, int], int]:
    """(Row, column) of each query that is a token of the first frame → its position among the queries.

    Raises:
        NoRuns: there is none.
    """
    labels = [str(label).split(":") for label in maps[dims.QUERY].to_numpy()]
    found = {
        (int(label[1]), int(label[2])): at
        for at, label in enumerate(labels)
        if label[0] == "0" and all(part.isdecimal() for part in label)
    }
    if not found:
        raise NoRuns(f"{MAP} holds no single tokens of the first frame: capture it with @queries=0:*:*.")
    return found


def matches(acts: ActivationStore, source: Source, run: str, tokens: NDArray[np.intp]) -> list[list[Matches]]:
    """Matches of some tokens of the first frame, by step and layer.

    Args:
        acts: The store.
        source: What is read.
        run: The run.
        tokens: (Row, column) `[n, 2]`.

    Raises:
        NoRuns: a token is not among the captured queries, or heads share keys.
        NonFinite: a value is NaN or infinite.
    """
    one = _from_qk if source.reads == "qk" else _from_maps
    return [
        [one(acts, source, run, tokens, step=step, layer=layer) for layer in source.layers] for step in source.steps
    ]


def _from_qk(acts: ActivationStore, source: Source, run: str, tokens: NDArray[np.intp], **cell: Any) -> Matches:
    frames, rows, columns = source.grid
    heads, names = len(source.heads), ("q", "k") if source.direction == "from_first" else ("k", "q")
    first = acts.load(names[0], "full", runs=[run], branch=source.branch, frame=0, lazy=False, **cell)
    later = acts.load(names[1], "full", runs=[run], branch=source.branch, **cell).isel({dims.RUN: 0})
    if later.sizes[dims.CHANNEL] != first.sizes[dims.CHANNEL]:
        raise NoRuns(
            f"{names[1]} has {later.sizes[dims.CHANNEL]} channels and {names[0]} {first.sizes[dims.CHANNEL]}: heads "
            "that share keys are not told apart in k/full; capture pattern/map@queries=0:*:* instead."
        )
    flat = first.isel({dims.RUN: 0}).transpose(dims.Y, dims.X, dims.CHANNEL).to_numpy()
    own = flat.reshape(rows * columns, heads, -1)
    lazy = later.transpose(dims.FRAME, dims.Y, dims.X, dims.CHANNEL).data.reshape(frames, rows * columns, heads, -1)
    numbers = tokens[:, 0] * columns + tokens[:, 1]
    try:
        return from_qk(own[numbers], lazy) if source.direction == "from_first" else to_first(lazy, own, numbers)
    except NonFinite as error:
        raise _not_finite("q/full or k/full", run) from error


def _from_maps(acts: ActivationStore, source: Source, run: str, tokens: NDArray[np.intp], **cell: Any) -> Matches:
    maps = acts.load("pattern", "map", runs=[run], branch=source.branch, lazy=False, **cell).isel({dims.RUN: 0})
    there = first_tokens(maps)
    if missing := [one for one in map(tuple, tokens.tolist()) if one not in there]:
        y, x = missing[0]
        raise NoRuns(f"{MAP} of run {run} lacks the query 0:{y}:{x}, a token of a thing: capture @queries=0:*:*.")
    own = maps.isel({dims.QUERY: [there[y, x] for y, x in tokens.tolist()]})
    own = own if source.heads else own.expand_dims(dims.HEAD)
    values = own.transpose(dims.HEAD, dims.QUERY, dims.FRAME, dims.Y, dims.X).to_numpy()
    if not np.isfinite(values).all():
        raise _not_finite(MAP, run)
    return from_maps(values.reshape(*values.shape[:3], -1), by_head=bool(source.heads))


def _not_finite(name: str, run: str) -> NonFinite:
    return NonFinite(f"{name} of run {run} is NaN or infinite: leave it out with where= or runs=.")
