"""Whole tokens of a site, read a few frames of a run and step at a time: memory has a bound that is known before.

Shapes: n tokens, d channels, f frames, h×w tokens of a frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyses.errors import BadPlan, NonFinite
from store import ActivationStore, digest, dims

MOMENT_TOKENS: Final = 100_000
"""Tokens of a half behind its means and covariances."""


class Unit(NamedTuple):
    """What is read at once."""

    run: str
    sample: int
    """Number of its sample."""
    step: int
    frames: tuple[int, ...]


class Tokens(NamedTuple):
    """One layer of a site."""

    site: str
    branch: str | None
    layer: int
    steps: tuple[int, ...]
    grid: tuple[int, int, int]
    """Latent frames, rows and columns."""
    channels: int

    @property
    def frame_nbytes(self) -> int:
        """Bytes of the tokens of one frame, as float32."""
        return 4 * self.grid[1] * self.grid[2] * self.channels

    def units(self, runs: Sequence[tuple[str, int]], nbytes: int) -> list[Unit]:
        """All tokens of some (run, sample number), as units of at most `nbytes`, one frame at least."""
        frames = tuple(range(self.grid[0]))
        together = max(1, nbytes // self.frame_nbytes)
        parts = [frames[at : at + together] for at in range(0, len(frames), together)]
        return [Unit(run, sample, step, part) for (run, sample), step, part in product(runs, self.steps, parts)]


class Moments(NamedTuple):
    """What the tokens of a half are like, as far as two of them tell."""

    mean: NDArray[np.float32]
    """`[d]`"""
    scale: NDArray[np.float32]
    """Standard deviations `[d]`; 1 where a channel does not vary."""
    axes: NDArray[np.float32]
    """Principal axes of the standardised tokens, largest variance first `[d, d]`, a row each."""
    spread: NDArray[np.float32]
    """Standard deviation along each `[d]`."""

    def standardised(self, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        """Tokens with mean 0 and variance 1 in each channel; massive ones weigh like any other."""
        return (tokens - self.mean) / self.scale

    def drawn(self, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
        """Gaussian tokens with the same covariance, `[n, d]`, standardised."""
        return np.matmul(rng.standard_normal(shape, np.float32) * self.spread, self.axes, dtype=np.float32)

    def projected(self, tokens: NDArray[np.float32], rank: int) -> NDArray[np.float32]:
        """Standardised tokens on the first `rank` principal axes, and back."""
        axes = self.axes[:rank]
        return np.matmul(np.matmul(tokens, axes.T, dtype=np.float32), axes, dtype=np.float32)


def read(acts: ActivationStore, tokens: Tokens, unit: Unit) -> NDArray[np.float32]:
    """The tokens of a unit `[n, d]`, in the order of frames, rows and columns.

    Raises:
        NonFinite: one is NaN or infinite.
    """
    array = acts.load(
        tokens.site,
        "full",
        runs=[unit.run],
        branch=tokens.branch,
        step=unit.step,
        layer=tokens.layer,
        frame=list(unit.frames),
        lazy=False,
    )
    found = array.isel({dims.RUN: 0}).transpose(dims.FRAME, dims.Y, dims.X, dims.CHANNEL).to_numpy()
    if not np.isfinite(found).all():
        raise NonFinite(f"{tokens.site}/full of run {unit.run} is NaN or infinite: leave it out with where=.")
    return found.reshape(-1, tokens.channels).astype(np.float32, copy=False)


def kept(found: NDArray[np.float32], half: int, *, halves: bool) -> NDArray[np.float32]:
    """Every second token, if one sample makes both halves; else all."""
    return found[half::2] if halves else found


def moments(units: Sequence[Unit], loader: Loader) -> Moments:
    """Means, deviations and principal axes of some units, of at most `MOMENT_TOKENS` tokens spread over them."""
    each = max(1, MOMENT_TOKENS // len(units))
    rng = np.random.default_rng(0)
    count, total, square = 0, None, None
    for unit in units:
        found = loader.raw(unit)
        if len(found) > each:
            found = found[rng.choice(len(found), each, replace=False)]
        wide = found.astype(np.float64)
        total = wide.sum(axis=0) if total is None else total + wide.sum(axis=0)
        square = wide.T @ wide if square is None else square + wide.T @ wide
        count += len(found)
    assert total is not None
    assert square is not None
    mean = total / count
    covariance = square / count - np.outer(mean, mean)
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0))
    scale = np.where(deviation > 1e-6 * max(float(deviation.max()), 1e-30), deviation, 1.0)
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    order = np.argsort(-values)
    return Moments(
        mean.astype(np.float32),
        scale.astype(np.float32),
        vectors[:, order].T.astype(np.float32),
        np.sqrt(np.maximum(values[order], 0)).astype(np.float32),
    )


class Loader:
    """Standardised tokens of one half, or Gaussian ones in their place.

    Args:
        acts: The store.
        tokens: What is read.
        half: 0 or 1.
        halves: Whether one sample makes both halves: then every second token is of the other one.
    """

    def __init__(self, acts: ActivationStore, tokens: Tokens, half: int, *, halves: bool) -> None:
        self._acts, self._tokens, self._half, self._halves = acts, tokens, half, halves

    def raw(self, unit: Unit) -> NDArray[np.float32]:
        """Tokens as they are stored `[n, d]`."""
        return kept(read(self._acts, self._tokens, unit), self._half, halves=self._halves)

    def numbers(self, unit: Unit) -> NDArray[np.intp]:
        """Where each token of `raw` is among all tokens of the unit."""
        count = len(unit.frames) * self._tokens.grid[1] * self._tokens.grid[2]
        return np.arange(self._half, count, 2) if self._halves else np.arange(count)

    def standardised(self, unit: Unit, by: Moments, *, gaussian: bool) -> NDArray[np.float32]:
        """Tokens in the units of `by`; Gaussian ones depend on the unit alone."""
        if not gaussian:
            return by.standardised(self.raw(unit))
        rng = np.random.default_rng([self._half, int(digest("unit", *map(str, unit)), 16)])
        return by.drawn((len(self.numbers(unit)), self._tokens.channels), rng)


def pools(
    units: Sequence[Unit], nbytes: int, unit_nbytes: int, seed: int, start: int
) -> Iterator[tuple[int, list[Unit]]]:
    """Units in an order drawn anew each time all were used, as many at once as fit; numbered, from `start` on."""
    together = max(1, min(len(units), nbytes // unit_nbytes))
    round_, number = 0, 0
    while True:
        order = np.random.default_rng([seed, round_]).permutation(len(units))
        for at in range(0, len(units), together):
            if number >= start:
                yield number, [units[int(one)] for one in order[at : at + together]]
            number += 1
        round_ += 1


def budget(tokens: Tokens, *, features: int, batch: int, memory: int) -> int:
    """Bytes that a pool of tokens may have, when everything else is taken off.

    Raises:
        BadPlan: the memory does not hold the dictionary, the covariance and one frame.
    """
    d = tokens.channels
    training = 4 * (9 * features * d + 4 * batch * (features + d))
    covariance = 8 * 6 * d * d
    need = max(training + 4 * tokens.frame_nbytes, covariance + 4 * tokens.frame_nbytes)
    if need > memory:
        raise BadPlan(
            f"{features} features of {d} channels need {need / 2**20:.0f} MiB, and memory={memory / 2**20:.0f} MiB was "
            "given: ask for fewer features=, or more memory= (bytes)."
        )
    return (memory - training) // 4
