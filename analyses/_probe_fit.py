"""Linear probes of one cell of the grid: every task, fold and penalty from one Gram matrix.

A class is told by ridge-penalised linear discriminant analysis (Hastie, Buja and Tibshirani 1995), a number by ridge
regression. Both come from the same ridge regression, onto one column a class or onto the number itself: discriminant
scores follow from its fitted values exactly, so that ordered classes do not mask each other as they do where the
largest fitted value wins. Why not a logistic probe: it needs some hundred iterative fits for nested folds, and says the
same (benchmarks/analyses.py compares them); here all tasks, controls included, share their factorisations.

Nested folds: the penalty of an outer fold is the one with the smallest loss when each other fold is
predicted from the rest: minus the log posterior of the true class, or the squared error of the number. (The squared
error of the columns chooses too little for classes: 0.89 against 0.93 right where all channels are alike.) A training
set therefore lacks one fold (outer) or two (inner), and one lacking {a, b} serves as "a within b" and as "b within
a": 15 training sets for five folds, not 25. With more features than rows they share still more: what a training set
says of rows that it lacks follows from the inverse of *all* rows' system (Cawley 2006), so that each penalty takes one
large factorisation and 15 small ones. Penalties are tried from the largest on, until two in a row are worse than the
best before, for every task in every fold.

Shapes: n rows (runs, sorted by fold), d features, m rows left out, c columns of targets, t tasks of a kind, k classes
of a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyses import _lapack

Floats = NDArray[np.float32]
Columns = NDArray[Any]
PENALTIES: Final = (1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
"""Ridge penalties, in units of the mean squared length of a row of standardised features."""
ROUNDED: Final = 0.03
"""From this penalty on systems of rows are float32, whose rounding is far beneath it; with features of low rank and a
smaller penalty they would go wrong. Products over features are float32 everywhere."""

WORSE: Final = 2
"""Smaller penalties are not tried once this many in a row were worse for every task and fold."""


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


class _Kind(NamedTuple):
    """Tasks with as many columns, which are read together."""

    places: NDArray[np.intp]
    """Among the tasks `[t]`."""
    columns: NDArray[np.intp]
    """Of the targets `[t, k]`."""
    is_class: bool


class _Lacking(NamedTuple):
    """A training set: all folds but some."""

    folds: tuple[int, ...]
    """Those."""
    rows: NDArray[np.intp]
    """Their rows, in order `[m]`."""
    trained: int
    """Rows of the training set."""
    counts: NDArray[np.float64]
    """Sum of the targets over the training set `[c]`."""
    squares: NDArray[np.float64]
    """Products of the targets over it, centred `[c, c]`."""


class _Fit(NamedTuple):
    """Ridge fits of all columns for one training set and penalty."""

    predicted: Columns
    """Of the rows left out, without the training mean `[c, m]`."""
    cross: Columns
    """Targets times fitted values, both centred `[c, c]`."""


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
    machine = (_Primal if scaled.shape[1] < 0.7 * len(scaled) else _Dual)(scaled, design)
    losses, told = _judged(machine, design)
    best = np.repeat(losses.argmin(axis=1), np.diff(design.edges), axis=0)  # [n, task]
    overall = losses.sum(axis=0).argmin(axis=0)
    places = [int(overall[design.tasks.index(task)]) for task in weights_of]
    weights = _weights(machine, design, weights_of, places)
    return Probe(
        held_out=tuple(np.take_along_axis(told, best.T[None], axis=0)[0]),
        penalty=np.array(PENALTIES, np.float32)[overall],
        weights=(weights / scale if len(weights) else weights).astype(np.float32),
    )


def _judged(machine: _Dual | _Primal, design: Design) -> tuple[Columns, Floats]:
    """Every penalty judged, as far as penalties are tried; the others' loss is infinite.

    Returns:
        The loss by outer fold, penalty and task, over the other folds, each predicted from the rest; and what each
        penalty tells of the rows of an outer fold `[penalty, task, n]`.
    """
    folds = range(len(design.edges) - 1)
    kinds = _kinds(design.tasks)
    sets = [_lacking(design, some) for some in (*combinations(folds, 1), *combinations(folds, 2))]
    truths = [[_truth(design, lacking, kind) for lacking in sets] for kind in kinds]
    losses = np.full((len(folds), len(PENALTIES), len(design.tasks)), np.inf)
    told = np.empty((len(PENALTIES), len(design.tasks), design.edges[-1]), np.float32)
    for place in reversed(range(len(PENALTIES))):
        losses[:, place] = 0
        fits = list(machine.fits(place, sets))
        for kind, truth in zip(kinds, truths, strict=True):
            for lacking, read, true in zip(sets, _read(fits, kind, sets), truth, strict=True):
                if len(lacking.folds) == 1:
                    told[place, kind.places[:, None], lacking.rows] = read.argmax(1) if kind.is_class else read[:, 0]
                    continue
                one, other = lacking.folds
                loss = _loss(read, true, kind)
                half = design.edges[one + 1] - design.edges[one]
                losses[other, place, kind.places] += loss[:, :half].sum(axis=1)
                losses[one, place, kind.places] += loss[:, half:].sum(axis=1)
        last = losses[:, place : place + WORSE]
        if place + WORSE < len(PENALTIES) and (last > losses.min(axis=1, keepdims=True)).all():
            break
    return losses, told


def _kinds(tasks: Sequence[Task]) -> list[_Kind]:
    found: dict[tuple[int, bool], list[int]] = {}
    for place, task in enumerate(tasks):
        found.setdefault((task.size, task.is_class), []).append(place)
    return [
        _Kind(np.array(places), np.array([tasks[at].first + np.arange(size) for at in places]), is_class)
        for (size, is_class), places in found.items()
    ]


def _lacking(design: Design, folds: tuple[int, ...]) -> _Lacking:
    inside = np.zeros(design.edges[-1], bool)
    for fold in folds:
        inside[slice(*design.edges[fold : fold + 2])] = True
    kept = design.targets[~inside].astype(np.float64)
    counts = kept.sum(axis=0)
    squares = kept.T @ kept - np.multiply.outer(counts, counts / len(kept))
    return _Lacking(folds, np.flatnonzero(inside), len(kept), counts, squares)


def _truth(design: Design, lacking: _Lacking, kind: _Kind) -> Columns:
    """Of each task and row left out: the index of its class, or its number `[t, 1, m]`."""
    own = design.targets[lacking.rows].T[kind.columns]
    return own.argmax(axis=1, keepdims=True) if kind.is_class else own


def _loss(read: Columns, true: Columns, kind: _Kind) -> Columns:
    """Of each task and row: minus the log of its class's posterior, or the squared error of its number `[t, m]`."""
    if not kind.is_class:
        return (read[:, 0] - true[:, 0]) ** 2
    above = read - read.max(axis=1, keepdims=True)
    return np.log(np.exp(above).sum(axis=1)) - np.take_along_axis(above, true, axis=1)[:, 0]


