"""What the x̂0 of one sample hold, step by step: its valid answers where they are known, and parts that nobody named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

import store
from analyses._components import Parts, components
from analyses._evidence import SHOWN, Candidates, effective_number, second_largest, shared_overlap
from analyses._places import overlaps, pooled
from analyses._x0 import of_run
from analyses.errors import BadTruth, MixedRuns, NonFinite
from store import ActivationStore, Sample, dims
from store.places import Location

ALPHA: Final = 0.05
"""Level of the claim that a sample shows two candidates."""


class Mix(NamedTuple):
    """How much of each of k candidates, or components, the x̂0 of a sample hold."""

    weights: NDArray[np.float64]
    """`[run, step, k]`."""
    overlap: NDArray[np.float64]
    """How far each pair lies at one place, `[k, k]`."""

    def effective(self) -> NDArray[np.float64]:
        """Number of candidates that share the evidence, `[run, step]`."""
        return np.array([[effective_number(step) for step in run] for run in self.weights])

    def second(self) -> NDArray[np.float64]:
        """Evidence of the second strongest, `[run, step]`."""
        return second_largest(self.weights)

    def shared(self) -> NDArray[np.float64]:
        """Overlap of the places of the candidates that share the evidence, `[run, step]`; NaN where there is one."""
        return np.array([[shared_overlap(step, self.overlap) for step in run] for run in self.weights])

    def pruned(self) -> NDArray[np.float64]:
        """Position of the step from which each stays below `SHOWN`, `[run, k]`.

        NaN for those that never were above it, and for those that are at the last step.
        """
        shown = self.weights >= SHOWN
        steps = np.arange(shown.shape[1])[:, None]
        last = np.where(shown, steps, -1).max(axis=1)
        return np.where((last >= 0) & (last < shown.shape[1] - 1), last + 1.0, np.nan)

    def committed(self) -> NDArray[np.float64]:
        """Position of the step from which one candidate alone stays shown, `[run]`; NaN where the last shows more."""
        shown = self.weights >= SHOWN
        alone = (shown == shown[:, -1:]).all(axis=-1) & (shown[:, -1].sum(axis=-1) == 1)[:, None]
        stays = np.cumprod(alone[:, ::-1], axis=1)[:, ::-1]
        return np.where(stays.any(axis=1), stays.argmax(axis=1), np.nan)


class Explored(NamedTuple):
    """One sample."""

    sample_id: str
    family: str
    kind: str
    """What its world says it is; empty where nobody knows."""
    answers: int
    """Valid answers whose true videos are known; 0 where they are not."""
    masks: Mix | None
    """Of the valid answers; None without them, or without pixels."""
    chance: float
    """How often two candidates are as strong where they are not; 1 where the second never is shown."""
    parts: Mix
    """Of the components."""
    found: Parts
    """The components themselves."""

    @property
    def two(self) -> bool:
        """Whether two candidates are shown at some step, by the rule of `explored`."""
        return (
            self.masks is not None and float(self.masks.second().max(axis=1).mean()) >= SHOWN and self.chance <= ALPHA
        )

    @property
    def one_at_last(self) -> bool:
        """Whether the last step shows fewer than two."""
        return self.masks is not None and float(self.masks.second()[:, -1].mean()) < SHOWN


def explored(path: Location, sample_id: str, runs: list[str], *, pixels: bool) -> Explored:
    """What the runs of one sample hold; each x̂0 is read once.

    Two candidates count as shown if the largest evidence of the second over steps, averaged over the sample's runs, is
    at least `SHOWN`, and if the same number is as large at no more than `ALPHA` of the shifts of `Candidates.shifted`.

    Args:
        path: Of the store, which a process of its own may open.
        sample_id: Its id.
        runs: Its runs, which kept x̂0 at the same steps.
        pixels: Whether to read `x0_hat/pixels`; else `x0_hat/full`, without evidence of the valid answers.

    Raises:
        BadTruth: if its valid answers are the same or show nothing.
        MixedRuns: if the runs kept x̂0 at different steps.
        NonFinite: if a latent x̂0 holds NaN or infinity.
    """
    acts = store.open(path)
    sample = acts.sample(sample_id)
    candidates = candidates_of(sample) if pixels else None
    seen = [_of_pixels(acts, run, sample, candidates) if pixels else _of_latents(acts, run) for run in runs]
    if len({one.changes.shape for one in seen}) > 1:
        raise MixedRuns(f"The runs of sample {sample_id} kept x̂0 at different steps or sizes; choose with where=.")
    evidence, chance = None, 1.0
    if candidates is not None:
        evidence = np.array([one.evidence for one in seen])
        if second_largest(evidence).max(axis=1).mean() >= SHOWN:
            chance = by_chance([one.elsewhere for one in seen if one.elsewhere is not None])
    found = components(np.stack([one.changes for one in seen]))
    label = sample.record.labels.get("kind", "")
    return Explored(
        sample_id=sample_id,
        family=sample.record.family,
        kind=str(label),
        answers=0 if candidates is None else len(candidates.supports),
        masks=None if candidates is None or evidence is None else Mix(evidence, overlaps(_where(candidates))),
        chance=chance,
        parts=Mix(found.weights, overlaps(np.stack([one.map for one in found.found])) if found.found else np.eye(0)),
        found=found,
    )


def by_chance(runs: list[NDArray[np.float64]]) -> float:
    """Share of the shifts at which a second candidate is as strong as at no shift, the unshifted one counted in.

    Args:
        runs: Of each the largest `elsewhere` over its steps.
    """
    strongest = np.sum(runs, axis=0)
    return float((strongest >= strongest[0]).mean())


def elsewhere(candidates: Candidates, change: NDArray[np.float32]) -> NDArray[np.float64]:
    """Evidence of the second candidate at each shift of `Candidates.shifted`, `[64]`.

    Args:
        candidates: The valid answers.
        change: `Mixture.change` of one step.
    """
    return second_largest(candidates.shifted(change))


def candidates_of(sample: Sample) -> Candidates | None:
    """The valid answers of a sample, to be looked for; None where their true videos are not all known.

    Raises:
        BadTruth: if they are the same or show nothing.
    """
    answers = sample.answer_videos
    if answers is None or len(answers) != sample.record.answers:
        return None
    try:
        return Candidates(sample.first_frame, answers)
    except ValueError as error:
        raise BadTruth(
            f"The valid answers of sample {sample.id} cannot be told apart: {error}. Leave it out with where=, or make "
            "it again with videos that differ."
        ) from error


def _where(candidates: Candidates) -> NDArray[np.float32]:
    return np.stack([pooled(one[..., None].astype(np.float32))[..., 0] for one in candidates.supports])


def _videos(acts: ActivationStore, run: str) -> Iterator[NDArray[np.uint8]]:
    x0 = of_run(acts, "pixels", run).isel(run=0)
    for position in range(x0.sizes[dims.STEP]):
        yield x0.isel(step=position).to_numpy()


class _Seen(NamedTuple):
    """One run."""

    changes: NDArray[np.float32]
    """What each x̂0 changes in the first frame, `[step, F, h, w, channel]`, without the fade to its mean colour."""
    evidence: NDArray[np.float64] | None = None
    """Of each valid answer, `[step, k]`; None without them."""
    elsewhere: NDArray[np.float64] | None = None
    """Its largest over steps, `[64]`; None where there is no second answer."""


def _of_pixels(acts: ActivationStore, run: str, sample: Sample, candidates: Candidates | None) -> _Seen:
    base = sample.first_frame.astype(np.float32) / np.float32(255)
    changes: list[NDArray[np.float32]] = []
    evidence: list[NDArray[np.float64]] = []
    second: list[NDArray[np.float64]] = []
    for video in _videos(acts, run):
        changes.append(pooled(_unfaded(video.astype(np.float32) / np.float32(255), base)))
        if candidates is not None:
            mixture = candidates.mixture(video)
            evidence.append(mixture.evidence)
            if len(mixture.evidence) > 1:
                second.append(elsewhere(candidates, mixture.change))
    return _Seen(
        np.stack(changes),
        None if candidates is None else np.array(evidence),
        np.max(second, axis=0) if second else None,
    )


def _unfaded(shown: NDArray[np.float32], base: NDArray[np.float32]) -> NDArray[np.float32]:
    fade = np.broadcast_to(shown.mean(axis=(0, 1, 2)) - base, shown.shape)
    change, square = shown - base, float((fade**2).sum(dtype=np.float64))
    share = float((change * fade).sum(dtype=np.float64)) / square if square > 0 else 0.0
    return change - np.float32(np.clip(share, 0, 1)) * fade


def _of_latents(acts: ActivationStore, run: str) -> _Seen:
    """The same in latents: what differs from the first latent frame of the last x̂0, which is the given picture."""
    x0 = of_run(acts, "full", run).isel(run=0)
    last = x0.isel(step=-1).to_numpy().astype(np.float32)
    changes: list[NDArray[np.float32]] = []
    for position in range(x0.sizes[dims.STEP]):
        one = x0.isel(step=position).to_numpy().astype(np.float32)
        if not np.isfinite(one).all():
            raise NonFinite(
                f"x̂0 of run {run} holds NaN or infinity: the model overflowed there. Leave this run out with where= or "
                "runs=, or capture it again in another dtype."
            )
        changes.append(pooled(one[1:] - last[:1]))
    return _Seen(np.stack(changes))
