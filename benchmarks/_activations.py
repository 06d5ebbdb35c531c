"""Activations of DiT size with the statistics of the bundled model, for benchmarks of the store.

`tinywan` has 256 channels, 12 × 12 tokens a frame and no more than a few megabytes a layer-step. A frame of a DiT, 30 ×
52 tokens of 5120 channels in bfloat16, is put together from its residual streams: each block of 256 channels is one
layer at one step throughout, and within it each 12 × 12 tile of the token grid is another frame or another generation.
So values, their spread over channels (the largest has 12 times the median's standard deviation), their likeness between
neighbouring tokens, exponents and mantissas are the model's own; no vector occurs twice in a frame, so that a
compressor finds nothing that the model did not make.
"""

from __future__ import annotations

import mmap
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

FRAME: Final = (30, 52, 5120)
"""Tokens down and across, channels: Wan2.2-A14B at 480 × 832."""

FRAMES: Final = 21
GENERATIONS: Final = 3
STEPS: Final = 6


def residuals() -> NDArray[np.uint16]:
    """The bits in bfloat16 of `tinywan`'s residual streams, `[generation, step, layer, frame, y, x, channel]`.

    A process of its own makes them: torch and what it does to memory stay out of what is measured.
    """
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, __file__, folder], check=True)
        return np.load(Path(folder, "residuals.npy"))


def _make(folder: Path) -> None:
    """Capture the residual streams into `folder/residuals.npy`."""
    import interp
    import store

    model = interp.load("tinywan", device="cpu")
    samples = interp.worlds["maze"].generate(GENERATIONS, seed=1)
    spec = store.CaptureSpec(items=(store.CaptureItem(site="resid_post", reduction="full"),))
    acts = store.open(folder / "acts", mode="a")
    interp.capture(model, samples, spec, into=acts, settings=model.settings(steps=STEPS))
    values = acts.load("resid_post", "full", branch="cond", lazy=False).values
    bits = values.astype(np.float32).view(np.uint32)
    np.save(folder / "residuals.npy", ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16))


def cells(count: int, *, frames: int = FRAMES, seed: int = 0) -> list[NDArray[np.uint16]]:
    """Layer-steps of DiT size, the bits of bfloat16 `[frame, y, x, channel]`, each in memory that begins at a page.

    Args:
        count: How many.
        frames: Of each.
        seed: Which residual streams go where.
    """
    source, rng = residuals(), np.random.default_rng(seed)
    made: list[NDArray[np.uint16]] = []
    for _ in range(count):
        cell = aligned((frames, *FRAME))
        for frame in cell:
            _fill(frame, source, rng)
        made.append(cell)
    return made


def aligned(shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """Memory that begins at a page, as pinned memory of a GPU's copies does."""
    nbytes = 2 * int(np.prod(shape))
    return np.frombuffer(mmap.mmap(-1, nbytes), np.uint16).reshape(shape)


def _fill(frame: NDArray[np.uint16], source: NDArray[np.uint16], rng: np.random.Generator) -> None:
    """Put one frame `[y, x, channel]` together."""
    generations, steps, layers, frames, height, width, channels = source.shape
    streams = rng.permutation(steps * layers)[: frame.shape[-1] // channels]
    for block, stream in enumerate(streams):
        step, layer = divmod(int(stream), layers)
        maps = source[:, step, layer].reshape(generations * frames, height, width, channels)
        order = iter(rng.permutation(len(maps)))
        for top in range(0, frame.shape[0], height):
            for left in range(0, frame.shape[1], width):
                target = frame[top : top + height, left : left + width, block * channels : (block + 1) * channels]
                target[...] = maps[next(order), : target.shape[0], : target.shape[1]]


if __name__ == "__main__":
    _make(Path(sys.argv[1]))