class _Dual:
    """Ridge in the space of rows, for more features than rows: one `[n, n]` Gram matrix serves every training set.

    With M the inverse of all rows' system (the intercept's row and column put in before, and left out after), R the
    rows that a training set lacks, and z = (M_RR)⁻¹ (M y)_R: z is what it errs by there, exactly, and (M y)_T - M_TR z
    are its coefficients. Sets that lack two folds share the factor of the first's M_RR. Right-hand sides lie as rows
    here, `[c, n]`, as `_lapack` takes them.
    """

    def __init__(self, features: Floats, design: Design) -> None:
        self._features = features
        self._parts = [slice(*pair) for pair in pairwise(design.edges)]
        self._targets = np.ascontiguousarray(design.targets.T)
        self._centred = self._targets - self._targets.mean(axis=1, keepdims=True)
        self._right = np.concatenate([self._centred, np.ones_like(self._targets[:1])])
        self._gram = features @ features.T
        self._coefficients: dict[int, Columns] = {}
        self._room: dict[np.dtype[Any], Columns] = {}  # of the inverse: new memory for each penalty costs a tenth

    def fits(self, place: int, sets: Sequence[_Lacking]) -> Iterator[_Fit]:
        """Fits to each training set, lacking one fold or two, with one penalty; the intercept is not penalised."""
        penalty = PENALTIES[place]
        inverse, coefficients = self._invert(np.float32 if penalty >= ROUNDED else np.float64, penalty)
        self._coefficients[place] = coefficients
        targets = self._targets.astype(coefficients.dtype)
        explained = targets @ coefficients.T
        errors = self._errors(inverse, coefficients)
        for lacking in sets:
            error = errors[lacking.folds]
            own = np.concatenate([coefficients[:, self._parts[fold]] for fold in lacking.folds], axis=1)
            shared = explained - own @ error.T  # y_T (M y)_T - y_T M_TR z, and M_RT y_T = (M y)_R - M_RR y_R
            told = targets[:, lacking.rows] - error - (lacking.counts / lacking.trained)[:, None]
            yield _Fit(told, lacking.squares - penalty * shared)

    def weights(self, place: int) -> tuple[Columns, Columns]:
        """Weights of the fit to all rows with a penalty whose `fits` were made `[d, c]`, and its `cross`."""
        coefficients = self._coefficients[place]
        cross = self._centred @ (self._centred - PENALTIES[place] * coefficients).T
        return self._features.T @ coefficients.T.astype(np.float32), cross

    def _invert(self, dtype: type[np.floating[Any]], penalty: float) -> tuple[Columns, Columns]:
        """M, of which the upper triangle counts, until the next penalty; and M y."""
        room = np.dtype(dtype)
        if room not in self._room:
            self._room[room] = np.empty(self._gram.shape, room)
        inverse = self._room[room]
        inverse[:] = self._gram
        np.fill_diagonal(inverse, inverse.diagonal() + penalty)
        _lapack.invert(inverse)
        *found, sums = _lapack.product(inverse, self._right.astype(room))
        coefficients = np.stack(found)
        _lapack.add_products(inverse, sums[None], -1 / sums.sum())
        return inverse, coefficients - np.multiply.outer(coefficients.sum(axis=1) / sums.sum(), sums)

    def _errors(self, inverse: Columns, coefficients: Columns) -> dict[tuple[int, ...], Columns]:
        """Errors z of the training sets that lack one fold or two `[c, m]`.

        Of two the second's are solved first, in the Schur complement of the first's block.
        """
        found: dict[tuple[int, ...], Columns] = {}
        for one, own in enumerate(self._parts):
            root = inverse[own, own].copy()
            _lapack.root(root)
            after = own.stop
            whole = np.concatenate([inverse[own, after:], coefficients[:, own].T], axis=1)
            _lapack.whiten(root, whole)
            right = whole[:, inverse.shape[1] - after :]
            alone = right.copy()
            _lapack.unwhiten(root, alone)
            found[one,] = alone.T
            for other, part in enumerate(self._parts[one + 1 :], one + 1):
                cross = whole[:, part.start - after : part.stop - after]
                rest = inverse[part, part].copy()
                _lapack.add_products(rest, cross, -1)
                second = coefficients[:, part] - right.T @ cross
                _lapack.factor(rest)
                _lapack.solve(rest, second)
                first = right - cross @ second.T
                _lapack.unwhiten(root, first)
                found[one, other] = np.concatenate([first.T, second], axis=1)
        return found


