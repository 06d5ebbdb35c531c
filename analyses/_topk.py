"""A sparse dictionary: a top-k autoencoder in numpy, trained a batch at a time.

Why this and not scikit-learn's MiniBatchDictionaryLearning: coding a token is one matrix product and a selection, not a
lasso solved for each token; the number of active features is chosen, not found by trying penalties; and all that
training knows is a few arrays, so that it can be stopped and taken up again.

Shapes: n tokens, d channels (standardised), m features, k active features.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
RATE: Final = 4e-3
"""Learning rate of Adam, at first; it falls in a straight line to nothing over the last half."""
_BETAS: Final = (0.9, 0.99)
_EPSILON: Final = 1e-8
REVIVE_EVERY: Final = 50
"""Updates between two looks for features that nothing uses."""
REVIVE_UNTIL: Final = 0.6
"""Share of the training after which features are left to die."""


class Dictionary(NamedTuple):
    """What is learned."""

    encoder: Floats
    """`[m, d]`"""
    encoder_bias: Floats
    """`[m]`"""
    decoder: Floats
    """`[m, d]`, rows of length 1: the features."""
    bias: Floats
    """`[d]`"""


class State(NamedTuple):
    """All that training knows: it goes on from here as if it had never stopped."""

    learned: Dictionary
    first: Dictionary
    """Adam's running means of the gradients."""
    second: Dictionary
    """Adam's running means of their squares."""
    used: NDArray[np.int64]
    """How often each feature was active since the last look for dead ones `[m]`."""
    updates: int
    pools: int
    """Pools of tokens that were used up."""


class Codes(NamedTuple):
    """Active features of some tokens."""

    features: NDArray[np.intp]
    """Their numbers `[n, k]`."""
    values: Floats
    """Their activations, not negative `[n, k]`; 0 where fewer are active."""


def begin(tokens: Floats, features: int, rng: np.random.Generator) -> State:
    """A dictionary whose features are directions of tokens drawn at random, with a little noise.

    Args:
        tokens: Some tokens to draw from `[n, d]`.
        features: How many.
        rng: Draws.
    """
    drawn = tokens[rng.choice(len(tokens), features, replace=len(tokens) < features)]
    noise = rng.standard_normal(drawn.shape, np.float32) / 10
    rows = _unit(np.add(drawn, noise, dtype=np.float32))
    learned = Dictionary(rows.copy(), np.zeros(features, np.float32), rows, np.zeros(tokens.shape[1], np.float32))
    zero = Dictionary(*(np.zeros_like(part) for part in learned))
    return State(learned, zero, Dictionary(*map(np.copy, zero)), np.zeros(features, np.int64), 0, 0)


def encode(learned: Dictionary, tokens: Floats, k: int) -> Codes:
    """The k largest activations of each token, cut at 0."""
    raw = (tokens - learned.bias) @ learned.encoder.T + learned.encoder_bias
    k = min(k, raw.shape[1])
    top = np.argpartition(raw, raw.shape[1] - k, axis=1)[:, -k:] if k < raw.shape[1] else np.argsort(raw, axis=1)
    return Codes(top, np.maximum(np.take_along_axis(raw, top, axis=1), 0))


def decode(learned: Dictionary, codes: Codes) -> Floats:
    """Tokens of codes `[n, d]`."""
    return _dense(codes, len(learned.decoder)) @ learned.decoder + learned.bias


def update(state: State, tokens: Floats, *, k: int, of: int) -> State:
    """One step of Adam on the mean squared error of a batch, decoder rows kept at length 1.

    Args:
        state: Where training is; its arrays are changed in place.
        tokens: The batch `[n, d]`.
        k: Active features of a token.
        of: Updates in all.
    """
    learned = state.learned
    codes = encode(learned, tokens, k)
    active = _dense(codes, len(learned.decoder))
    off = active @ learned.decoder + learned.bias - tokens
    wrong = off * np.float32(2 / len(tokens))
    back = np.where(active > 0, wrong @ learned.decoder.T, 0)
    pulled = back @ learned.encoder
    decoder = active.T @ wrong
    decoder -= (decoder * learned.decoder).sum(axis=1, keepdims=True) * learned.decoder  # along the sphere
    gradient = Dictionary(
        encoder=back.T @ (tokens - learned.bias),
        encoder_bias=back.sum(axis=0),
        decoder=decoder,
        bias=wrong.sum(axis=0) - pulled.sum(axis=0),
    )
    _adam(state, gradient, rate=RATE * min(1.0, 2 * (1 - state.updates / of)))
    learned.decoder[...] = _unit(learned.decoder)
    state.used[...] += (active > 0).sum(axis=0)
    done = state._replace(updates=state.updates + 1)
    if done.updates % REVIVE_EVERY == 0:
        if done.updates <= REVIVE_UNTIL * of:
            _revive(done, off)
        done.used[...] = 0
    return done


def _adam(state: State, gradient: Dictionary, *, rate: float) -> None:
    first, second = _BETAS
    count = state.updates + 1
    scale = np.float32(rate * np.sqrt(1 - second**count) / (1 - first**count))
    for value, mean, square, slope in zip(state.learned, state.first, state.second, gradient, strict=True):
        mean *= np.float32(first)
        mean += np.float32(1 - first) * slope
        square *= np.float32(second)
        square += np.float32(1 - second) * slope * slope
        value -= scale * mean / (np.sqrt(square) + np.float32(_EPSILON))


def _revive(state: State, off: Floats) -> None:
    """Point features that no token used at what the batch's worst tokens lack."""
    dead = np.flatnonzero(state.used == 0)
    worst = np.argsort(-(off**2).sum(axis=1), kind="stable")[: len(dead)]
    dead = dead[: len(worst)]
    rows = _unit(-off[worst])
    state.learned.decoder[dead] = rows
    state.learned.encoder[dead] = rows
    state.learned.encoder_bias[dead] = 0
    for moments in (state.first, state.second):
        moments.decoder[dead] = 0
        moments.encoder[dead] = 0
        moments.encoder_bias[dead] = 0


def _dense(codes: Codes, features: int) -> Floats:
    found = np.zeros((len(codes.features), features), np.float32)
    np.put_along_axis(found, codes.features, codes.values, axis=1)
    return found


def _unit(rows: Floats) -> Floats:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


def likeness(rows: Floats, others: Floats) -> Floats:
    """For each row the largest cosine with any of the others `[m]`; 0 where there is none."""
    if not len(others):
        return np.zeros(len(rows), np.float32)
    return (_unit(rows) @ _unit(others).T).max(axis=1)
