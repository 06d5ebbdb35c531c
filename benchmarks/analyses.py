"""Offline analyses at size: a grid of probes against a loop of scikit-learn's, energies against reading the same files.

**Probes.** The grid in question has 40 layers × 50 steps × 1,000 runs × 1,024 channels, four classes, five outer folds.
Neither side runs it whole here: the peer would take a day. The store holds all layers of five steps; a round is one
step, in which we probe all its layers, from the store, with controls, the prompt's baseline and directions, and the
peer fits two of the five outer folds of one cell, both drawn by lot. Its time is scaled by 5/2 to a cell, `sampled` in
the names of its figures, ours by 50 to the grid. So both have a time a cell in each round, and `speedup` is the ratio
of their medians with its bootstrap interval over rounds; a cell costs the same in every step and layer, since its
shape does. What we do once a call (the baseline, the index) is part of ours in every round, so that the whole grid is,
if anything, quicker. Accuracy is compared on the peer's folds together, cell by cell.
The peer, LogisticRegressionCV with ten penalties in five inner folds for each outer fold, standardises, has all cores,
as joblib gives them, and no controls, no baseline and no store.

Activations are made: a decaying spectrum, massive channels, and a label that is written more clearly from layer to
layer.

**Energies.** The time to read the same arrays into memory over the time of `analyses.energy`, of the reduction `energy`
(raw) and of whole tokens (all four kinds): from the disk, as activations that are larger than the memory are read, and
from the page cache.

STEPSCOPE_BENCH_PARTS=probes (or energies) leaves out the rest.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.append(sys.path.pop(0))  # this file is called as the package is: its folder comes last

import numpy as np
from _memory import Peak, forget
from _store_writes import run, steps
from numpy.typing import NDArray
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import analyses
import store
from _frame import Report, interleaved, main

CLASSES, FOLDS, MASSIVE = 4, 5, 4
PEER_FOLDS = 2
"""Outer folds that the peer is timed on in each round."""
GRID = 40 * 50
"""Cells of the grid that the figures speak of."""


def measure(report: Report, *, quick: bool) -> None:
    """Probes, then energies."""
    parts = os.environ.get("STEPSCOPE_BENCH_PARTS", "probes energies").split()
    if unknown := set(parts) - {"probes", "energies"}:
        raise SystemExit(f"STEPSCOPE_BENCH_PARTS are probes and energies, not {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        if "probes" in parts:
            probes(report, Path(folder) / "probes", quick=quick)
    for reduction in ("energy", "full") if "energies" in parts else ():
        with tempfile.TemporaryDirectory() as folder:
            energies(report, Path(folder), reduction, quick=quick)
    report.add("analyses.load", os.getloadavg()[0], "processes", 1)


def probes(report: Report, folder: Path, *, quick: bool) -> None:
    """A step of the grid by `analyses.probes`, a cell of it by the peer, in turns."""
    layers, rounds, samples, channels = (2, 2, 60, 32) if quick else (40, 5, 1000, 1024)
    made = Made(layers=layers, steps=rounds, channels=channels)
    made.write(folder, samples)
    acts = store.open(folder)  # for reading only: nothing is kept, so nothing is looked up
    rng = np.random.default_rng(3)
    mine, others, differences, extra = [], [], [], []
    for step in range(rounds):
        with Peak() as peak:
            start = time.perf_counter()
            result = analyses.probes(acts, labels="side", steps=[step])
            mine.append((time.perf_counter() - start) / layers)
        extra.append(peak.extra)
        layer = int(rng.integers(layers))
        features, truth = made.cell(samples, layer, step)
        folds = rng.choice(FOLDS, PEER_FOLDS, replace=False).tolist()
        start = time.perf_counter()
        hits = peer(features, truth, folds)
        others.append((time.perf_counter() - start) * FOLDS / PEER_FOLDS)
        score = float(result.to_dataset()["score"].sel(label="side", layer=layer, step=step))
        half = stats.norm.ppf(0.975) * hits.std() / np.sqrt(len(hits))
        differences.append(score - hits.mean())
        inside = abs(differences[-1]) <= max(half, 1 / len(hits))
        print(
            f"layer {layer}, step {step}: ours {score:.3f}, peer {hits.mean():.3f} ± {half:.3f}, {inside}",
            file=sys.stderr,
        )
    report.add_median("analyses.probe_grid.cell_ms", [1000 * one for one in mine], "ms")
    report.add_median("analyses.probe_grid.peer_sampled_cell_s", others)
    report.add("analyses.probe_grid.peer_sampled_share", rounds * PEER_FOLDS / (FOLDS * GRID), "ratio", rounds)
    report.add_ratio("analyses.probe_grid.speedup", others, mine)
    report.add_median("analyses.probe_grid.seconds", [GRID * one for one in mine])
    report.add("analyses.probe_grid.extra_mb", max(extra) / 1e6, "MB", rounds)
    report.add("analyses.probe_grid.accuracy_difference", float(np.mean(differences)), "ratio", rounds)
    error = stats.sem(differences) * stats.t.ppf(0.975, rounds - 1)
    report.add("analyses.probe_grid.accuracy_difference_half", float(error), "ratio", rounds)


def energies(report: Report, folder: Path, reduction: str, *, quick: bool) -> None:
    """Reading an array into memory, and the energies of the same tokens, in turns."""
    samples, count, layers, grid, channels = (2, 2, 2, (2, 4, 4), 16) if quick else (3, 20, 40, (21, 30, 52), 1)
    if reduction == "full" and not quick:  # of a smaller model, so that it fits into the page cache
        samples, count, layers, grid, channels = 2, 3, 3, (13, 20, 26), 1536
    axes = ("frame", "y", "x", "channel") if reduction == "full" else ("frame", "y", "x")
    shape = (*grid, channels) if reduction == "full" else grid
    _tokens(folder, reduction, axes, samples=samples, sizes=(count, layers), shape=shape)
    acts = store.open(folder)
    runs = acts.run_ids()

    def read() -> None:
        for id in runs:
            acts.load("resid_post", reduction, runs=[id], lazy=False)

    files = [path for path in folder.rglob("c.*") if path.is_file()]
    forgetting: dict[str, Callable[[str], None]] = {"disk": lambda _: forget(files), "cache": lambda _: None}
    name = {"energy": "raw", "full": "kinds"}[reduction]
    nbytes = 4 * samples * count * layers * int(np.prod(shape))
    for of, after in forgetting.items():
        cases = {"read": read, "energy": lambda: analyses.energy(acts)}
        seconds = interleaved(cases, rounds=2 if quick else 7, after=after)
        report.add_median(f"analyses.energy.{name}.{of}.mb_s", nbytes / 1e6 / seconds["energy"], "MB/s")
        report.add_ratio(f"analyses.energy.{name}.{of}.ratio_read", seconds["read"], seconds["energy"])


def _tokens(
    folder: Path, reduction: str, axes: tuple[str, ...], *, samples: int, sizes: tuple[int, int], shape: tuple[int, ...]
) -> None:
    """A store of runs with one array of positive float32."""
    acts = store.open(folder, mode="a")
    rng = np.random.default_rng(4)
    labels: dict[str, Any] = {"step": np.arange(sizes[0]), "branch": np.array(["cond"]), "layer": np.arange(sizes[1])}
    for at in range(samples):
        frame = np.full((2, 2, 3), at, np.uint8)
        id = acts.put_sample(store.Sample(store.SampleRecord(family="made", prompt=f"made {at}"), first_frame=frame))
        began = run(0).model_copy(update={"sample_id": id})
        with acts.begin_run(began, store.Provenance(started="2026-01-01T00:00:00+00:00")) as writer:
            whole = (sizes[0], 1, sizes[1], *shape)
            writer.add_array(
                "resid_post", reduction, dims=(*labels, *axes), shape=whole, dtype="float32", coords=labels
            )
            for step, layer in np.ndindex(*sizes):
                values = rng.random(shape, np.float32) + 0.5
                writer.write("resid_post", reduction, {"step": step, "branch": 0, "layer": layer}, values)
            writer.set_steps(steps(sizes[0]))
            writer.commit(1.0)


class Made:
    """Activations of samples in which `side` is written, more clearly in later layers."""

    def __init__(self, *, layers: int, steps: int, channels: int) -> None:
        rng = np.random.default_rng(0)
        self.layers, self.steps, self.channels = layers, steps, channels
        self.spread = np.exp(-4 * np.arange(channels) / channels).astype(np.float32)
        self.means = rng.standard_normal((CLASSES, channels)).astype(np.float32) * self.spread
        self.turn = np.linalg.qr(rng.standard_normal((channels, channels)))[0].astype(np.float32)
        self.massive = rng.permutation(channels)[:MASSIVE]

    def features(self, sample: int) -> NDArray[np.float32]:
        """`[step, layer, channel]`."""
        return self._turned(self._drawn(sample))

    def _drawn(self, sample: int) -> NDArray[np.float32]:
        rng = np.random.default_rng([1, sample])
        shape = (self.steps, self.layers, self.channels)
        clear = 0.3 * np.linspace(0, 1, self.layers, dtype=np.float32)[:, None]
        return rng.standard_normal(shape, np.float32) * self.spread + clear * self.means[sample % CLASSES]

    def _turned(self, drawn: NDArray[np.float32]) -> NDArray[np.float32]:
        """Spread over all channels, a few of them massive."""
        found = drawn @ self.turn
        found[..., self.massive] = 200 + 100 * found[..., self.massive]
        return found

    def cell(self, samples: int, layer: int, step: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """What the peer is given."""
        drawn = np.stack([self._drawn(at)[step, layer] for at in range(samples)])
        return self._turned(drawn), np.arange(samples) % CLASSES

    def write(self, folder: Path, samples: int) -> store.ActivationStore:
        """A store with the features as `resid_post/token_mean`."""
        acts = store.open(folder, mode="a")
        labels = {"step": np.arange(self.steps), "branch": np.array(["cond"]), "layer": np.arange(self.layers)}
        for at in range(samples):
            frame = np.zeros((2, 2, 3), np.uint8)
            record = store.SampleRecord(family="made", prompt=f"made {at}", labels={"side": "abcd"[at % CLASSES]})
            id = acts.put_sample(store.Sample(record, first_frame=frame))
            values = self.features(at)
            began = run(0).model_copy(update={"sample_id": id})
            with acts.begin_run(began, store.Provenance(started="2026-01-01T00:00:00+00:00")) as writer:
                shape = (self.steps, 1, self.layers, self.channels)
                axes = ("step", "branch", "layer", "channel")
                writer.add_array(
                    "resid_post",
                    "token_mean",
                    dims=axes,
                    shape=shape,
                    dtype="float32",
                    coords=labels,
                    files_along=("step",),
                )
                for step in range(self.steps):  # a file a step, as a capture writes means
                    writer.write("resid_post", "token_mean", {"step": step}, values[step, None])
                writer.set_steps(steps(self.steps))
                writer.commit(1.0)
        return acts


def peer(features: NDArray[np.float32], truth: NDArray[np.int64], folds: Sequence[int]) -> NDArray[np.bool_]:
    """Hits of the loop in the literature, an outer fold at a time, in some of these folds."""
    hits: list[NDArray[np.bool_]] = []
    fold = np.random.default_rng(2).permutation(len(truth)) % FOLDS
    with warnings.catch_warnings(), threadpool_limits(1):  # a thread a process: faster than two for each
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", FutureWarning)
        for one in folds:
            probe = make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=10, cv=5, n_jobs=os.cpu_count()))
            probe.fit(features[fold != one], truth[fold != one])
            hits.append(probe.predict(features[fold == one]) == truth[fold == one])
    return np.concatenate(hits)


if __name__ == "__main__":
    main(measure, description=__doc__)
