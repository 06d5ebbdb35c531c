"""What the index costs: 10,000 runs with 5,000 rows of statistics each, open, asked, and grown by one run.

The runs' manifests are those of `RunWriter`, with statistics of arrays that are not there. Times are those of a user
who asks, the look at the folder of manifests included.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
from _store_writes import run, steps

import store
from _frame import Report, interleaved, main
from store import manifest
from store.token_stats import TokenStats

RUNS: Final = 10_000
STEPS, LAYERS, FRAMES = 50, 20, 5
"""5,000 rows of `token_stats` a run."""

GROUP = "SELECT layer, step, avg(mean), max(max) FROM token_stats GROUP BY layer, step"
POINT = "SELECT mean FROM token_stats WHERE run_id = ? AND step = 7 AND layer = 3 AND frame = 1"
ROUNDS: Final = 9


def measure(report: Report, *, quick: bool) -> None:
    """Make a small and a large store, and ask."""
    count = 300 if quick else RUNS
    with tempfile.TemporaryDirectory(dir=os.environ.get("STEPSCOPE_BENCH_DIR")) as name:
        small, large = (_store(Path(name, size), number) for size, number in (("small", 10), ("large", count)))
        made = interleaved({"made": lambda: large.sql("SELECT 1").fetchall()}, rounds=1, warmups=0)
        report.add_median("store.index.build_s", made["made"])
        small.sql("SELECT 1").fetchall()
        _queries(report, large, rounds=3 if quick else ROUNDS)
        _growth(report, small, large, rounds=3 if quick else 5 * ROUNDS)  # a hiccup of the disk is longer than these


def _queries(report: Report, acts: store.ActivationStore, *, rounds: int) -> None:
    ids = itertools.cycle(acts.run_ids()[:: max(1, len(acts.run_ids()) // 50)])
    cases: dict[str, Callable[[], object]] = {
        "open": lambda: store.open(acts.path).sql("SELECT count(*) FROM runs").fetchall(),
        "group_by": lambda: acts.sql(GROUP).fetchall(),
        "point": lambda: acts.sql(POINT, [next(ids)]).fetchall(),
        "run": lambda: acts.sql("SELECT seed FROM runs WHERE run_id = ?", [next(ids)]).fetchall(),
    }
    rows = acts.sql("SELECT count(*) FROM token_stats").fetchall()[0][0]
    report.add("store.index.rows", rows, "rows", 1)
    for name, seconds in interleaved(cases, rounds=rounds).items():
        report.add_median(f"store.index.{name}_s", seconds)


def _growth(report: Report, small: store.ActivationStore, large: store.ActivationStore, *, rounds: int) -> None:
    """One more run: to commit it, and to see it."""
    seeds = itertools.count(1_000_000)
    cases: dict[str, Callable[[], object]] = {}
    for name, acts in (("small", small), ("large", large)):

        def commit(acts: store.ActivationStore = acts) -> None:
            writer = acts.begin_run(run(next(seeds)), store.Provenance(started="2026-01-01T00:00:00+00:00"))
            writer.set_steps(steps(STEPS))
            writer.commit(1.0)

        def see(acts: store.ActivationStore = acts) -> None:
            acts.sql("SELECT max(seed) FROM runs").fetchall()

        cases |= {f"commit_{name}": commit, f"see_{name}": see}
    seconds = interleaved(cases, rounds=rounds)
    for what in ("commit", "see"):
        report.add_median(f"store.index.{what}_s", seconds[f"{what}_large"])
        report.add_ratio(f"store.index.{what}.ratio_small", seconds[f"{what}_large"], seconds[f"{what}_small"])


def _store(path: Path, count: int) -> store.ActivationStore:
    """A store of so many runs with statistics, and nothing else."""
    acts = store.open(path, mode="a")
    rng = np.random.default_rng(0)
    for seed in range(count):
        with acts.begin_run(run(seed), store.Provenance(started="2026-01-01T00:00:00+00:00")) as writer:
            writer.set_steps(steps(STEPS))
            row = {**writer._row(1.0), "token_stats": manifest.stats_column(list(_statistics(rng)))}
        (path / "manifests" / "runs" / f"{writer.id}.parquet").write_bytes(manifest.encode("runs", row))
    return acts


def _statistics(rng: np.random.Generator) -> Iterator[TokenStats]:
    frames = np.arange(FRAMES)
    for step in range(STEPS):
        energy = rng.gamma(3, 10, (LAYERS, FRAMES))
        for layer, mean in enumerate(energy):
            yield TokenStats("resid_post", "cond", step, layer, frames, mean, mean / 3, mean * 3, mean * 2)


if __name__ == "__main__":
    main(measure, description=__doc__)
