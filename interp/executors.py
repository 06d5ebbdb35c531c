"""Sweeps spread over processes by dask: each worker holds one pipeline and makes batches of runs into the same store.

What travels between processes is small: how to load the model, which store, and the runs' records. A worker that dies
loses the batch that it was at, and the one that it was completing; they are made again by another one. A worker of
several threads completes one batch while it generates the next, and never calls its pipeline twice at once. Weights are
compared before anything is made, so that every worker makes what the sweep has asked for.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

import store
from interp import making
from interp.errors import BadInput, InterpError
from interp.finishing import Made
from interp.making import Batch
from interp.planning import plan
from store.records import Run, digest

if TYPE_CHECKING:
    from distributed import Client

    from interp.model import Model

SYNTAX = "local, gpus, dask or dask:ADDRESS of a scheduler, such as dask:tcp://10.0.0.1:8786"
"""What `--executor` takes."""


class WorkerLost(InterpError):
    """A batch of runs that has ended its worker again and again."""


def check(executor: str, *, device_map: str | None = None) -> None:
    """Refuse what is no executor, before anything is loaded.

    Args:
        executor: See `SYNTAX`.
        device_map: How the model is divided among GPUs, of which each worker of `gpus` has one.

    Raises:
        BadInput: with what there is.
    """
    if executor not in ("local", "gpus", "dask") and not executor.startswith("dask:"):
        raise BadInput(f"no executor {executor!r}; there are {SYNTAX}")
    if executor == "gpus" and not torch.cuda.is_available():
        raise BadInput("--executor gpus: this machine has no GPU; take local, or dask:ADDRESS of a scheduler elsewhere")
    if executor == "gpus" and device_map:
        raise BadInput(
            f"--device-map {device_map} divides a model among GPUs, --executor gpus gives each its own: take one"
        )


def spread(
    executor: str,
    model: Model,
    batches: Sequence[Batch],
    *,
    into: store.ActivationStore,
    done: Callable[[Made], None],
) -> None:
    """Make batches of runs on the workers of `executor`; their samples must be in the store.

    Args:
        executor: See `SYNTAX`, except `local`.
        model: As `load` returned it; workers load the same.
        batches: What is made.
        into: The store, which workers must reach under the same path or address.
        done: Told of each run, batch by batch in the order in which they end.

    Raises:
        BadInput: if workers cannot load the model, or load another one.
        WorkerLost: if a batch ends every worker that tries it.
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
        asked: dict[Any, list[Run]] = {}
        for batch in batches:
            runs = [run for _, run in batch.pairs]
            key = f"stepscope-{digest('batch', *(run.id for run in runs))}"
            records = [run.model_dump_json() for run in runs]
            asked[client.submit(make, model.recipe, str(into.path), records, key=key, pure=False)] = runs
        try:
            for future in distributed.as_completed(asked, loop=client.loop):
                runs = asked[future]
                try:
                    now = future.result()
                except distributed.KilledWorker as error:
                    raise WorkerLost(_lost(runs)) from error
                for run in runs:
                    done(Made(run, run.id in now))
        finally:
            client.cancel(list(asked))


_held: dict[str, Any] = {}
"""The one model of this process, by its recipe."""


_turn = threading.Lock()
"""Held by the thread of this process that calls the pipeline."""


def make(recipe: dict[str, Any], path: str, records: list[str]) -> list[str]:
    """A batch of runs, in a worker.

    Returns:
        The ids of those that were made now; the others have been made by another process in the meantime.
    """
    runs = [Run.model_validate_json(record) for record in records]
    with _turn:
        model = _model(recipe)
        ref = model.ref
    if ref != runs[0].model:
        raise BadInput(
            f"a worker loaded {ref.id} with weights {ref.weight_hash[:12]} as {ref.dtype}; "
            f"the sweep asks for {runs[0].model.weight_hash[:12]} as {runs[0].model.dtype}; give --dtype, or the same "
            "files"
        )
    acts = store.open(path, mode="a")
    pairs = tuple((acts.sample(run.sample_id), run) for run in runs)
    batch = Batch(pairs, plan(model.adapter, runs[0].capture, runs[0].settings))
    return [made.run.id for made in making.make(model, batch, acts, one_by_one=_turn) if made.now]


def _lost(runs: Sequence[Run]) -> str:
    what = f"run {runs[0].id}" if len(runs) == 1 else f"the batch of {len(runs)} runs that begins with {runs[0].id}"
    smaller = "; ask for a smaller --batch" if len(runs) > 1 else ""
    return (
        f"{what} has ended every worker that tried it, probably for lack of memory; nothing of it is kept, other runs "
        f"are{smaller}"
    )


def _model(recipe: dict[str, Any]) -> Model:
    from interp.loading import load

    key = repr(sorted(recipe.items()))
    if key not in _held:
        _held.clear()  # before the next one is loaded: a GPU holds one
        _held[key] = load(**{**recipe, "dtype": getattr(torch, recipe["dtype"])})
    return _held[key]


@contextlib.contextmanager
def _client(executor: str) -> Iterator[Client]:
    """Workers with a thread that generates a batch and one that completes the batch before."""
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
                "nthreads": 2,
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