class _Primal:
    """Ridge in the space of features, for more rows than features: `[d, d]` matrices of the folds add up."""

    def __init__(self, features: Floats, design: Design) -> None:
        self._features = features
        parts = [slice(*design.edges[fold : fold + 2]) for fold in range(len(design.edges) - 1)]
        self._whole = _lacking(design, ())
        self._sums = [features[part].sum(axis=0, dtype=np.float64) for part in parts]
        self._grams = [(features[part].T @ features[part]).astype(np.float64) for part in parts]
        self._products = [(features[part].T @ design.targets[part]).astype(np.float64) for part in parts]

    def fits(self, place: int, sets: Sequence[_Lacking]) -> Iterator[_Fit]:
        """As of `_Dual`."""
        for lacking in sets:
            mean, found, right = self._solved(lacking, PENALTIES[place])
            yield _Fit((self._features[lacking.rows] @ found - mean @ found).T, right.T @ found)

    def weights(self, place: int) -> tuple[Columns, Columns]:
        """As of `_Dual`."""
        _, found, right = self._solved(self._whole, PENALTIES[place])
        return found, right.T @ found

    def _solved(self, lacking: _Lacking, penalty: float) -> tuple[Columns, Columns, Columns]:
        """Mean of the training set's features `[d]`, weights `[d, c]`, products of features and targets `[d, c]`."""
        kept = [fold for fold in range(len(self._grams)) if fold not in lacking.folds]
        mean = np.add.reduce([self._sums[fold] for fold in kept]) / lacking.trained
        matrix = np.add.reduce([self._grams[fold] for fold in kept])
        matrix -= np.multiply.outer(mean, lacking.trained * mean)
        np.fill_diagonal(matrix, matrix.diagonal() + penalty)
        right = np.add.reduce([self._products[fold] for fold in kept]) - np.multiply.outer(mean, lacking.counts)
        found = np.ascontiguousarray(right.T)
        _lapack.factor(matrix)
        _lapack.solve(matrix, found)
        return mean, found.T, right


