"""Linear probes of one cell of the grid: every task, fold and penalty from one Gram matrix.

A class is told by ridge-penalised linear discriminant analysis (Hastie, Buja and Tibshirani 1995), a number by ridge
regression. Both come from the same ridge regression, onto one column a class or onto the number itself: discriminant
scores follow from its fitted values exactly, so that ordered classes do not mask each other as they do where the
largest fitted value wins. Why not a logistic probe: it needs some hundred iterative fits for nested folds, and says the
same (benchmarks/analyses.py compares them); here all tasks, controls included, share one factorisation for each
training set and penalty.

Nested folds, no approximation: the penalty of an outer fold is the one with the smallest loss when each other fold is
predicted from the rest: minus the log posterior of the true class, or the squared error of the number. (The squared
error of the columns chooses too little for classes: 0.89 against 0.93 right where all channels are alike.) A training
set therefore lacks one fold (outer) or two (inner), and one lacking {a, b} serves as "a within b" and as "b within
a": 15 training sets for five folds, not 25.

Shapes: n rows (runs, sorted by fold), d features, m rows left out, c columns of targets, k classes of a task. Products
over features are float32 and systems float64: with features of low rank and a small penalty, float32 systems go wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Floats = NDArray[np.float32]
PENALTIES: Final = (1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
"""Ridge penalties, in units of the mean squared length of a row of standardised features."""


class Task(NamedTuple):
    """What one probe is to tell."""

    name: str
    first: int
    """Its first column of `Design.targets`."""
    size: int
    """Its columns: one for each class, or one for a number."""
    is_class: bool

    @property
    def columns(self) -> slice:
        """Its columns of the targets."""
        return slice(self.first, self.first + self.size)


class Design(NamedTuple):
    """What is the same in every cell."""

    targets: Floats
    """`[n, c]`: a 1 for a row's class, or a number of mean 0 and deviation 1."""
    tasks: tuple[Task, ...]
    edges: tuple[int, ...]
    """First row of each fold, and n: rows are sorted by fold."""


class Probe(NamedTuple):
    """What the probes of one cell found."""

    held_out: tuple[Floats, ...]
    """For each task what rows outside the training set were predicted to be: class index, or number `[n]`."""
    penalty: Floats
    """Of each task when it is fitted to all rows `[task]`."""
    weights: Floats
    """For each column of the targets the weights of the fit to all rows, in raw features `[c, d]`; empty if not asked.

    Of a class: the gradient of its discriminant score. Columns of tasks that were not asked are 0.
    """


class _Fit(NamedTuple):
    """Ridge fits of all columns for one training set and penalty."""

    predicted: NDArray[np.float64]
    """Of the rows left out, without the training mean `[m, c]`."""
    cross: NDArray[np.float64]
    """Targets times fitted values, both centred `[c, c]`."""
    weights: NDArray[np.float64]
    """`[d, c]` in standardised features, empty where not asked."""


def standardised(features: Floats) -> tuple[Floats, Floats]:
    """Channels of mean 0 and deviation 1, all divided so that a row's mean squared length is 1.

    Means and deviations are over all rows; they know no label, so they tell the test rows' truth to nobody. Without
    it a few massive channels would be all that the penalty sees.

    Returns:
        The features `[n, d]`, and by what each was divided `[d]`; channels that do not vary become 0.
    """
    centred = features - features.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread = np.sqrt(np.einsum("nd,nd->d", centred, centred, dtype=np.float64) / len(centred))
    size = np.abs(features).max(axis=0)
    varies = spread > 1e-6 * size
    scale = np.where(varies, spread * np.sqrt(max(1, int(varies.sum()))), np.inf).astype(np.float32)
    centred /= scale
    return centred, scale


