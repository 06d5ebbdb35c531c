"""Probes of a whole grid against a loop of scikit-learn's LogisticRegressionCV.

40 layers × 50 steps × 1,000 runs × 1,024 channels, four classes, five outer folds; through the store, controls and
directions included. Activations are made: a decaying spectrum, massive channels, and a label that is written more
clearly from layer to layer. The peer standardises, and chooses among ten penalties in five inner folds, for each outer
fold: the better part of a minute a cell, so it runs on three cells only, and its time for the grid is their mean times
the number of cells. It has all cores for each, as joblib gives them, no control task, no baseline and no store.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from _memory import Peak
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
from _frame import Report, main

CLASSES, FOLDS, MASSIVE = 4, 5, 4


def measure(report: Report, *, quick: bool) -> None:
    """The grid by `analyses.probes`, some of its cells by the peer."""
    layers, count, samples, channels = (2, 2, 60, 32) if quick else (40, 50, 1000, 1024)
    peers = [(0, 0)] if quick else [(0, 2), (20, 25), (39, 47)]
    with tempfile.TemporaryDirectory() as folder:
        made = Made(layers=layers, steps=count, channels=channels)
        acts = made.write(Path(folder) / "acts", samples)
        with Peak() as peak:
            start = time.perf_counter()
            result = analyses.probes(acts, labels="side")
            ours = time.perf_counter() - start
        data = result.to_dataset().load()
        cells = layers * count
        report.add("analyses.probe_grid.seconds", ours, "s", 1)
        report.add("analyses.probe_grid.cell_ms", 1000 * ours / cells, "ms", cells)
        report.add("analyses.probe_grid.extra_mb", peak.extra / 1e6, "MB", 1)
        seconds, differences = [], []
        for layer, step in peers:
            features, truth = made.cell(samples, layer, step)
            start = time.perf_counter()
            hits = peer(features, truth)
            seconds.append(time.perf_counter() - start)
            score = data["score"].sel(label="side", layer=layer, step=step)
            differences.append(float(score) - hits.mean())
            half = stats.norm.ppf(0.975) * hits.std() / np.sqrt(samples)
            inside = abs(differences[-1]) <= max(half, 1 / samples)
            print(
                f"layer {layer}, step {step}: ours {float(score):.3f}, peer {hits.mean():.3f} ± {half:.3f}, {inside}",
                file=sys.stderr,
            )
        report.add("analyses.probe_grid.peer_cell_s", float(np.mean(seconds)), "s", len(peers))
        report.add("analyses.probe_grid.speedup", float(np.mean(seconds)) * cells / ours, "ratio", len(peers))
        report.add("analyses.probe_grid.accuracy_difference", float(np.mean(differences)), "ratio", len(peers))
        report.add("analyses.probe_grid.load", os.getloadavg()[0], "processes", 1)


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
        rng = np.random.default_rng([1, sample])
        shape = (self.steps, self.layers, self.channels)
        clear = 0.3 * np.linspace(0, 1, self.layers, dtype=np.float32)[:, None]
        found = rng.standard_normal(shape, np.float32) * self.spread + clear * self.means[sample % CLASSES]
        found = found @ self.turn
        found[..., self.massive] = 200 + 100 * found[..., self.massive]
        return found

    def cell(self, samples: int, layer: int, step: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """What the peer is given."""
        return np.stack([self.features(at)[step, layer] for at in range(samples)]), np.arange(samples) % CLASSES

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


def peer(features: NDArray[np.float32], truth: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Hits of the loop in the literature: an outer fold at a time."""
    hits = np.empty(len(truth), bool)
    fold = np.random.default_rng(2).permutation(len(truth)) % FOLDS
    with warnings.catch_warnings(), threadpool_limits(1):  # a thread a process: faster than two for each
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", FutureWarning)
        for one in range(FOLDS):
            probe = make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=10, cv=5, n_jobs=os.cpu_count()))
            probe.fit(features[fold != one], truth[fold != one])
            hits[fold == one] = probe.predict(features[fold == one]) == truth[fold == one]
    return hits


if __name__ == "__main__":
    main(measure, description=__doc__)
