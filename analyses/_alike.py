"""How alike two representations of the same things are: debiased linear CKA, cosine, Procrustes; with its uncertainty.

CKA compares who is near whom, so spaces may differ in width. The plain estimate is biased upwards, to 1 as features
outnumber rows; here every HSIC is the unbiased U-statistic (Song et al. 2012), which may fall below 0. Cosine
compares vector by vector and needs a common basis. Procrustes asks how much is left when one space is turned and scaled
onto the other, and like plain CKA is high by chance where features outnumber rows: read it beside CKA.

Shapes: p and q representations, n rows (tokens of a run, or samples), d features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Grams(NamedTuple):
    """Linear kernels with what HSIC needs of them."""

    flat: NDArray[np.float32]
    """Kernels of centred features without their diagonals, each one row `[p, n·n]`."""
    sums: Floats
    """Sums of their rows `[p, n]`."""

    @property
    def rows(self) -> int:
        """How many rows were compared."""
        return self.sums.shape[1]


def grams(features: Sequence[NDArray[Any]]) -> Grams:
    """Kernels of some representations `[n, d]` of the same rows; widths may differ.

    Features are centred and scaled as a whole, which changes no CKA and keeps float32 in range.
    """
    rows = len(features[0])
    flat = np.empty((len(features), rows, rows), np.float32)
    for place, one in enumerate(features):
        centred = np.asarray(one, np.float64) - np.mean(one, axis=0, dtype=np.float64)
        size = np.sqrt((centred**2).sum() / rows)
        scaled = (centred / (size if size > 0 else 1)).astype(np.float32)
        np.matmul(scaled, scaled.T, out=flat[place])
        np.fill_diagonal(flat[place], 0)
    return Grams(flat.reshape(len(features), -1), flat.sum(axis=2, dtype=np.float64))


def cka(one: Grams, other: Grams) -> Floats:
    """Debiased linear CKA of each with each `[p, q]`; NaN where a representation does not vary, or n < 4."""
    across = _hsic(one, other)
    own, theirs = _self(one), _self(other)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = across / np.sqrt(np.multiply.outer(own, theirs))
    return np.where(np.isfinite(found), found, np.nan)


def cka_without_each(one: Grams, other: Grams) -> Floats:
    """The same with each row left out in turn, for a jackknife `[n, p, q]`."""
    across = _hsic_without_each(one, other)
    own = np.stack([_hsic_without_each(part, part)[:, 0, 0] for part in _parts(one)], axis=1)
    theirs = np.stack([_hsic_without_each(part, part)[:, 0, 0] for part in _parts(other)], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return across / np.sqrt(own[:, :, None] * theirs[:, None, :])


def _parts(kernels: Grams) -> list[Grams]:
    return [Grams(kernels.flat[at : at + 1], kernels.sums[at : at + 1]) for at in range(len(kernels.flat))]


def _self(kernels: Grams) -> Floats:
    """HSIC of each with itself `[p]`; NaN where it is not above 0."""
    found = np.array([_hsic(part, part)[0, 0] for part in _parts(kernels)])
    return np.where(found > 0, found, np.nan)


def _hsic(one: Grams, other: Grams) -> Floats:
    """Unbiased HSIC times n(n-3), `[p, q]` (Song et al. 2012, equation 5)."""
    n = one.rows
    if n < 4:
        return np.full((len(one.flat), len(other.flat)), np.nan)
    together = (one.flat @ other.flat.T).astype(np.float64)
    total = np.multiply.outer(one.sums.sum(axis=1), other.sums.sum(axis=1))
    return together + total / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one.sums @ other.sums.T)


def _hsic_without_each(one: Grams, other: Grams) -> Floats:
    """The same without each row in turn, from sums that lose that row's part `[n, p, q]`."""
    n = one.rows - 1
    if n < 4:
        return np.full((one.rows, len(one.flat), len(other.flat)), np.nan)
    first, second = (kernels.flat.reshape(len(kernels.flat), -1, n + 1) for kernels in (one, other))
    by_row = np.einsum("pij,qij->ipq", first, second, optimize=True).astype(np.float64)
    together = by_row.sum(axis=0) - 2 * by_row
    a, b = one.sums.T[:, :, None], other.sums.T[:, None, :]  # [n, p, 1], [n, 1, q]
    total = (one.sums.sum(axis=1)[None, :, None] - 2 * a) * (other.sums.sum(axis=1)[None, None, :] - 2 * b)
    # Σ_j≠i (r_j - k_ij)(s_j - l_ij), with row sums r and s
    crossed = np.einsum("qij,pj->ipq", second, one.sums, optimize=True)
    crossed = crossed + np.einsum("pij,qj->ipq", first, other.sums, optimize=True)
    products = (one.sums @ other.sums.T)[None] - crossed + by_row - a * b
    return together + total / ((n - 1) * (n - 2)) - 2 / (n - 2) * products


def jackknife(whole: Floats, without_each: Floats) -> Floats:
    """What each row adds, so that the mean's standard error is the jackknife's `[n, …]` (pseudo-values)."""
    n = len(without_each)
    return n * whole - (n - 1) * without_each


def pseudo_values(one: Grams, other: Grams) -> Floats:
    """CKA as what each row adds to it `[n, p, q]`: its mean is the estimate, not corrected for bias."""
    whole = cka(one, other)
    spread = jackknife(whole, cka_without_each(one, other))
    return whole + spread - spread.mean(axis=0)


def cosine(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Mean over rows of the cosine between the same row of both, raw `[n, d]`; NaN for widths that differ."""
    if one.shape[1] != other.shape[1]:
        return float("nan")
    a, b = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.mean(np.einsum("nd,nd->n", a, b) / lengths))


def procrustes(one: NDArray[Any], other: NDArray[Any]) -> float:
    """1 - disparity of centred, scaled representations after the best rotation `[n, d]`: 1 for the same shape.

    The square of the nuclear norm of Aᵀ B for A and B of Frobenius norm 1; the disparity is that of
    `scipy.spatial.procrustes`. Widths may differ, as if the narrower were filled up with zeros.
    """
    a, b = (part - part.mean(axis=0) for part in (one.astype(np.float64), other.astype(np.float64)))
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    if not norms > 0:
        return float("nan")
    return float((np.linalg.svd(_small(a, b), compute_uv=False).sum() / norms) ** 2)


def _small(a: Floats, b: Floats) -> Floats:
    """A matrix with the singular values of Aᵀ B, at most `[n, n]`."""
    if a.shape[1] > len(a):
        a = _square(a)
    if b.shape[1] > len(b):
        b = _square(b)
    return a.T @ b


def _square(features: Floats) -> Floats:
    """The features turned into as many axes as there are rows."""
    values, vectors = np.linalg.eigh(features @ features.T)
    return vectors * np.sqrt(np.maximum(values, 0))