def fit(features: Floats, design: Design, *, weights_of: Sequence[Task] = ()) -> Probe:
    """Fit and judge every task on one cell.

    Args:
        features: Raw, finite, rows as in the design `[n, d]`.
        design: Targets, tasks and folds.
        weights_of: Tasks whose weights on all rows are wanted.
    """
    scaled, scale = standardised(features)
    machine = _Primal(scaled, design) if scaled.shape[1] < 0.7 * len(scaled) else _Dual(scaled, design)
    losses = _inner_losses(machine, design)
    held_out = [np.empty(len(scaled), np.float32) for _ in design.tasks]
    for fold in range(len(design.edges) - 1):
        best = losses[fold].argmin(axis=0)
        for place in np.unique(best):
            found = machine.fit((fold,), PENALTIES[place])
            rows, trained = _split(design, (fold,))
            for at in np.flatnonzero(best == place):
                read = _read(found, design, design.tasks[at], trained)
                held_out[at][rows] = read.argmax(axis=1) if design.tasks[at].is_class else read[:, 0]
    overall = losses.sum(axis=0).argmin(axis=0)
    wanted = [design.tasks.index(task) for task in weights_of]
    weights = np.zeros((design.targets.shape[1], scaled.shape[1]) if wanted else (0, 0), np.float32)
    for at in wanted:
        task = design.tasks[at]
        found = machine.fit((), PENALTIES[overall[at]], weights=True)
        weights[task.columns] = (_weights(found, design, task) / scale[:, None]).T
    return Probe(tuple(held_out), np.array(PENALTIES, np.float32)[overall], weights)


def _inner_losses(machine: _Primal | _Dual, design: Design) -> NDArray[np.float64]:
    """Loss by outer fold, penalty and task, over the other folds, each predicted from the rest."""
    folds = len(design.edges) - 1
    losses = np.zeros((folds, len(PENALTIES), len(design.tasks)))
    for pair in combinations(range(folds), 2):
        rows, trained = _split(design, pair)
        half = design.edges[pair[0] + 1] - design.edges[pair[0]]
        for place, penalty in enumerate(PENALTIES):
            found = machine.fit(pair, penalty)
            for at, task in enumerate(design.tasks):
                loss = _loss(_read(found, design, task, trained), design.targets[rows, task.columns], task)
                losses[pair[1], place, at] += loss[:half].sum()
                losses[pair[0], place, at] += loss[half:].sum()
    return losses


def _loss(read: NDArray[np.float64], truth: Floats, task: Task) -> NDArray[np.float64]:
    """Of each row: minus the log of its class's posterior, or the squared error of its number."""
    if not task.is_class:
        return (read[:, 0] - truth[:, 0]) ** 2
    above = read - read.max(axis=1, keepdims=True)
    return np.log(np.exp(above).sum(axis=1)) - np.where(truth > 0, above, 0).sum(axis=1)


