"""Runs of a few kilobytes with values that follow from their seed, for the store's tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from store import (
    ActivationStore,
    CaptureItem,
    CaptureSpec,
    ModelRef,
    Provenance,
    Run,
    RunWriter,
    Sample,
    SampleRecord,
    SamplerSettings,
    StepInfo,
)

PROVENANCE = Provenance(started="2026-01-02T03:04:05+00:00", git_commit="0" * 40, device="cpu", host="here")
FRAMES, SIDE = 3, 4


def run(seed: int = 0, *, sample_id: str = "5a" * 8, steps: int = 2, **changes: Any) -> Run:
    """A run's record; `changes` replace fields."""
    settings = SamplerSettings(steps=steps, guidance=1.0, height=32, width=32, frames=9, scheduler="Euler")
    fields: dict[str, Any] = {
        "model": ModelRef(id="small", weight_hash="f" * 64, pipeline="Pipeline", dtype="float32"),
        "sample_id": sample_id,
        "seed": seed,
        "settings": settings,
        "capture": CaptureSpec(items=(CaptureItem(site="resid_post", reduction="energy"),)),
    }
    return Run(**fields | changes)


def infos(steps: int) -> list[StepInfo]:
    """A straight trajectory; the second expert takes the last step."""
    return [
        StepInfo(
            step=step,
            timestep=1000 * (1 - step / steps),
            sigma=1 - step / steps,
            sigma_next=1 - (step + 1) / steps,
            expert="transformer_2" if step == steps - 1 else "transformer",
            guidance=1.0,
        )
        for step in range(steps)
    ]


def energy(seed: int, *, steps: int = 2, layers: int = 2) -> NDArray[np.float32]:
    """What `write_energy` writes, `[step, branch, layer, frame, y, x]`."""
    shape = (steps, 1, layers, FRAMES, SIDE, SIDE)
    return np.random.default_rng([seed, 7]).random(shape, dtype=np.float32)


def add_energy(writer: RunWriter, *, steps: int = 2, layers: int = 2, **options: Any) -> None:
    """Announce `resid_post/energy`."""
    writer.add_array(
        "resid_post",
        "energy",
        dims=("step", "branch", "layer", "frame", "y", "x"),
        shape=(steps, 1, layers, FRAMES, SIDE, SIDE),
        dtype="float32",
        coords={"step": np.arange(steps), "branch": ["cond"], "layer": np.arange(layers)},
        **options,
    )


def write_energy(writer: RunWriter, seed: int, *, steps: int = 2, layers: int = 2) -> None:
    """Announce and write `resid_post/energy`."""
    add_energy(writer, steps=steps, layers=layers)
    values = energy(seed, steps=steps, layers=layers)
    for step, layer in np.ndindex(steps, layers):
        writer.write("resid_post", "energy", {"step": step, "branch": 0, "layer": layer}, values[step, 0, layer])


def commit(acts: ActivationStore, seed: int = 0, *, steps: int = 2, layers: int = 2, **changes: Any) -> str:
    """Write one complete run; its id."""
    with acts.begin_run(run(seed, steps=steps, **changes), PROVENANCE) as writer:
        write_energy(writer, seed, steps=steps, layers=layers)
        writer.set_steps(infos(steps))
        return writer.commit(1.5)


def sample(seed: int = 0, **fields: Any) -> Sample:
    """A sample with every kind of truth."""
    rng = np.random.default_rng(seed)
    record = {"family": "maze", "prompt": "go", "answers": 2, "labels": {"goal": [1, 2], "far": 0.5}}
    return Sample(
        SampleRecord(**record | fields),
        first_frame=rng.integers(0, 256, (8, 6, 3), dtype=np.uint8),
        video=rng.integers(0, 256, (5, 8, 6, 3), dtype=np.uint8),
        regions=rng.random((2, 5, 8, 6)) > 0.5,
        tracks=rng.random((3, 5, 2), dtype=np.float32),
    )
