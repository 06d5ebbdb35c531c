"""What batches save: runs an hour of tinywan captured one by one, and 32 in one call of the pipeline.

`--device` picks where (`cuda` if there is a GPU, else `cpu`). On a GPU a run has the model's own steps and guidance, as
in an experiment; on a CPU, where a batch saves little, two steps without guidance. Both ways are captured until all
runs are visible in the store: with the default spec, and with x̂0 of each step decoded, stored and scored.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from functools import partial
from pathlib import Path

import torch

import interp
import store
from _frame import Report, interleaved, main

BATCH = 32
BATCHES = {"cuda": 4, "cpu": 1}
"""In a sweep, so that one is completed while the next is generated."""
ALONE = {"cuda": 16, "cpu": 8}
"""Runs of the sweep that is made one by one."""
ROUNDS = 3


def measure(report: Report, *, quick: bool, device: str) -> None:
    """Time sweeps of both kinds in turns; a figure is that of a single run."""
    model = interp.load("tinywan", device=device)
    kind = "gpu" if device.startswith("cuda") else "cpu"
    place = "cuda" if kind == "gpu" else "cpu"
    sampler = {} if kind == "gpu" and not quick else {"steps": 2, "guidance": 1.0}
    settings = model.settings(**sampler)
    batch = 4 if quick else BATCH
    counts = {"one_by_one": ALONE[place], "batched": batch * BATCHES[place]}
    if quick:
        counts["one_by_one"] = 2
    seeds = itertools.count()
    samples = interp.worlds["maze"].generate(1, seed=1)
    specs = {"default": interp.DEFAULT, "pixels": interp.WITH_PIXELS}
    with tempfile.TemporaryDirectory() as folder:
        acts = store.open(Path(folder) / "acts", mode="a")

        def sweep(way: str, spec: str) -> None:
            done = interp.capture(
                model,
                samples,
                specs[spec],
                into=acts,
                seeds=list(itertools.islice(seeds, counts[way])),
                settings=settings,
                batch=batch if way == "batched" else 1,
            )
            assert done.made == counts[way]

        cases = {f"{way}.{spec}": partial(sweep, way, spec) for spec in specs for way in counts}
        seconds = interleaved(cases, rounds=1 if quick else ROUNDS)
    for spec in specs:
        each = {way: seconds[f"{way}.{spec}"] / count for way, count in counts.items()}
        for way, taken in each.items():
            report.add_median(f"batches.{kind}.{spec}.{way}", 3600 / taken, "runs/h")
        report.add_ratio(f"batches.{kind}.{spec}.gain", each["one_by_one"], each["batched"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen, others = parser.parse_known_args()
    main(partial(measure, device=chosen.device), description=__doc__, argv=others)
