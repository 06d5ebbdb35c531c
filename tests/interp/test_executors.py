"""Sweeps on dask's workers: the same numbers as in one process, a dead worker's run made again, and clear refusals."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import pytest
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

import interp
from interp import executors
from interp.interventions import Donor, NoiseAtStep, Patch
from interp.worlds import worlds
from store import ActivationStore
from store import open as open_store

SPEC = interp.parse(["resid_post/energy@layers=0,11", "latent/full@steps=0"])


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    """Two workers, each a process of its own under a nanny that starts it again."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as started:
        yield started


def sweep(
    into: Path, executor: str, *, name: str | Path = "tinywan", batch: int = 1, **more: Any
) -> tuple[interp.Captured, ActivationStore]:
    model = interp.load(name, device="cpu")
    acts = open_store(into, mode="a")
    settings = model.settings(**({"steps": 2, "guidance": 1.0} | more))
    samples = worlds["grounding"].generate(2, seed=4)
    how: dict[str, Any] = {"into": acts, "seeds": (0, 1), "settings": settings, "executor": executor, "batch": batch}
    return interp.capture(model, samples, SPEC, **how), acts


def test_workers_make_what_one_process_makes(
    tmp_path: Path, thin_model: Path, cluster: distributed.LocalCluster
) -> None:
    here, alone = sweep(tmp_path / "alone", "local", name=thin_model)
    there, spread = sweep(tmp_path / "spread", f"dask:{cluster.scheduler_address}", name=thin_model)
    assert there == here
    assert (there.made, there.reused) == (4, 0)
    for site, reduction in (("resid_post", "energy"), ("latent", "full"), ("output", "pixels")):
        one, other = (acts.load(site, reduction, lazy=False).sortby("run") for acts in (alone, spread))
        assert one.size > 0
        assert one.equals(other)
    scores = "SELECT run_id, metric, step, value FROM scores ORDER BY ALL"
    assert alone.sql(scores).fetchall() == spread.sql(scores).fetchall()
    again, _ = sweep(tmp_path / "spread", f"dask:{cluster.scheduler_address}", name=thin_model)
    assert (again.made, again.reused) == (0, 4)


def test_workers_make_batches_as_one_process_does(
    tmp_path: Path, thin_model: Path, cluster: distributed.LocalCluster
) -> None:
    """But for rounding: another number of threads multiplies the matrices of a batch in another order."""
    here, alone = sweep(tmp_path / "alone", "local", name=thin_model, batch=3)
    there, spread = sweep(tmp_path / "spread", f"dask:{cluster.scheduler_address}", name=thin_model, batch=3)
    assert there == here
    assert (there.made, there.reused) == (4, 0)
    for site, reduction, near in (("resid_post", "energy", 1e-3), ("output", "pixels", 1)):
        one, other = (acts.load(site, reduction, lazy=False).sortby("run").astype(float) for acts in (alone, spread))
        assert one.run.equals(other.run)
        assert float(abs(one - other).max()) <= near
    again, _ = sweep(tmp_path / "spread", f"dask:{cluster.scheduler_address}", name=thin_model, batch=2, steps=2)
    assert (again.made, again.reused) == (0, 4)


def test_a_batch_that_ends_every_worker_is_named(tmp_path: Path) -> None:
    model = interp.load("tinywan", device="cpu")
    todo = interp.sweep(
        model, worlds["grounding"].generate(1, seed=4), SPEC, into=open_store(tmp_path / "acts", mode="a"), seeds=(0, 1)
    )
    runs = [run for _, run in todo.missing]
    assert f"run {runs[0].id} has ended" in executors._lost(runs[:1])
    said = executors._lost(runs)
    assert f"the batch of 2 runs that begins with {runs[0].id}" in said
    assert "ask for a smaller --batch" in said


