"""A result of every registered analysis and experiment, of planted runs, together in one store."""

from __future__ import annotations

import dataclasses
import importlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import analyses
import store
from analyses import Result, experiments
from tests.analyses.contract import AnalysisContract
from tests.analyses.experiments import (
    test_attribution,
    test_early_selection,
    test_ensemble,
    test_frames,
    test_noise,
    test_propagation,
    test_steps,
)
from tests.planted import Planted
from tests.planted_arms import FRAMES
from tests.planted_exchange import Exchanged

PLANS: dict[str, Planted] = {
    "energy": Planted(noise=0.02, size=32, switch_step=2),
    "exploration": Planted(noise=0.02, size=32),
    "trajectory": Planted(noise=0.02, size=32, wrong=(1,)),
}
"""Instead of the plan of the analysis' own tests, of which one seed is enough."""


def results(folder: Path) -> tuple[store.ActivationStore, list[Result]]:
    """A store with the runs of all plans, and a result of each registered analysis and experiment."""
    together = folder / "together"
    ids: list[str] = []
    for name, make in _makers():
        result = make(folder / name)
        shutil.copytree(folder / name, together, dirs_exist_ok=True)  # files are named by their content
        ids.append(result.id)
    acts = store.open(together)
    return acts, [analyses.load(acts, id) for id in ids]


def _makers() -> Iterator[tuple[str, Callable[[Path], Result]]]:
    contracts = {one.name: one for one in _contracts()}
    for name in analyses.names():
        plan = PLANS.get(name, dataclasses.replace(contracts[name].planted, seeds=(0,)))
        yield name, lambda path, name=name, plan=plan: analyses.run(name, plan.plant(path))
    for name in experiments.names():
        yield name, EXPERIMENTS[name]


def _contracts() -> list[type[AnalysisContract]]:
    for name in analyses.names():
        importlib.import_module(f"tests.analyses.test_{name}")
    return AnalysisContract.__subclasses__()


def _attribution(path: Path) -> Result:
    planted, few = test_attribution.PLANTED, test_attribution.FEW
    patched = planted.plant(path.with_name("patched"), few, test_attribution.middle).path
    return few.compare(test_attribution.plant(patched, path))


def _early_selection(path: Path) -> Result:
    return experiments.EarlySelection().compare(test_early_selection.plant(path, samples=3))


def _ensemble(path: Path) -> Result:
    return experiments.Ensemble().compare(test_ensemble.plant(path, samples=2))


def _frames(path: Path) -> Result:
    curves = {FRAMES: np.full(3, 0.9), 2: np.full(3, 0.2), 5: np.array([0.5, 0.6, 0.7])}
    return experiments.Frames().compare(test_frames.plant(path, curves))


def _noise(path: Path) -> Result:
    return test_noise.FEW.compare(test_noise.plant(path, step=(0,)))


def _patch(path: Path) -> Result:
    few = experiments.Patch(sites=("resid_post", "mlp_out"), parts=("target",), windows=((0, 3),))
    return few.compare(Exchanged(units=2).plant(path, few))


def _propagation(path: Path) -> Result:
    return test_propagation.FEW.compare(test_propagation.plant(path, lambda labels, step: 1.0, samples=2))


def _steps(path: Path) -> Result:
    return experiments.Steps().compare(test_steps.plant(path, samples=2))


def _swap(path: Path) -> Result:
    few = experiments.Swap(layers=(0, 3), windows=((0, 0), (0, 3)))
    return few.compare(Exchanged(units=2).plant(path, few))


def _windows(path: Path) -> Result:
    few = experiments.Windows(layer_blocks=2, step_blocks=2)
    return few.compare(Exchanged(units=2, ambiguous=True, seeds=(0, 1)).plant(path, few))


EXPERIMENTS: dict[str, Callable[[Path], Result]] = {
    "attribution": _attribution,
    "early-selection": _early_selection,
    "ensemble": _ensemble,
    "frames": _frames,
    "noise": _noise,
    "patch": _patch,
    "propagation": _propagation,
    "steps": _steps,
    "swap": _swap,
    "windows": _windows,
}
