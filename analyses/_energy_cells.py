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
"""Tokens, spread over the cell, that tell what its channels are about, before all are read."""


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
    with np.errstate(invalid="ignore", over="ignore"):  # whoever reads the energies refuses what is not finite
        few = tokens[:: max(1, len(tokens) // FEW)]
        if outlier is None:
            outlier = outlying_in(np.sqrt(np.square(few).mean(axis=0)), np.abs(few).max(axis=0))
        apart = np.flatnonzero(outlier)
        moments = _Moments(few, rows=len(tokens[pieces[0]]))
        for part in pieces:
            some = tokens[part]
            np.vecdot(some, some, out=found["raw"][part])
            if len(apart):
                massive = some[:, apart]
                np.vecdot(massive, massive, out=found["massive"][part])
                some[:, apart] = 0
                np.vecdot(some, some, out=found["masked"][part])
                some[:, apart] = massive
            moments.add(some)
        if not len(apart):
            found["masked"] = found["raw"]
        if "standardised" in kinds:
            shift, weight = moments.standardising()
            for part in pieces:
                some = tokens[part]
                across = some @ (2 * weight * shift)
                found["standardised"][part] = np.square(some, out=some) @ weight - across
            found["standardised"] += weight @ np.square(shift)
        energy = np.sqrt(np.maximum(np.stack([found[kind] for kind in kinds]), 0))
        return Cell(energy, moments.square, moments.absmax, outlier)


class _Moments:
    """Mean, variance and largest magnitude of each channel, from one reading of the tokens.

    Deviations are taken from the mean of a few tokens. These are a share f of all, so that the variance is at least
    about f times the square of how far that mean is off, and what cancels below costs at most 1/f in rounding, and
    next to nothing where those few are like the others. Sums over a part are added up in float64.

    Args:
        few: Some of the tokens `[n, d]`.
        rows: Tokens of a part at most.
    """

    def __init__(self, few: Floats, *, rows: int) -> None:
        channels = few.shape[1]
        self._near = few.mean(axis=0, dtype=np.float64).astype(np.float32)
        # A row for each token: numpy subtracts a single row from many at half the speed.
        self._rows = np.tile(self._near, (rows, 1))
        self._count, self._sum, self._squares = 0, np.zeros(channels), np.zeros(channels)
        self.absmax = np.zeros(channels, np.float32)

    def add(self, tokens: Floats) -> None:
        """Some more tokens `[n, d]`, from which the mean of the few is taken for good."""
        np.maximum(self.absmax, np.maximum(tokens.max(axis=0), -tokens.min(axis=0)), out=self.absmax)
        tokens -= self._rows[: len(tokens)]
        self._count += len(tokens)
        self._sum += np.ones(len(tokens), np.float32) @ tokens
        self._squares += np.einsum("nd,nd->d", tokens, tokens)

    @property
    def square(self) -> NDArray[np.float64]:
        """Mean square of each channel `[d]`."""
        off, variance = self._central()
        return variance + (self._near + off) ** 2

    def standardising(self) -> tuple[Floats, Floats]:
        """Means of what `add` left `[d]`, and what squared deviations from them count `[d]`.

        These weights are 1 / (variance · channels that vary), and 0 where none is.
        """
        off, variance = self._central()
        varies = np.sqrt(variance) > CONSTANT * np.sqrt(self.square)
        weight = np.zeros(len(off), np.float32)
        weight[varies] = 1 / (variance[varies] * max(1, int(varies.sum())))
        return off.astype(np.float32), weight

    def _central(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How far means are off, and variances `[d]`."""
        off = self._sum / self._count
        return off, np.maximum(self._squares / self._count - off**2, 0)
