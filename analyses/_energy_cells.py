"""Energies of the tokens of one cell, in few passes over them, each a part at a time that stays in the cache.

Shapes: n tokens of a cell (run, step, layer), d channels, k kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyses._channel_stats import outlying_in, parts

Floats = NDArray[np.float32]

KINDS: Final = ("raw", "masked", "massive", "standardised")
"""`raw`: L2 norm over all channels. `masked`: over those that are no outliers of the layer. `massive`: over the
outliers alone, so that raw² = masked² + massive². `standardised`: root mean square over channels after each has been
brought to mean 0 and deviation 1 over all tokens of its cell (run, step, layer); 1 is a cell's typical token."""
CONSTANT: Final = 1e-6
"""A channel whose deviation is below this fraction of its root mean square does not vary, and does not count."""
FEW: Final = 128
"""Tokens, spread over the cell, that tell which channels are outliers, before all are read."""


class Cell(NamedTuple):
    """What one reading of the tokens of a cell gives."""

    energy: Floats
    """`[k, n]`; not finite where a token is not."""
    square: NDArray[np.float64]
    """Mean square of each channel `[d]`."""
    absmax: Floats
    """Largest magnitude of each channel `[d]`."""
    outlier: NDArray[np.bool_]
    """What masked energy left out `[d]`."""


def of_cell(tokens: Floats, outlier: NDArray[np.bool_] | None, kinds: Sequence[str]) -> Cell:
    """Energies of the tokens of one cell, and how large its channels are.

    Args:
        tokens: Contiguous `[n, d]`; overwritten.
        outlier: Channels that `masked` leaves out, bool `[d]`; None guesses them from a few tokens.
        kinds: Of `KINDS`.
    """
    found = {kind: np.zeros(len(tokens), np.float32) for kind in KINDS}
    pieces = parts(tokens)
    channels = _Channels(tokens.shape[1], rows=len(tokens[pieces[0]]))
    with np.errstate(invalid="ignore", over="ignore"):  # whoever reads the energies refuses what is not finite
        if outlier is None:
            few = tokens[:: max(1, len(tokens) // FEW)]
            outlier = outlying_in(np.sqrt(np.square(few).mean(axis=0)), np.abs(few).max(axis=0))
        apart = np.flatnonzero(outlier)
        for part in pieces:
            some = tokens[part]
            np.vecdot(some, some, out=found["raw"][part])
            channels.add(some)
            if len(apart):
                massive = some[:, apart]
                np.vecdot(massive, massive, out=found["massive"][part])
                some[:, apart] = 0
                np.vecdot(some, some, out=found["masked"][part])
                some[:, apart] = massive
        if not len(apart):
            found["masked"] = found["raw"]
        for part in pieces:
            channels.square_deviations(tokens[part])
        if "standardised" in kinds:
            np.matmul(tokens, channels.weights(), out=found["standardised"])
        energy = np.sqrt(np.stack([found[kind] for kind in kinds]))
        return Cell(energy, channels.square, channels.absmax, outlier)


class _Channels:
    """Mean, then variance, and largest magnitude of each channel; sums over a part are added up in float64.

    The interpreter's lock is taken and given back at each call: there are as few of them as passes over the tokens.

    Args:
        count: Channels.
        rows: Tokens of a part at most.
    """

    def __init__(self, count: int, *, rows: int) -> None:
        self._ones = np.ones(rows, np.float32)
        self._tokens, self._sum, self._squares = 0, np.zeros(count), np.zeros(count)
        self._least, self._most = np.full((2, count), np.array([[np.inf], [-np.inf]]), np.float32)
        self._here = np.empty(count, np.float32)
        self._means: Floats | None = None

    def add(self, tokens: Floats) -> None:
        """Some more tokens `[n, d]`."""
        self._tokens += len(tokens)
        np.maximum(self._most, np.maximum.reduce(tokens, axis=0, out=self._here), out=self._most)
        np.minimum(self._least, np.minimum.reduce(tokens, axis=0, out=self._here), out=self._least)
        self._sum += np.matmul(self._ones[: len(tokens)], tokens, out=self._here)

    def square_deviations(self, tokens: Floats) -> None:
        """Put the square of its deviation from the mean in the place of each value; when all tokens were added."""
        if self._means is None:
            # A row for each token: numpy subtracts a single row from many at half the speed.
            self._means = np.tile((self._sum / self._tokens).astype(np.float32), (len(self._ones), 1))
        np.subtract(tokens, self._means[: len(tokens)], out=tokens)
        np.square(tokens, out=tokens)
        self._squares += np.matmul(self._ones[: len(tokens)], tokens, out=self._here)

    @property
    def absmax(self) -> Floats:
        """Largest magnitude `[d]`."""
        return np.maximum(self._most, -self._least)

    @property
    def square(self) -> NDArray[np.float64]:
        """Mean square `[d]`."""
        return self._squares / self._tokens + (self._sum / self._tokens) ** 2

    def weights(self) -> Floats:
        """What the squared deviations of a token count `[d]`: 1 / (variance · channels that vary), 0 where none is."""
        variance = self._squares / self._tokens
        varies = np.sqrt(variance) > CONSTANT * np.sqrt(self.square)
        found = np.zeros(len(variance), np.float32)
        found[varies] = 1 / (variance[varies] * max(1, int(varies.sum())))
        return found
