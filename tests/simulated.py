"""Many simulated experiments at once, to count how often a rule claims what is not so."""

from __future__ import annotations

import numpy as np

from analyses.experiments._paired import tails


def curve(*rates: float, n: int = 200, seed: int = 0) -> np.ndarray:
    """Samples that are right at these rates, paired as far as they can be: what fails at a rate fails below it."""
    hard = np.random.default_rng(seed).permutation(n)
    return np.array([(hard < rate * n).astype(float) for rate in rates])


class Quick:
    """`_paired.interval` and `_paired.p_value` of many experiments of one size at once, over shared resamples."""

    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(0)
        self.n = n
        self._weights = rng.multinomial(n, np.full(n, 1 / n), size=4000).T / n
        self._signs = rng.choice([-1.0, 1.0], (n, 4000))

    def ends(self, values: np.ndarray) -> np.ndarray:
        """Lower and upper ends `[2, experiment]` for values `[experiment, n]`."""
        tail = 100 * tails(self.n)
        return np.percentile(values @ self._weights, [tail, 100 - tail], axis=1)

    def p(self, values: np.ndarray) -> np.ndarray:
        """P of no mean difference, `[experiment]`."""
        extreme = np.abs(values @ self._signs) >= np.abs(values.sum(axis=1, keepdims=True)) - 1e-9
        return extreme.mean(axis=1)


def guard(values: np.ndarray) -> np.ndarray:
    """The two samples that `guarded` adds, `[experiment, n + 2]`."""
    return np.concatenate([values, np.tile([1.0, -1.0], (len(values), 1))], axis=1)