def _read(fits: Sequence[_Fit], kind: _Kind, sets: Sequence[_Lacking]) -> Iterator[Columns]:
    """What is read off the rows left out, for each training set.

    Discriminant scores of the classes `[t, k, m]`, or the number `[t, 1, m]`.
    """
    every = [found.predicted[kind.columns] for found in fits]
    if not kind.is_class:
        for own, lacking in zip(every, sets, strict=True):
            yield own + (lacking.counts / lacking.trained)[kind.columns][..., None]
        return
    all_slopes, all_offsets = _discriminants(np.stack([found.cross for found in fits]), kind, sets)
    for own, slopes, offsets in zip(every, all_slopes, all_offsets, strict=True):
        yield slopes.swapaxes(1, 2) @ own + offsets[..., None]


def _discriminants(every: Columns, kind: _Kind, sets: Sequence[_Lacking]) -> tuple[Columns, Columns]:
    """Discriminant scores of the classes as linear functions of fitted values, for all s training sets at once.

    With S the targets times their fitted values and N the classes' counts, the classes' means lie at N⁻¹S in the space
    of fitted values, and the penalised covariance within classes is there (S - S N⁻¹ S)/n.

    Returns:
        Slopes `[s, t, k, k]` and offsets `[s, t, k]`, from S of all columns `[s, c, c]`.
    """
    counts = np.stack([one.counts for one in sets])[:, kind.columns]
    trained = np.array([one.trained for one in sets])[:, None, None]
    cross = every[:, kind.columns[:, :, None], kind.columns[:, None, :]]
    # A row's classes add up to 1, so the rows and columns of S add up to 0; what rounding left there is taken out, for
    # it would be inverted below.
    cross = cross - cross.mean(axis=2, keepdims=True)
    cross = cross - cross.mean(axis=3, keepdims=True)
    cross = (cross + cross.swapaxes(2, 3)) / 2
    means = cross / np.maximum(counts, 1)[..., None]
    within = (cross - cross @ means) / trained[..., None]
    slopes = np.linalg.pinv(within, rcond=1e-5, hermitian=True) @ means.swapaxes(2, 3)
    with np.errstate(divide="ignore"):  # a class that is not in the training set is never told
        prior = np.log(counts / trained)
    return slopes, prior - np.einsum("stkj,stjk->stk", means, slopes) / 2


def _weights(machine: _Dual | _Primal, design: Design, wanted: Sequence[Task], places: Sequence[int]) -> Columns:
    """Weights of the columns of some tasks `[c, d]`, for a fit to all rows with the penalty of each."""
    whole = _lacking(design, ())
    found = {place: machine.weights(place) for place in sorted(set(places))}
    out: Columns = np.zeros((0, 0))
    for task, place in zip(wanted, places, strict=True):
        weights, cross = found[place]
        if not out.size:
            out = np.zeros((weights.shape[1], weights.shape[0]))
        own = weights[:, task.columns]
        if task.is_class:
            (kind,) = _kinds([task])
            slopes, _ = _discriminants(cross[None], kind, [whole])
            own = own @ slopes[0, 0]
        out[task.columns] = own.T
    return out
