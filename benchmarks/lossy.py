"""What the lossy encodings lose: mean relative L2 error of a token, through the store.

On the bundled model's own residual streams, and on tokens of 5120 channels of which 16 are massive (500 times the
median, as in large DiTs). `int8_token` is what most people do first, one scale a token, and what the store does not
offer.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _activations import residuals
from _store_writes import AXES, run, steps
from numpy.typing import NDArray

import store
from _frame import Report, main
from store import bfloat16, encodings

CHANNELS, MASSIVE = 5120, 16
ENCODINGS: tuple[store.Encoding, ...] = ("int8", "float8")


def measure(report: Report, *, quick: bool) -> None:
    """Write and read back."""
    data = {"tinywan": bfloat16.to_float32(residuals()[0]), "massive": massive(frames=2 if quick else 8)}
    with tempfile.TemporaryDirectory() as folder:
        acts = store.open(Path(folder) / "acts", mode="a")
        for name, values in data.items():
            for encoding in ENCODINGS:
                errors = _error(_stored(acts, values, encoding), values)
                report.add(f"store.lossy.{encoding}.error_{name}", float(errors.mean()), "ratio", errors.size)
            tokens = values.reshape(1, -1, values.shape[-1])
            numbers, scale = encodings.quantise("int8", tokens, (2,))
            errors = _error(numbers * scale, tokens)
            report.add(f"store.lossy.int8_token.error_{name}", float(errors.mean()), "ratio", errors.size)


def massive(*, frames: int) -> NDArray[np.float32]:
    """`[step, layer, frame, y, x, channel]`: normal values, channels of log-normal size, some of them massive."""
    rng = np.random.default_rng(0)
    size = np.exp(rng.normal(0, 0.5, CHANNELS))
    size[rng.permutation(CHANNELS)[:MASSIVE]] = 500
    return (rng.standard_normal((1, 1, frames, 30, 52, CHANNELS), np.float32) * size).astype(np.float32)


def _stored(acts: store.ActivationStore, values: NDArray[np.float32], encoding: store.Encoding) -> NDArray[Any]:
    """Values `[step, layer, frame, y, x, channel]` after a stay in the store."""
    shape = values.shape
    seed = len(acts.run_ids())
    with acts.begin_run(run(seed), store.Provenance(started="2026-01-01T00:00:00+00:00")) as writer:
        labels = {"step": range(shape[0]), "layer": range(shape[1])}
        writer.add_array(
            "resid_post", "full", dims=AXES, shape=shape, dtype="float32", coords=labels, encoding=encoding
        )
        for step, layer in np.ndindex(shape[:2]):
            writer.write("resid_post", "full", {"step": step, "layer": layer}, values[step, layer])
        writer.set_steps(steps(shape[0]))
        id = writer.commit(1.0)
    return acts.load("resid_post", "full", runs=[id], lazy=False).values[0]


def _error(found: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Relative L2 error of each token."""
    return np.linalg.norm(found - values, axis=-1) / np.linalg.norm(values, axis=-1)


if __name__ == "__main__":
    main(measure, description=__doc__)
