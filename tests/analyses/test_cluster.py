"""Every analysis gives the same answer on a dask cluster, whose workers are other processes, as without one."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import pytest
import xarray as xr

import analyses
import store
from tests.analyses.contract import AnalysisContract

HERE = Path(__file__).parent
HERE_ONLY = ("features",)
"""What trains on one block of tokens after another reads each in the process that trains."""


def _planted() -> dict[str, Any]:
    """What the contract test of each analysis plants."""
    modules = [importlib.import_module(f"tests.analyses.{path.stem}") for path in sorted(HERE.glob("test_*.py"))]
    kinds = [
        one
        for module in modules
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, AnalysisContract) and one is not AnalysisContract
    ]
    return {one.name: one.planted for one in kinds}


@pytest.fixture(scope="session")
def client() -> Iterator[distributed.Client]:
    """Two workers, each a process, that everything lazy goes to."""
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as started,
    ):
        yield started


@pytest.mark.parametrize("name", analyses.names())
def test_a_cluster_gives_the_same_answer(name: str, client: distributed.Client, tmp_path: Path) -> None:
    acts = store.open(_planted()[name].plant(tmp_path / "acts").path)  # for reading only: everything is computed
    alone = analyses.run(name, acts)
    with client.as_current(), distributed.get_task_stream(client) as tasks:
        spread = analyses.run(name, acts)
    assert bool(tasks.data) == (name not in HERE_ONLY)
    assert spread.record == alone.record
    xr.testing.assert_identical(spread.to_dataset().compute(), alone.to_dataset().compute())


def test_all_analyses_are_there() -> None:
    assert sorted(_planted()) == analyses.names()