def _split(design: Design, left_out: Sequence[int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the folds left out, in their order, and all others."""
    inside = np.zeros(design.edges[-1], bool)
    for fold in left_out:
        inside[design.edges[fold] : design.edges[fold + 1]] = True
    return np.flatnonzero(inside), np.flatnonzero(~inside)


class _Dual:
    """Ridge in the space of rows, for more features than rows: one `[n, n]` Gram matrix serves every training set."""

    def __init__(self, features: Floats, design: Design) -> None:
        self._features, self._design = features, design
        self._gram = (features @ features.T).astype(np.float64)
        self._now: tuple[int, ...] | None = None

    def fit(self, left_out: tuple[int, ...], penalty: float, *, weights: bool = False) -> _Fit:
        """Fit to all folds but those left out; the intercept is not penalised."""
        if left_out != self._now:
            self._prepare(left_out)
        # Centred targets make coefficients that add up to 0, so constants of the Gram matrix's rows drop out.
        coefficients = _solve(self._centred, self._targets, penalty)
        predicted = self._across @ coefficients - self._means @ coefficients
        return _Fit(
            predicted=predicted,
            cross=self._targets.T @ (self._targets - penalty * coefficients),
            weights=self._features[self._trained].T @ coefficients if weights else np.empty((0, 0)),
        )

    def _prepare(self, left_out: tuple[int, ...]) -> None:
        rows, self._trained = _split(self._design, left_out)
        gram = self._gram[np.ix_(self._trained, self._trained)]
        self._means = gram.mean(axis=0)
        gram -= self._means
        gram -= self._means[:, None]
        gram += self._means.mean()
        self._centred = gram
        self._across = self._gram[np.ix_(rows, self._trained)]
        targets = self._design.targets[self._trained].astype(np.float64)
        self._targets = targets - targets.mean(axis=0)
        self._now = left_out


class _Primal:
    """Ridge in the space of features, for more rows than features: `[d, d]` matrices of the folds add up."""

    def __init__(self, features: Floats, design: Design) -> None:
        self._features, self._design = features, design
        parts = [slice(*design.edges[fold : fold + 2]) for fold in range(len(design.edges) - 1)]
        self._grams = [(features[part].T @ features[part]).astype(np.float64) for part in parts]
        self._products = [(features[part].T @ design.targets[part]).astype(np.float64) for part in parts]
        self._now: tuple[int, ...] | None = None

    def fit(self, left_out: tuple[int, ...], penalty: float, *, weights: bool = False) -> _Fit:
        """As of `_Dual`."""
        if left_out != self._now:
            self._prepare(left_out)
        found = _solve(self._centred, self._right, penalty)
        return _Fit(
            predicted=self._features[self._rows] @ found - self._mean @ found,
            cross=self._right.T @ found,
            weights=found if weights else np.empty((0, 0)),
        )

    def _prepare(self, left_out: tuple[int, ...]) -> None:
        self._rows, trained = _split(self._design, left_out)
        kept = [fold for fold in range(len(self._grams)) if fold not in left_out]
        self._mean = self._features[trained].mean(axis=0, dtype=np.float64)
        self._centred = np.add.reduce([self._grams[fold] for fold in kept])
        self._centred -= len(trained) * np.multiply.outer(self._mean, self._mean)
        right = np.add.reduce([self._products[fold] for fold in kept])
        self._right = right - np.multiply.outer(self._mean, self._design.targets[trained].sum(axis=0))
        self._now = left_out


def _solve(matrix: NDArray[np.float64], right: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """(matrix + penalty)⁻¹ right, for a matrix without negative eigenvalues."""
    shifted = matrix.copy(order="F")
    np.fill_diagonal(shifted, shifted.diagonal() + penalty)
    factor = cho_factor(shifted, lower=True, overwrite_a=True, check_finite=False)
    return np.asarray(cho_solve(factor, right, check_finite=False))


def _read(found: _Fit, design: Design, task: Task, trained: NDArray[np.intp]) -> NDArray[np.float64]:
    """What is read off the rows left out: discriminant scores of the classes `[m, k]`, or the number `[m, 1]`."""
    own = found.predicted[:, task.columns]
    if not task.is_class:
        return own + design.targets[trained, task.columns].mean(axis=0)
    slopes, offsets = _discriminants(found, design, task, trained)
    return own @ slopes + offsets


def _discriminants(
    found: _Fit, design: Design, task: Task, trained: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Discriminant scores of the classes as linear functions of fitted values: slopes `[k, k]` and offsets `[k]`.

    With S the targets times their fitted values and N the classes' counts, the classes' means lie at N⁻¹S in the space
    of fitted values, and the penalised covariance within classes is there (S - S N⁻¹ S)/n.
    """
    counts = design.targets[trained, task.columns].sum(axis=0, dtype=np.float64)
    cross = found.cross[task.columns, task.columns]
    # A row's classes add up to 1, so the rows and columns of S add up to 0; what rounding left there is taken out, for
    # it would be inverted below.
    cross = cross - cross.mean(axis=0)
    cross = cross - cross.mean(axis=1, keepdims=True)
    cross = (cross + cross.T) / 2
    means = cross / np.maximum(counts, 1)[:, None]
    within = (cross - cross @ means) / len(trained)
    slopes = np.linalg.pinv(within, rcond=1e-5, hermitian=True) @ means.T
    with np.errstate(divide="ignore"):  # a class that is not in the training set is never told
        prior = np.log(counts / len(trained))
    return slopes, prior - np.einsum("kj,jk->k", means, slopes) / 2


def _weights(found: _Fit, design: Design, task: Task) -> NDArray[np.float64]:
    """Weights of the task's columns `[d, k]`, for a fit to all rows."""
    own = found.weights[:, task.columns]
    if not task.is_class:
        return own
    slopes, _ = _discriminants(found, design, task, np.arange(len(design.targets)))
    return own @ slopes
