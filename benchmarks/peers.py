"""One job in the ways in which people do it: keep the residual stream of all layers and steps, read one layer again.

One generation of tinywan on the CPU, without guidance, so that each step is one forward. Everybody keeps the
values as the model makes them, and what is read of one layer over all steps must be the same bit for bit. Peers:
forward hooks and `torch.save`; the cache of nnsight over the whole pipeline and `torch.save`. Each job is a function of
this file; its lines of code are those of its body as `ast.unparse` writes them, however they are broken here.

Ours is timed until the run is visible in the store, durable, labelled and its video scored; `torch.save` leaves the
writing to the system, and positions in a list are its labels. Files are read from a warm page cache, each time anew.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import tempfile
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from nnsight.modeling.diffusion import DiffusionModel

import interp
import store
from _frame import Report, interleaved, main
from interp import bundled, onednn

STEPS, ROUNDS, READS = 20, 7, 15
LAYER = 6


def keep_hooks(pipe: Any, inputs: dict[str, Any], path: Path) -> None:
    """Forward hooks on every block, a list, `torch.save`."""
    kept: list[torch.Tensor] = []
    hooks = [
        block.register_forward_hook(lambda module, args, output: kept.append(output.cpu()))
        for block in pipe.transformer.blocks
    ]
    pipe(**inputs)
    for hook in hooks:
        hook.remove()
    torch.save(kept, path)


def read_hooks(path: Path, layer: int, layers: int) -> torch.Tensor:
    """Only what is asked for, through a memory map."""
    return torch.stack(torch.load(path, mmap=True)[layer::layers])


def read_hooks_whole(path: Path, layer: int, layers: int) -> torch.Tensor:
    """The whole file, as `torch.load` does unless it is told otherwise."""
    return torch.stack(torch.load(path)[layer::layers])


def keep_nnsight(model: Any, inputs: dict[str, Any], path: Path) -> None:
    """The cache of nnsight, of every block over the whole pipeline, and `torch.save`."""
    with model.generate(**inputs) as tracer:
        cache = tracer.cache(modules=list(model.transformer.blocks))
    torch.save([cache[block.path].output for block in model.transformer.blocks], path)


def read_nnsight(path: Path, layer: int) -> torch.Tensor:
    """One module's list, through a memory map."""
    return torch.stack(torch.load(path, mmap=True)[layer])


def keep_ours(
    model: interp.Model, sample: store.Sample, settings: store.SamplerSettings, path: Path, seed: int
) -> None:
    """A capture."""
    spec = interp.parse(["resid_post/full"])
    interp.capture(model, [sample], spec, into=path, seeds=[seed], settings=settings)


def read_ours(path: Path, layer: int) -> Any:
    """A `load`."""
    return store.open(path).load("resid_post", "full", layer=layer, lazy=False)


opened = functools.cache(store.open)


def read_ours_open(path: Path, layer: int) -> Any:
    """The same from a store that was opened before."""
    return opened(path).load("resid_post", "full", layer=layer, lazy=False)


class Way(NamedTuple):
    """One way to do the job."""

    keep: Callable[[int, Path], object]
    """Takes the round and a path that is new."""
    read: dict[str, Callable[[Path], Any]]
    """Figure → reads the layer."""
    code: tuple[Callable[..., Any], ...]
    """What a user writes."""


def lines(function: Callable[..., Any]) -> int:
    """Lines of code of a function's body, its docstring left out."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(definition, ast.FunctionDef)
    return sum(len(ast.unparse(statement).splitlines()) for statement in definition.body[1:])


def measure(report: Report, *, quick: bool) -> None:
    """Keep in turns, then read in turns."""
    bare, hooked, traced = (interp.load("tinywan", device="cpu") for _ in range(3))
    nnsight = DiffusionModel(str(bundled.FOLDER / "tinywan"), dispatch=True)
    onednn.by_onednn(nnsight.pipeline)  # as `interp.load` does, so that values can be the same bit for bit
    sample = interp.worlds["maze"].generate(1, seed=1)[0]
    settings = bare.settings(steps=2 if quick else STEPS, guidance=1.0)
    layers = len(bare.pipeline.transformer.blocks)

    def inputs(seed: int) -> dict[str, Any]:
        return bare.inputs(sample, seed=seed, settings=settings)

    ways = {
        "hooks": Way(
            lambda seed, path: keep_hooks(hooked.pipeline, inputs(seed), path),
            {
                "read_s": partial(read_hooks, layer=LAYER, layers=layers),
                "read_whole_s": partial(read_hooks_whole, layer=LAYER, layers=layers),
            },
            (keep_hooks, read_hooks),
        ),
        "nnsight": Way(
            lambda seed, path: keep_nnsight(nnsight, inputs(seed), path),
            {"read_s": partial(read_nnsight, layer=LAYER)},
            (keep_nnsight, read_nnsight),
        ),
        "ours": Way(
            lambda seed, path: keep_ours(traced, sample, settings, path, seed),
            {"read_s": partial(read_ours, layer=LAYER), "read_open_s": partial(read_ours_open, layer=LAYER)},
            (keep_ours, read_ours),
        ),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _keep(report, ways, lambda seed: bare.generate(sample, seed=seed, settings=settings), folder, quick=quick)
        _read(report, ways, folder, quick=quick)
    for way, (_, _, code) in ways.items():
        report.add(f"peers.{way}.lines", sum(lines(function) for function in code), "lines", 1)


def _keep(report: Report, ways: dict[str, Way], bare: Callable[[int], object], folder: Path, *, quick: bool) -> None:
    """Time the ways against the bare pipeline; what each kept first stays in `folder`, by its name."""
    turns = {way: itertools.count() for way in ways}

    def keep(way: str) -> None:
        seed = next(turns[way])
        ways[way].keep(seed, folder / (f"{way}-{seed}" if seed else way))

    cases: dict[str, Callable[[], object]] = {"bare": lambda: bare(0), **{way: partial(keep, way) for way in ways}}
    seconds = interleaved(cases, rounds=1 if quick else ROUNDS)
    report.add_median("peers.bare.seconds", seconds["bare"])
    for way in ways:
        report.add_ratio(f"peers.{way}.keep.overhead", seconds[way], seconds["bare"], offset=-1)
        report.add(f"peers.{way}.megabytes", _nbytes(folder / way) / 1e6, "MB", 1)


def _read(report: Report, ways: dict[str, Way], folder: Path, *, quick: bool) -> None:
    """Time reads of one layer over all steps, once all agree on what it holds."""
    reads = {f"{way}.{figure}": partial(read, folder / way) for way in ways for figure, read in ways[way].read.items()}
    values = {name: _plain(read()) for name, read in reads.items()}
    first = values["ours.read_s"]
    for name, value in values.items():
        assert np.array_equal(value, first), f"{name} does not read what the others do"
    for name, seconds in interleaved(reads, rounds=3 if quick else READS).items():
        report.add_median(f"peers.{name}", seconds)


def _plain(values: Any) -> np.ndarray[Any, Any]:
    """float32 `[step, value]`, whoever read it."""
    array = values.numpy() if isinstance(values, torch.Tensor) else values.transpose("step", ...).values
    return array.reshape(len(array), -1)


def _nbytes(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


if __name__ == "__main__":
    main(measure, description=__doc__)
