"""One sample of `correspondence`: what is true of it, and how much of it its runs' matches find.

Shapes: n tokens of a thing, f frames, h×w tokens of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import store
from analyses._matching import Matches, Source, matches
from analyses._select import Selection
from analyses._tracks import RADIUS, Thing, by_colour, moving_things
from analyses.errors import NoRuns
from store import ActivationStore, dims
from store.places import Location


class Truth(NamedTuple):
    """What is known of one sample before anything is read of its runs."""

    sample_id: str
    runs: list[str]
    things: list[Thing]
    popular: NDArray[np.float64]
    """For each token of a frame, the share of other samples' targets that lie within the radius `[h, w]`."""


def known_truths(
    acts: ActivationStore, chosen: Selection, grid: tuple[int, int, int], process: float
) -> tuple[list[Truth], str]:
    """Samples whose true tracks their runs follow, and what was left out, in words."""
    query = "SELECT run_id, max(value) FROM scores WHERE metric = 'process' AND step IS NULL GROUP BY run_id"
    scores: dict[str, float] = dict(acts.sql(query).fetchall())
    wrong = {run for run in chosen.run_ids if scores.get(run, 1.0) < process}
    found: list[Truth] = []
    still, several = 0, 0
    for sample_id, own in chosen.by_sample().items():
        kept = [run for run in own if run not in wrong]
        sample = acts.sample(sample_id)
        known = sample.tracks is not None and sample.tracks.shape[1] == chosen.template.settings.frames
        things = moving_things(sample, grid) if kept and known else []
        several += bool(kept and sample.record.answers > 1)
        still += bool(kept and sample.record.answers <= 1 and not things)
        if things and sample.record.answers <= 1:
            found.append(Truth(sample_id, kept, things, popular(things, grid)))
    told = (
        f"left out: {len(wrong)} runs with a process score below {process:g}, {several} samples with several valid "
        f"answers, {still} in which nothing is known to move"
    )
    if not found:
        raise NoRuns(f"No run shows things that move along a known track ({told}). Choose others with where= or runs=.")
    others = of_others(np.stack([one.popular for one in found]))
    return [one._replace(popular=rest) for one, rest in zip(found, others, strict=True)], told


def of_others(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each sample the mean of the other samples' `popular` `[s, h, w]`; one sample has that of a random token."""
    if len(shares) == 1:
        return np.full_like(shares, shares.mean())
    return (shares.sum(axis=0) - shares) / (len(shares) - 1)


def popular(things: Sequence[Thing], grid: tuple[int, int, int]) -> NDArray[np.float64]:
    """For each token of a frame, the share of the targets that lie within the radius, each thing alike."""
    places = np.indices(grid[1:]).reshape(2, -1).T
    shares: list[NDArray[np.float64]] = []
    for thing in things:
        targets = thing.targets()[:, thing.gone].reshape(-1, 2)
        near = np.linalg.norm(places[:, None] - targets[None], axis=-1) <= RADIUS
        shares.append(near.mean(axis=1))
    return np.mean(shares, axis=0).reshape(grid[1:])


def measured(path: Location, source: Source, truth: Truth) -> dict[str, NDArray[Any]]:
    """Every number of one sample, mean over its runs."""
    acts = store.open(path)
    each = [_of_run(acts, source, truth, run) for run in truth.runs]
    return {name: np.mean([one[name] for one in each], axis=0) for name in each[0]}


def track(acts: ActivationStore, source: Source, truth: Truth, head: int | None) -> NDArray[np.float64]:
    """Where each thing is found in the first run of a sample, (row, column) in tokens `[thing, f, 2]`.

    Args:
        acts: The store.
        source: Of one step and layer.
        truth: The sample.
        head: Position of a head, or None for the mean over heads.

    Returns:
        The first place of each thing, moved by the median over its tokens of how far each was found away.
    """
    ((cell,),) = matches(acts, source, truth.runs[0], np.concatenate([thing.tokens for thing in truth.things]))
    places = cell.mean if head is None else cell.heads[head]
    found: list[NDArray[np.float64]] = []
    for own, thing in zip(_rows(truth), truth.things, strict=True):
        at = np.stack(np.divmod(places[own], source.grid[2]), axis=-1)
        moved = np.median(at - thing.tokens[:, None], axis=0)
        moved[0] = 0
        found.append(thing.tokens.mean(axis=0) + moved)
    return np.array(found)


def _rows(truth: Truth) -> list[NDArray[np.intp]]:
    """Which of all tokens, one thing behind the other, are each thing's."""
    counts = [len(thing.tokens) for thing in truth.things]
    return np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])


