"""How much of each valid answer a picture shows.

At the first step the best x̂0 is the mean over all videos that fit, so where k answers fit it is their mixture:
in different places (multi-path) or at one place (superposition). The evidence is the recipe of that mixture:
the weights, none below zero, with which what each answer changes adds up to what x̂0 changes.

Shapes: k answers, F frames, H×W pixels.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.optimize import nnls

SHOWN: float = 0.15
"""Evidence from which on a candidate counts as shown."""
SHIFTS: Final = 8
"""Shifts down and shifts across at which candidates are looked for where they are not; see `Candidates.shifted`."""


def effective_number(evidence: NDArray[np.float64]) -> float:
    """Number of candidates that share the evidence: exp of the entropy, 0 where there is no evidence.

    Args:
        evidence: float64 `[k]`, not negative.
    """
    total = evidence.sum()
    if total <= 0:
        return 0.0
    share = evidence[evidence > 0] / total
    return float(np.exp(-(share * np.log(share)).sum()))


def second_largest(evidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Second largest along the last axis; 0 where there is one candidate only."""
    if evidence.shape[-1] < 2:
        return np.zeros(evidence.shape[:-1])
    return np.partition(evidence, -2, axis=-1)[..., -2]


def non_negative(gram: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights w ≥ 0 that minimise ‖target - Σ_a w_a column_a‖, from the normal equations.

    Args:
        gram: Inner products of the columns with each other, `[k, k]`: k is small, the number of pixels is not.
        target: Inner products of the columns with the target, `[k]`.
    """
    factor = np.linalg.cholesky(gram + 1e-9 * np.trace(gram) * np.eye(len(gram)))
    weights, _ = nnls(factor.T, np.linalg.solve(factor, target))
    return weights


def _gram(columns: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = columns.astype(np.float64)
    return wide @ wide.T


class Mixture(NamedTuple):
    """What `Candidates.mixture` finds in a video."""

    evidence: NDArray[np.float64]
    """Weight of each candidate, `[k]`."""
    change: NDArray[np.float32]
    """What the video changes in the first frame, the fade taken out, `[F, H, W, 3]`, colours as 0-1."""


class Candidates:
    """The valid answers of one sample, prepared to be looked for in many videos.

    The evidence is the weights w ≥ 0 with which what the answers change adds up to what the video changes. An answer's
    own true video gives it 1 and the others 0; the mean of k true videos gives each 1/k; the still first frame gives 0
    to all. Early x̂0 are grey and blurred, so only what tells an answer from the others counts for it, not what all of
    them change alike (a thing that leaves its place); and a fade of the whole picture to its mean colour is a column
    of the mixture of its own, so that grey is no evidence of anything. An answer inside another one has nothing of its
    own; all that it changes counts for it.

    Args:
        first_frame: uint8 `[H, W, 3]`.
        answers: True videos of the valid answers, uint8 `[k, F, H, W, 3]`.

    Source: SCIENCE.md, "Ground truth"; the mixture at σ = 1 is the posterior mean of flow matching.

    Raises:
        ValueError: if an answer changes nothing, or is another one again.
    """

    def __init__(self, first_frame: NDArray[np.uint8], answers: NDArray[np.uint8]) -> None:
        self._base = first_frame.astype(np.float32) / 255
        changed = (answers != first_frame[None, None]).any(axis=-1)
        differ = changed if len(answers) == 1 else (answers != answers[:1]).any(axis=(0, -1))[None]
        own = changed & differ
        self.supports: NDArray[np.bool_] = np.where(own.any(axis=(1, 2, 3), keepdims=True), own, changed)
        """Where each answer shows and differs from the others, `[k, F, H, W]`."""
        if not changed.any(axis=(1, 2, 3)).all() or len({one.tobytes() for one in answers}) < len(answers):
            raise ValueError("an answer is the still first frame, or the same as another one")
        told = self.supports.any(axis=0)
        self._at = np.flatnonzero(told)
        self._columns = (answers.astype(np.float32) / 255 - self._base)[:, told].reshape(len(answers), -1)
        self._kept = (told | ~changed.any(axis=0))[..., None].astype(np.float32)
        self._gram = _gram(self._columns)
        self._told = told

    def mixture(self, video: NDArray[np.uint8]) -> Mixture:
        """Evidence of each candidate in a video.

        Args:
            video: uint8 `[F, H, W, 3]`.
        """
        shown = video.astype(np.float32) / 255
        fade = shown.mean(axis=(0, 1, 2)) - self._base
        change = shown - self._base
        of_fade = np.broadcast_to(fade, change.shape).reshape(-1, fade.shape[-1])[self._at].ravel()
        of_change = change.reshape(-1, fade.shape[-1])[self._at].ravel()
        with_fade = self._columns.astype(np.float64) @ of_fade.astype(np.float64)
        square = float((self._kept.sum(axis=0) * fade**2).sum(dtype=np.float64))
        gram = np.block([[self._gram, with_fade[:, None]], [with_fade[None], np.array([[square]])]])
        target = np.append(
            self._columns.astype(np.float64) @ of_change.astype(np.float64),
            float(((self._kept * change).sum(axis=0) * fade).sum(dtype=np.float64)),
        )
        weights = non_negative(gram, target)
        return Mixture(weights[:-1], change - np.float32(weights[-1]) * fade)

    def shifted(self, change: NDArray[np.float32]) -> NDArray[np.float64]:
        """Evidence at places where the candidates are not: what clutter and noise give.

        The change is moved in a circle by every multiple of an eighth of the height and width. Where x̂0 is noise whose
        statistics are the same everywhere, all shifts are alike, so that the rank of the unshifted one is an
        exact test (a permutation test over a group of 64).

        Args:
            change: `Mixture.change`.

        Returns:
            float64 `[64, k]`, the unshifted one first. Rows and columns beyond the last whole eighth are cut, and the
            fade is not fitted again, so the first row can differ a little from `mixture`.
        """
        spectrum, gram = self._anywhere
        cells = np.asarray(fft.fft2(self._cells(change[None])[0], axes=(1, 3)))
        found = np.asarray(fft.ifft2((cells[None] * spectrum).sum(axis=(1, 3, 5, 6)), axes=(1, 2)))
        targets = np.real(found).reshape(len(gram), -1)
        return np.stack([non_negative(gram, target.astype(np.float64)) for target in targets.T])

    @cached_property
    def _anywhere(self) -> tuple[NDArray[np.complex64], NDArray[np.float64]]:
        """What all shifts of a change are held against: conjugate spectrum of the columns, and their inner products."""
        columns = self._cells(self._spread())
        spectrum = np.conj(np.asarray(fft.fft2(columns, axes=(2, 4))))
        return spectrum, _gram(columns.reshape(len(columns), -1))

    def _spread(self) -> NDArray[np.float32]:
        """The columns as videos, `[k, F, H, W, 3]`."""
        videos = np.zeros((len(self._columns), *self._told.shape, self._base.shape[-1]), np.float32)
        videos[:, self._told] = self._columns.reshape(len(videos), -1, self._base.shape[-1])
        return videos

    def _cells(self, videos: NDArray[np.float32]) -> NDArray[np.float32]:
        """Videos cut into eighths, `[n, F, 8, h, 8, w, 3]`."""
        count, frames, height, width, channels = videos.shape
        high, wide = height // SHIFTS, width // SHIFTS
        cut = videos[:, :, : high * SHIFTS, : wide * SHIFTS]
        return cut.reshape(count, frames, SHIFTS, high, SHIFTS, wide, channels)


def shared_overlap(evidence: NDArray[np.float64], overlap: NDArray[np.float64]) -> float:
    """Mean overlap of pairs of candidates, each pair weighted by the product of its evidence; NaN without a pair.

    Args:
        evidence: float64 `[k]`.
        overlap: float64 `[k, k]`.
    """
    pairs = np.triu(np.outer(evidence, evidence), 1)
    return float((pairs * overlap).sum() / pairs.sum()) if pairs.sum() > 0 else float("nan")
