"""Runs an hour on two GPUs against one: sweeps of tinywan by `executor="gpus"`, the default spec, 20 steps.

A sweep is a process of its own that sees one GPU or two. Its rate is that of the runs that became visible in the store
while every worker had something to do, from when each had made its first to when one of them could have made its last:
what workers need to start, and the last runs of a sweep, are left out. Rates of whole sweeps are printed too.
STEPSCOPE_BENCH_DIR chooses the disk.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import interp
from _frame import Report, main

EACH = 16
"""Runs for each GPU."""
ROUNDS = 2


class Rate(NamedTuple):
    """Runs a second."""

    steady: float
    whole: float
    """Of the whole sweep, with what it takes to start."""


def measure(report: Report, *, quick: bool) -> None:
    """Sweeps in turns; without two GPUs there is nothing to compare."""
    there = torch.cuda.device_count()
    if there < 2:
        raise SystemExit(f"two GPUs are compared with one, but this machine has {there}")
    rates: dict[int, list[Rate]] = {1: [], 2: []}
    for _ in range(1 if quick else ROUNDS):
        for count, found in rates.items():
            found.append(_rate(count, runs=count * (4 if quick else EACH)))
    one, two = (np.array(rates[count]) for count in (1, 2))
    report.add_median("capture.gpus.one.runs_per_hour", one[:, 0] * 3600, "runs/h")
    report.add_ratio("capture.gpus.two.ratio_one", two[:, 0], one[:, 0])
    report.add_ratio("capture.gpus.two_with_start.ratio_one", two[:, 1], one[:, 1])


def _rate(count: int, *, runs: int) -> Rate:
    """A sweep on `count` GPUs."""
    visible = ",".join(str(number) for number in range(count))
    with tempfile.TemporaryDirectory(dir=os.environ.get("STEPSCOPE_BENCH_DIR")) as name:
        started = time.time()
        subprocess.run(
            [sys.executable, __file__, "--sweep", name, str(runs)],
            env=os.environ | {"CUDA_VISIBLE_DEVICES": visible},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        ends = np.sort([path.stat().st_mtime for path in Path(name, "manifests", "runs").glob("*.parquet")])
    assert len(ends) == runs
    return Rate((runs - 2 * count + 1) / (ends[-count] - ends[count - 1]), runs / (ends[-1] - started))


def _sweep(folder: str, runs: int) -> None:
    """What a process of its own does."""
    model = interp.load("tinywan", device="cuda")
    sample = interp.worlds["maze"].generate(1, seed=1)[0]
    done = interp.capture(model, [sample], interp.DEFAULT, into=folder, seeds=range(runs), executor="gpus")
    print(json.dumps(done.made))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--sweep"]:
        _sweep(sys.argv[2], int(sys.argv[3]))
    else:
        main(measure, description=__doc__)