def test_workers_change_runs_as_one_process_does(
    tmp_path: Path, thin_model: Path, cluster: distributed.LocalCluster
) -> None:
    """Noise at a step, and a patch from another seed's run that the worker makes itself."""
    model = interp.load(thin_model, device="cpu")
    settings = model.settings(steps=2, guidance=1.0)
    changes = [NoiseAtStep(steps=(1,)), Patch(donor=Donor(seed=7), layers=(6,), steps=(1,))]
    stores = {}
    for name, executor in (("alone", "local"), ("spread", f"dask:{cluster.scheduler_address}")):
        acts = stores[name] = open_store(tmp_path / name, mode="a")
        samples, asked = worlds["grounding"].generate(2, seed=4), {"into": acts, "settings": settings}
        interp.capture(model, samples, SPEC, **asked)
        interp.capture(model, samples, SPEC, **asked, interventions=changes, executor=executor)
    alone, spread = (acts.load("output", "pixels", lazy=False).sortby("run") for acts in stores.values())
    assert alone.sizes["run"] == 4
    assert alone.equals(spread)


def test_a_killed_worker_loses_the_run_that_it_was_at_and_no_other(
    tmp_path: Path, cluster: distributed.LocalCluster
) -> None:
    found: list[interp.Captured] = []
    thread = threading.Thread(
        target=lambda: found.append(sweep(tmp_path / "acts", f"dask:{cluster.scheduler_address}", steps=6)[0])
    )
    thread.start()
    with distributed.Client(cluster, set_as_default=False) as client:
        deadline = time.monotonic() + 300
        while not (busy := [name for name, tasks in client.processing().items() if tasks]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        pid = client.run(os.getpid, workers=[busy[0]])[busy[0]]
    time.sleep(1)
    os.kill(pid, signal.SIGKILL)
    thread.join(timeout=600)
    assert [(each.made, each.reused) for each in found] == [(4, 0)]
    acts = open_store(tmp_path / "acts")
    assert sorted(acts.run_ids()) == sorted(found[0].run_ids)
    _, alone = sweep(tmp_path / "alone", "local", steps=6)
    assert (
        acts.load("resid_post", "energy", lazy=False)
        .sortby("run")
        .equals(alone.load("resid_post", "energy", lazy=False).sortby("run"))
    )


@pytest.mark.parametrize(
    ("executor", "says"),
    [
        ("threads", "no executor 'threads'; there are local, gpus, dask"),
        ("dask:tcp://127.0.0.1:9", "no dask scheduler answers at tcp://127.0.0.1:9"),
    ],
)
def test_an_executor_that_is_not_there_is_said_in_one_line(tmp_path: Path, executor: str, says: str) -> None:
    with pytest.raises(interp.BadInput, match=says):
        sweep(tmp_path / "acts", executor)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpus_without_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(interp.BadInput, match="no GPU; take local"):
        sweep(tmp_path / "acts", "gpus")
    assert open_store(tmp_path / "acts").run_ids() == []


def test_a_pipeline_in_memory_cannot_be_spread(tmp_path: Path, cluster: distributed.LocalCluster) -> None:
    folder = Path(interp.__file__).parent / "models" / "tinywan"
    model = interp.load(DiffusionPipeline.from_pretrained(folder))
    settings = model.settings(steps=1, guidance=1.0, height=96, width=96, frames=17)
    with pytest.raises(interp.BadInput, match="give its name or folder"):
        interp.capture(
            model,
            worlds["grounding"].generate(1, seed=4),
            SPEC,
            into=tmp_path / "acts",
            settings=settings,
            executor=f"dask:{cluster.scheduler_address}",
        )


def test_workers_with_other_weights_make_nothing(tmp_path: Path, cluster: distributed.LocalCluster) -> None:
    model = interp.load("tinywan", device="cpu")
    assert model.recipe is not None
    model.recipe["dtype"] = "bfloat16"
    with pytest.raises(interp.BadInput, match=r"as bfloat16; the sweep asks for .* as float32"):
        interp.capture(
            model,
            worlds["grounding"].generate(1, seed=4),
            interp.parse(["resid_post/energy@layers=0"]),
            into=tmp_path / "acts",
            settings=model.settings(steps=1, guidance=1.0),
            executor=f"dask:{cluster.scheduler_address}",
        )
    assert open_store(tmp_path / "acts").run_ids() == []
