"""Training of a sparse dictionary out of core, so that it can be stopped at any time and goes on where it was."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from analyses import _topk
from analyses._token_units import Loader, Moments, Unit, pools
from analyses._topk import Dictionary, State


class Recipe(NamedTuple):
    """How dictionaries are trained."""

    features: int
    k: int
    batch: int
    updates: int
    seed: int
    pool_nbytes: int
    unit_nbytes: int


def train(
    units: Sequence[Unit],
    loader: Loader,
    moments: Moments,
    recipe: Recipe,
    *,
    gaussian: bool,
    checkpoint: Path,
    progress: Callable[[int], object],
) -> Dictionary:
    """A dictionary of the tokens of some units.

    Args:
        units: What it is trained on.
        loader: Reads them.
        moments: What standardises them.
        recipe: How.
        gaussian: Train on Gaussian tokens of the same covariance instead.
        checkpoint: File that keeps where training is, behind each pool; what it says is taken up.
        progress: Told of updates, those of an earlier try first.
    """
    state = _load(checkpoint)
    held: dict[Unit, NDArray[np.float32]] = {}
    if state is not None:
        progress(state.updates)
    for number, chosen in pools(
        units, recipe.pool_nbytes, recipe.unit_nbytes, recipe.seed, 0 if state is None else state.pools
    ):
        if state is not None and state.updates >= recipe.updates:
            return state.learned
        whole = len(chosen) == len(units)  # then every round has the same units, and they stay in memory
        parts = [
            held[unit] if unit in held else loader.standardised(unit, moments, gaussian=gaussian) for unit in chosen
        ]
        held = dict(zip(chosen, parts, strict=True)) if whole else held
        tokens = np.concatenate(parts)
        rng = np.random.default_rng([recipe.seed, 1, number])
        if state is None:
            state = _topk.begin(tokens, recipe.features, rng)
        rng.shuffle(tokens)
        size = min(recipe.batch, len(tokens))
        for start in range(0, len(tokens) - size + 1, size):
            if state.updates >= recipe.updates:
                break
            state = _topk.update(state, tokens[start : start + size], k=recipe.k, of=recipe.updates)
            progress(1)
        state = state._replace(pools=number + 1)
        _save(checkpoint, state)
    raise AssertionError("pools never end")


def _save(path: Path, state: State) -> None:
    """The file appears whole or not at all."""
    arrays: dict[str, NDArray[Any]] = {"used": state.used, "at": np.array([state.updates, state.pools])}
    for name in ("learned", "first", "second"):
        arrays |= {f"{name}_{part}": value for part, value in getattr(state, name)._asdict().items()}
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(save(arrays))
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _load(path: Path) -> State | None:
    if not path.exists():
        return None
    kept = load(path.read_bytes())
    parts = [
        Dictionary(*(kept[f"{name}_{part}"] for part in Dictionary._fields)) for name in ("learned", "first", "second")
    ]
    updates, done = kept["at"].tolist()
    return State(*parts, used=kept["used"], updates=updates, pools=done)
