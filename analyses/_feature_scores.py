"""What a dictionary makes of tokens of samples that it never saw: what it explains, what fires, and where most.

Shapes: s samples, m features, n examples of a feature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyses._token_units import Loader, Moments, Tokens, Unit
from analyses._topk import Codes, Dictionary, decode, encode

EXAMPLES: Final = 6
"""Examples of a feature that are kept, each of another run as far as there are so many."""
AT_ONCE: Final = 4096
"""Tokens that are coded at once."""

Floats = NDArray[np.float64]


class Explained(NamedTuple):
    """Variance explained in each sample, as shares `[s]`; NaN in samples that were not looked at."""

    dictionary: Floats
    pca: Floats
    active: Floats
    """Active features of a token, mean."""


class Firing(NamedTuple):
    """When and where features fire."""

    by_step: Floats
    """Share of tokens at which each is active `[m, step]`."""
    energy: Floats
    """Sum of its squared activations `[m]`."""
    value: Floats
    """Largest activations, one of each run and so many as are kept `[m, n]`; 0 where there are fewer."""
    place: NDArray[np.int64]
    """Run number, step, frame, row and column of each `[m, n, 5]`."""


def explained(
    units: Sequence[Unit],
    loader: Loader,
    by: Moments,
    learned: Dictionary,
    *,
    k: int,
    samples: int,
    gaussian: bool,
    seen: Callable[[Unit, Codes, NDArray[np.intp]], object] | None = None,
) -> Explained:
    """How much of the variance of held-out tokens a dictionary and PCA of the same number of numbers explain.

    Args:
        units: Held out.
        loader: Reads them.
        by: Of the half on which the dictionary was trained.
        learned: The dictionary.
        k: Active features, and principal axes.
        samples: How many there are in all.
        gaussian: Whether Gaussian tokens stand in for those of the units.
        seen: Told of every unit's codes, with each token's number in the unit.
    """
    wrong, wrong_pca, total, active, count = (np.zeros(samples) for _ in range(5))
    for unit in units:
        tokens, numbers = loader.standardised(unit, by, gaussian=gaussian), loader.numbers(unit)
        for start in range(0, len(tokens), AT_ONCE):
            part = tokens[start : start + AT_ONCE]
            codes = encode(learned, part, k)
            if seen is not None:
                seen(unit, codes, numbers[start : start + AT_ONCE])
            wrong[unit.sample] += _square(part - decode(learned, codes))
            wrong_pca[unit.sample] += _square(part - by.projected(part, k))
            total[unit.sample] += _square(part)
            active[unit.sample] += float((codes.values > 0).sum())
            count[unit.sample] += len(part)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Explained(1 - wrong / total, 1 - wrong_pca / total, active / count)


def _square(values: NDArray[np.float32]) -> float:
    return float(np.einsum("nd,nd->", values, values, dtype=np.float64))


class Watch:
    """Keeps when and where features fire, while units pass by; memory: some numbers for each feature and run.

    Args:
        tokens: What is read.
        runs: Run ids, in their order.
        features: How many.
    """

    def __init__(self, tokens: Tokens, runs: Sequence[str], features: int) -> None:
        self._tokens = tokens
        self._run = {run: at for at, run in enumerate(runs)}
        self._step = {step: at for at, step in enumerate(tokens.steps)}
        self._fired = np.zeros((features, len(tokens.steps)))
        self._count = np.zeros(len(tokens.steps))
        self._energy = np.zeros(features)
        self._value = np.zeros((features, EXAMPLES))
        self._place = np.full((features, EXAMPLES, 5), -1, np.int64)

    def __call__(self, unit: Unit, codes: Codes, numbers: NDArray[np.intp]) -> None:
        """See `explained`."""
        features, step = len(self._energy), self._step[unit.step]
        on = codes.values > 0
        self._fired[:, step] += np.bincount(codes.features[on], minlength=features)
        self._energy += np.bincount(codes.features[on], codes.values[on].astype(np.float64) ** 2, minlength=features)
        self._count[step] += len(numbers)
        flat, value, token = codes.features[on], codes.values[on], np.broadcast_to(numbers[:, None], on.shape)[on]
        order = np.lexsort((-value, flat))  # the largest of each feature first
        flat, value, token = flat[order], value[order], token[order]
        first = np.flatnonzero(np.diff(flat, prepend=-1))
        for at in first:
            self._keep(int(flat[at]), float(value[at]), unit, int(token[at]))

    def _keep(self, feature: int, value: float, unit: Unit, token: int) -> None:
        """Put an example among those of its feature, one of each run."""
        run = self._run[unit.run]
        same = np.flatnonzero(self._place[feature, :, 0] == run)
        slot = int(same[0]) if len(same) else int(self._value[feature].argmin())
        if value > self._value[feature, slot]:
            frames, (_, rows, columns) = unit.frames, self._tokens.grid
            frame, y, x = np.unravel_index(token, (len(frames), rows, columns))
            self._value[feature, slot] = value
            self._place[feature, slot] = (run, unit.step, frames[int(frame)], int(y), int(x))

    def firing(self) -> Firing:
        """What was kept, examples in falling order."""
        order = np.argsort(-self._value, axis=1, kind="stable")
        share: NDArray[Any] = self._fired / np.maximum(self._count, 1)
        return Firing(
            by_step=share,
            energy=self._energy,
            value=np.take_along_axis(self._value, order, axis=1),
            place=np.take_along_axis(self._place, order[..., None], axis=1),
        )
