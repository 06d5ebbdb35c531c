"""Make `tests/golden/format_1_encodings`, one of the stores that every later stepscope must still read.

`format_1` beside it is older and was made by older code.

Run `python -m tests.golden.make_store FOLDER` for a new format only, and commit what it wrote: a format that was
released is never made again, because a store of today's code proves nothing about yesterday's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import store

STEPS, LAYERS, FRAMES, SIDE = 2, 2, 2, 3
PROVENANCE = store.Provenance(started="2026-01-02T03:04:05+00:00", git_commit="0" * 40, device="cpu", host="golden")
AXES = ("step", "branch", "layer", "frame", "y", "x")


def energy() -> NDArray[np.float32]:
    """`[step, branch, layer, frame, y, x]`: quarters from 0 on, which float32 and bfloat16 hold exactly."""
    shape = (STEPS, 1, LAYERS, FRAMES, SIDE, SIDE)
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 4


def pixels() -> NDArray[np.uint8]:
    """`[frame, y, x, channel]`: 0, 1, 2, …"""
    return np.arange(FRAMES * SIDE * SIDE * 3, dtype=np.uint8).reshape(FRAMES, SIDE, SIDE, 3)


def wide() -> NDArray[np.float32]:
    """`[step, layer, frame, y, x, channel]`: the second channel a hundred times the first, as in a DiT."""
    shape = (STEPS, LAYERS, FRAMES, SIDE, SIDE, 2)
    return (np.arange(np.prod(shape), dtype=np.float32).reshape(shape) - 70) / 8 * np.array([1, 100], np.float32)


def bits() -> NDArray[np.uint16]:
    """`[step, x]` in bfloat16: 1, -2, 0.5, infinity."""
    return np.array([[0x3F80, 0xC000], [0x3F00, 0x7F80]], np.uint16)


def sample() -> store.Sample:
    """A sample with every kind of truth."""
    return store.Sample(
        store.SampleRecord(family="maze", prompt="go home", answers=1, labels={"goal": [1, 2], "word": "ü"}),
        first_frame=pixels()[0],
        video=pixels(),
        regions=pixels()[None, ..., 0] % 2 == 0,
        tracks=np.arange(4, dtype=np.float32).reshape(1, FRAMES, 2) / 2,
    )


def run() -> store.Run:
    """A run with a step of each expert."""
    return store.Run(
        model=store.ModelRef(id="golden", weight_hash="f" * 64, pipeline="Pipeline", dtype="bfloat16"),
        sample_id=sample().id,
        seed=7,
        settings=store.SamplerSettings(steps=STEPS, guidance=3.5, height=24, width=24, frames=5, scheduler="Euler"),
        interventions=({"kind": "NoiseAtStep", "step": 1, "sigma": 0.5},),
        capture=store.CaptureSpec(items=(store.CaptureItem(site="resid_post", reduction="energy"),)),
        parent_id="ab" * 8,
    )


def steps() -> list[store.StepInfo]:
    """Step 10 of `transformer`, step 20 of `transformer_2`: labels that are no positions."""
    return [
        store.StepInfo(step=10, timestep=900.0, sigma=0.75, sigma_next=0.25, expert="transformer", guidance=3.5),
        store.StepInfo(step=20, timestep=300.0, sigma=0.25, sigma_next=0.0, expert="transformer_2", guidance=3.0),
    ]


def scores() -> tuple[store.Score, ...]:
    """One of a step, one of the finished video."""
    return (
        store.Score(scorer="maze", metric="answer", value=0.5, step=20),
        store.Score(scorer="maze", metric="answer", value=1.0),
    )


def record() -> store.ResultRecord:
    """A result over the run."""
    return store.ResultRecord(
        analysis="energy",
        params={"site": "resid_post"},
        run_ids=(run().id,),
        verdict="descriptive",
        finding="Energy rises (n = 1).",
        n=1,
        summary={"rise": 1.5},
    )


def data() -> xr.Dataset:
    """The numbers of the result, text among them."""
    return xr.Dataset(
        {"energy": (("layer", "expert"), [[0.0, 1.0], [2.0, 3.0]])},
        coords={"layer": [4, 9], "expert": ["transformer", "transformer_2"]},
        attrs={"title": "golden"},
    )


def write_run(acts: store.ActivationStore) -> str:
    """A file for each cell, several cells in a file, blosc, zstd, pixels, bfloat16 and both lossy encodings."""
    values, labels = energy(), {"step": [10, 20], "branch": ["cond"], "layer": [4, 9]}
    options: dict[str, Any] = {"dims": AXES, "shape": values.shape, "dtype": "float32", "coords": labels}
    with acts.begin_run(run(), PROVENANCE) as writer:
        writer.add_array("resid_post", "energy", **options, attrs={"units": "1"})
        for step, layer in np.ndindex(STEPS, LAYERS):
            cell = {"step": step, "branch": 0, "layer": layer}
            writer.write("resid_post", "energy", cell, values[step, 0, layer])
        writer.add_array("attn_out", "energy", **options, files_along=("step",), profile="compact")
        for step in range(STEPS):
            writer.write("attn_out", "energy", {"step": step}, values[step])
        writer.add_array(
            "latent", "full", dims=("step", "x"), shape=(STEPS, 2), dtype="bfloat16", coords={"step": [10, 20]}
        )
        for step in range(STEPS):
            writer.write("latent", "full", {"step": step}, bits()[step])
        lossy = {"dims": ("step", "layer", "frame", "y", "x", "channel"), "shape": wide().shape, "dtype": "float32"}
        lossy["coords"] = {"step": [10, 20], "layer": [4, 9]}
        writer.add_array("mlp_out", "full", **lossy, encoding="int8")
        writer.add_array("q", "full", **lossy, encoding="float8", profile="compact")
        for step, layer in np.ndindex(STEPS, LAYERS):
            for site in ("mlp_out", "q"):
                writer.write(site, "full", {"step": step, "layer": layer}, wide()[step, layer])
        writer.add_array(
            "output",
            "pixels",
            dims=("frame", "y", "x", "channel"),
            shape=pixels().shape,
            dtype="uint8",
            coords={},
            files_along=(),
        )
        writer.write("output", "pixels", {}, pixels())
        writer.set_steps(steps())
        writer.add_scores(scores())
        return writer.commit(1.5)


def main(folder: Path) -> None:
    """Write the store into the new folder `folder`."""
    acts = store.open(folder, mode="a")
    acts.put_sample(sample())
    write_run(acts)
    acts.save_result(record(), data(), PROVENANCE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
