"""Sweeps spread over processes by dask: each worker holds one pipeline and makes whole runs into the same store.

What travels between processes is small: how to load the model, which store, and one run's record. A worker that dies
loses the run that it was at; the run is made again by another one. Weights are compared before anything is made, so
that every worker makes what the sweep has asked for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

import store
from interp.errors import BadInput, InterpError
from store.records import Run

if TYPE_CHECKING:
    from distributed import Client

    from interp.model import Model

SYNTAX = "local, gpus, dask or dask:ADDRESS of a scheduler, such as dask:tcp://10.0.0.1:8786"
"""What `--executor` takes."""


class WorkerLost(InterpError):
    """A run that has ended its worker again and again."""


def check(executor: str) -> None:
    """Refuse what is no executor, before anything is loaded.

    Raises:
        BadInput: with what there is.
    """
    if executor not in ("local", "gpus", "dask") and not executor.startswith("dask:"):
        raise BadInput(f"no executor {executor!r}; there are {SYNTAX}")
    if executor == "gpus" and not torch.cuda.is_available():
        raise BadInput("--executor gpus: this machine has no GPU; take local, or dask:ADDRESS of a scheduler elsewhere")


def spread(
    executor: str,
    model: Model,
    runs: Sequence[Run],
    *,
    into: store.ActivationStore,
    done: Callable[[Run, bool], None],
) -> None:
    """Make `runs` on the workers of `executor`; their samples must be in the store.

    Args:
        executor: See `SYNTAX`, except `local`.
        model: As `load` returned it; workers load the same.
        runs: What is made.
        into: The store, which workers must reach under the same path or address.
        done: Told of each run, in the order in which they end, and whether it was made now.

    Raises:
        BadInput: if workers cannot load the model, or load another one.
        WorkerLost: if a run ends every worker that tries it.
        InterpError, StoreError: what `capture` raises; runs that were made until then are kept.
    """
    if model.recipe is None:
        raise BadInput(
            "a pipeline that was passed to load() cannot be loaded by other processes; give its name or folder"
        )
    try:
        import distributed
    except ImportError as error:
        raise BadInput("executors other than local need dask's workers: pip install 'stepscope[cluster]'") from error
    with _client(executor) as client:
        asked: dict[Any, Run] = {}
        for run in runs:
            key = f"stepscope-{run.id}"
            record = run.model_dump_json()
            asked[client.submit(make, model.recipe, str(into.path), record, key=key, pure=False)] = run
        try:
            for future in distributed.as_completed(asked, loop=client.loop):
                try:
                    made = future.result()
                except distributed.KilledWorker as error:
                    raise WorkerLost(
                        f"run {asked[future].id} has ended every worker that tried it, probably for lack of memory; "
                        "nothing of it is kept, other runs are"
                    ) from error
                done(asked[future], made)
        finally:
            client.cancel(list(asked))


_held: dict[str, Any] = {}
"""The one model of this process, by its recipe."""


def make(recipe: dict[str, Any], path: str, record: str) -> bool:
    """One run, in a worker.

    Returns:
        Whether it was made now; False where another process has made it in the meantime.
    """
    from interp.capturing import make_run

    run = Run.model_validate_json(record)
    model = _model(recipe)
    if model.ref != run.model:
        raise BadInput(
            f"a worker loaded {model.ref.id} with weights {model.ref.weight_hash[:12]} as {model.ref.dtype}; "
            f"the sweep asks for {run.model.weight_hash[:12]} as {run.model.dtype}; give --dtype, or the same files"
        )
    acts = store.open(path, mode="a")
    return make_run(model, acts.sample(run.sample_id), run, acts)


def _model(recipe: dict[str, Any]) -> Model:
    from interp.loading import load

    key = repr(sorted(recipe.items()))
    if key not in _held:
        _held.clear()  # before the next one is loaded: a GPU holds one
        _held[key] = load(**{**recipe, "dtype": getattr(torch, recipe["dtype"])})
    return _held[key]


@contextlib.contextmanager
def _client(executor: str) -> Iterator[Client]:
    """Workers with one thread each, so that a pipeline is never called twice at once."""
    import distributed

    if executor.startswith("dask:"):
        address = executor.removeprefix("dask:")
        try:
            client = distributed.Client(address, timeout=10, set_as_default=False)
        except (OSError, ValueError) as error:
            raise BadInput(f"no dask scheduler answers at {address}; start one with `dask scheduler`") from error
        with client:
            yield client
        return
    gpus = _gpus()
    count = len(gpus) if executor == "gpus" else max(1, (os.cpu_count() or 1) // 2)
    threads = max(1, (os.cpu_count() or 1) // count)
    workers = {
        number: {
            "cls": distributed.Nanny,
            "options": {
                "nthreads": 1,
                "env": {"OMP_NUM_THREADS": str(threads)}
                | ({"CUDA_VISIBLE_DEVICES": gpus[number]} if executor == "gpus" else {}),
            },
        }
        for number in range(count)
    }
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard_address": ":0", "host": "127.0.0.1"}}
    with (
        distributed.SpecCluster(workers=workers, scheduler=scheduler) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _gpus() -> list[str]:
    """What this process may use, as CUDA_VISIBLE_DEVICES names it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return [str(number) for number in range(count)] if visible is None else visible.split(",")[:count]
