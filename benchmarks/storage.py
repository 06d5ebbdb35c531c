"""What the store's own writer and readers are worth, beside the disk itself, zarr-python and tensorstore.

The data are layer-steps of DiT size made from the bundled model's own activations (see `_activations.py`). Everything
is written to be durable (`fsync`). Not called `store.py`, because scripts of this folder would then import it in place
of the package. STEPSCOPE_BENCH_DIR chooses the disk, STEPSCOPE_BENCH_PARTS=reads (or writes) leaves out the rest.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import _store_reads
import _store_writes
from _activations import FRAMES, cells

from _frame import Report, main

STEPS, LAYERS = 2, 2
ROUNDS = 7


def measure(report: Report, *, quick: bool) -> None:
    """Write, then read."""
    parts = os.environ.get("STEPSCOPE_BENCH_PARTS", "writes reads").split()
    if unknown := set(parts) - {"writes", "reads"}:
        raise SystemExit(f"STEPSCOPE_BENCH_PARTS are writes and reads, not {', '.join(sorted(unknown))}")
    made = cells(1 if quick else STEPS * LAYERS, frames=2 if quick else FRAMES)
    with tempfile.TemporaryDirectory(dir=os.environ.get("STEPSCOPE_BENCH_DIR")) as name:
        options = {"layers": 1 if quick else LAYERS, "rounds": 1 if quick else ROUNDS}
        if "writes" in parts:
            _store_writes.measure(report, Path(name, "writes"), made, **options)
        if "reads" in parts:
            _store_reads.measure(report, Path(name, "reads"), made, **options)


if __name__ == "__main__":
    main(measure, description=__doc__)
