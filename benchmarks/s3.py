"""Memory that a writer to object storage takes: a layer-step of DiT size (335 MB), uploaded to a real S3 server.

The server (SeaweedFS) is another process of this machine, so that no seconds are given: they would be its own.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _activations import FRAMES, cells
from _memory import Peak

import store
from _frame import Report, main
from tests import s3_server
from tests.store import small

ROUNDS = 3
CASES: dict[str, dict[str, Any]] = {
    "fast": {"profile": "fast"},
    "compact": {"profile": "compact"},
    "int8": {"encoding": "int8"},
}


def measure(report: Report, *, quick: bool) -> None:
    """Upload with each profile, and report the most memory of any round."""
    (block,) = cells(1, frames=2 if quick else FRAMES)
    with tempfile.TemporaryDirectory() as name, s3_server.running(Path(name, "server")) as endpoint:
        os.environ.update(s3_server.environment(endpoint, Path(name, "cache")))
        for case, options in CASES.items():
            acts = store.open(f"s3://{s3_server.BUCKET}/{case}", mode="a")
            extra = [_upload(acts, block, seed, options) for seed in range(1 if quick else ROUNDS)]
            report.add(f"store.s3.write.{case}.memory", max(extra) / 1e6, "MB", len(extra))


def _upload(acts: store.ActivationStore, block: np.ndarray[Any, Any], seed: int, options: dict[str, Any]) -> int:
    """Bytes beyond what was resident before."""
    with Peak() as peak, acts.begin_run(small.run(seed), small.PROVENANCE) as writer:
        writer.add_array(
            "resid_post",
            "full",
            dims=("step", "layer", "frame", "y", "x", "channel"),
            shape=(1, 1, *block.shape),
            dtype="bfloat16",
            coords={"step": [0], "layer": [0]},
            files_along=("step", "layer"),
            **options,
        )
        writer.write("resid_post", "full", {"step": 0, "layer": 0}, block)
        writer.set_steps(small.infos(1))
        writer.commit(1.0)
    return peak.extra


if __name__ == "__main__":
    main(measure, description=__doc__)
