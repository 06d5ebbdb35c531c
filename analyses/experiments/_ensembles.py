"""What an ensemble of seeds and the runs beside it have come to, and what each has cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyses.experiments._table import Entry, Made, Stored
from store import ActivationStore, Run


class Labels(NamedTuple):
    """What tells one arm from another; empty or 0 where it has no such thing."""

    method: str
    """`one` seed alone; average of `hidden` states or of the `latent` x_s; one `long` run; of several runs the `best`
    (an oracle: it looks at the scores) or the `medoid` (nearest to the others in pixels; of two, the first)."""
    members: int
    layers: str
    """Window of layers, as `6-8`."""
    window: str
    """Window of steps, as `0-4`."""
    weights: str
    """`uniform`, `agreement`, `median`."""
    steps: int
    """Denoising steps of each run."""


def span(numbers: Sequence[int] | None) -> str:
    """A window in words: first and last; None is all."""
    if numbers is None:
        return "all"
    first, last = min(numbers), max(numbers)
    return str(first) if first == last else f"{first}-{last}"


def steps_of(labels: Labels) -> int:
    """Steps that an ensemble takes: its own, and those of the other seeds until they have given what they give."""
    last = int(labels.window.split("-")[-1])
    return labels.steps + (labels.members - 1) * (last if labels.method == "latent" else last + 1)


def labels_of(run: Run) -> Labels:
    """The labels of a run with an ensemble."""
    fields: dict[str, Any] = dict(run.interventions[0])
    weights, steps = str(fields.get("weights", "uniform")), fields.get("steps") or range(run.settings.steps)
    latent = fields.get("site") == "latent"
    layers = "" if latent else span(fields.get("layers"))
    method = "latent" if latent else "hidden"
    return Labels(method, len(fields["seeds"]), layers, span(steps), weights, run.settings.steps)


def members_of(run: Run) -> tuple[int, ...]:
    """Seeds of an ensemble, the one that goes on first."""
    fields: dict[str, Any] = dict(run.interventions[0])
    return (run.seed, *(seed for seed in fields["seeds"] if seed != run.seed))


def outcomes(acts: ActivationStore, found: Stored) -> list[Entry]:
    """Every outcome of the experiment: ensembles, their first seeds alone, longer runs, choices among several.

    Args:
        acts: The store.
        found: Clean runs, ensembles, and clean runs in other numbers of steps.
    """
    clean = {one.key: one for one in found.clean}
    own = found.clean[0].run.settings.steps
    changed = [one for one in found.others if one.run.interventions]
    groups = {(one.run.sample_id, members_of(one.run)) for one in changed}
    entries = [_averaged(one) for one in changed]
    one_seed = Labels("one", 1, "", "", "", own)
    firsts = {(sample, seeds[0]) for sample, seeds in groups}
    entries += [_alone(clean[key], one_seed) for key in sorted(firsts) if key in clean]
    others = [one for one in found.others if not one.run.interventions]
    for steps in sorted({one.run.settings.steps for one in others} | {own}):
        pool = {one.key: one for one in (found.clean if steps == own else others) if one.run.settings.steps == steps}
        if steps > own:
            entries += [_alone(one, Labels("long", 1, "", "", "", steps)) for one in pool.values() if one.key in firsts]
        entries += _chosen(acts, pool, sorted(groups), steps, limit=own)
    return entries


def _averaged(one: Made) -> Entry:
    """An ensemble; the forwards of its donors are in it, every step counted like the mean of its own."""
    labels = labels_of(one.run)
    made = steps_of(labels) / labels.steps
    whole = labels.window.startswith("0")  # others began with steps of their clean run, so their time says nothing
    return Entry(labels, one.run.sample_id, one.score, one.forwards * made, one.seconds if whole else float("nan"))


def _alone(one: Made, labels: Labels) -> Entry:
    return Entry(labels, one.run.sample_id, one.score, one.forwards, one.seconds)


def _chosen(
    acts: ActivationStore,
    pool: dict[tuple[str, int], Made],
    groups: list[tuple[str, tuple[int, ...]]],
    steps: int,
    *,
    limit: int,
) -> list[Entry]:
    """Of several runs the best and the medoid, for every group of seeds that is there as a whole."""
    found: list[Entry] = []
    if steps > limit:
        return found
    for sample, seeds in groups:
        members = [pool[sample, seed] for seed in seeds if (sample, seed) in pool]
        if len(members) < len(seeds):
            continue
        cost = sum(one.forwards for one in members), sum(one.seconds for one in members)
        scores = [one.score for one in members]
        best = float(np.max(scores)) if np.isfinite(scores).all() else float("nan")
        middle = scores[medoid(videos(acts, [one.run.id for one in members]))]
        for method, score in (("best", best), ("medoid", middle)):
            found.append(Entry(Labels(method, len(seeds), "", "", "", steps), sample, score, *cost))
    return found


def videos(acts: ActivationStore, run_ids: Sequence[str]) -> NDArray[np.int16]:
    """Finished videos, `[run, frame, y, x, channel]`."""
    return np.stack(
        [acts.load("output", "pixels", runs=[id], lazy=False).to_numpy()[0].astype(np.int16) for id in run_ids]
    )


def medoid(members: NDArray[np.int16]) -> int:
    """Which video differs least from the others on average; of equals the first.

    Example:
        >>> medoid(np.array([[9], [3], [4]], np.int16))
        2
    """
    apart = np.array([[np.abs(one - other).mean() for other in members] for one in members])
    return int(apart.sum(axis=1).argmin())