def _of_run(acts: ActivationStore, source: Source, truth: Truth, run: str) -> dict[str, NDArray[Any]]:
    things, columns = truth.things, source.grid[2]
    cells = matches(acts, source, run, np.concatenate([thing.tokens for thing in things]))
    rows = _rows(truth)
    found: dict[str, list[list[Any]]] = {}
    for step in cells:
        row: dict[str, list[Any]] = {}
        for cell in step:
            for name, value in _of_cell(cell, truth, rows, columns).items():
                row.setdefault(name, []).append(value)
        for name, values in row.items():
            found.setdefault(name, []).append(values)
    named = {name: np.array(values) for name, values in found.items()}
    pixels = acts.load("output", "pixels", runs=[run], lazy=False).isel({dims.RUN: 0})
    looks = by_colour(pixels.to_numpy(), things, source.grid)
    colour = np.mean([_hits(look, thing)[:, thing.gone].mean() for look, thing in zip(looks, things, strict=True)])
    named["gain"] = named["accuracy"] - named["chance"]
    named["head_gain"] = named["head_accuracy"] - named.pop("head_chance")
    named["static"] = np.array(np.mean([_hits(_still(thing), thing)[:, thing.seen].mean() for thing in things]))
    named["over_static"] = named["accuracy_all"] - named["static"]
    named["colour"] = np.array(colour)
    named["over_colour"] = named["accuracy"] - colour
    return named


def _of_cell(cell: Matches, truth: Truth, rows: Sequence[NDArray[np.intp]], columns: int) -> dict[str, NDArray[Any]]:
    """One step and layer; things count alike."""
    each: dict[str, list[Any]] = {}
    for own, thing in zip(rows, truth.things, strict=True):
        places = np.stack(np.divmod(cell.mean[own], columns), axis=-1)
        hits, gone = _hits(places, thing), thing.gone
        by_head = np.stack(np.divmod(cell.heads[:, own], columns), axis=-1)
        head_hits = _hits(by_head, thing)[..., gone]
        popular = truth.popular[by_head[..., 0], by_head[..., 1]][..., gone]
        off = np.linalg.norm(places - thing.targets(), axis=-1)
        for name, value in {
            "accuracy": hits[:, gone].mean(),
            "chance": truth.popular[places[..., 0], places[..., 1]][:, gone].mean(),
            "error": off[:, gone].mean(),
            "accuracy_all": hits[:, thing.seen].mean(),
            "accuracy_by_frame": np.where(gone, hits.mean(axis=0), np.nan),
            "head_accuracy": head_hits.mean(axis=(1, 2)),
            "head_chance": popular.mean(axis=(1, 2)),
        }.items():
            each.setdefault(name, []).append(value)
    frames = np.array(each.pop("accuracy_by_frame"))
    count = np.isfinite(frames).sum(axis=0)
    by_frame = np.where(count > 0, np.nansum(frames, axis=0) / np.maximum(count, 1), np.nan)
    return {name: np.mean(values, axis=0) for name, values in each.items()} | {"accuracy_by_frame": by_frame}


def _hits(places: NDArray[Any], thing: Thing) -> NDArray[np.bool_]:
    """Which places `[…, n, f, 2]` are within the radius of their targets."""
    return np.linalg.norm(places - thing.targets(), axis=-1) <= RADIUS


def _still(thing: Thing) -> NDArray[np.intp]:
    return np.broadcast_to(thing.tokens[:, None], (len(thing.tokens), len(thing.way), 2))
