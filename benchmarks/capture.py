"""What capturing costs: a traced and stored generation of tinywan against the bare pipeline.

The bare pipeline is loaded by itself, without nnsight on its modules. A case is one whole generation: for
the capture, until the run is visible in the store. Beside our own, the way in which most people do it:
forward hooks that copy to the host, and `torch.save` of the list.
"""

from __future__ import annotations

import itertools
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

import interp
import store
from _frame import Report, interleaved, main

STEPS = 20
ROUNDS = 7


def measure(report: Report, *, quick: bool) -> None:
    """Time bare, captured and hooked generations in turns."""
    bare, traced, hooked = (interp.load("tinywan", device="cpu") for _ in range(3))
    sample = interp.worlds["maze"].generate(1, seed=1)[0]
    settings = bare.settings(steps=2 if quick else STEPS)
    seeds = itertools.count()
    with tempfile.TemporaryDirectory() as folder:
        acts = store.open(Path(folder) / "acts", mode="a")

        def capture() -> None:
            done = interp.capture(traced, [sample], into=acts, seeds=[next(seeds)], settings=settings)
            assert done.made == 1

        def hooks() -> None:
            _hooked(hooked, Path(folder) / "hooks.pt", sample=sample, settings=settings)

        seconds = interleaved(
            {
                "bare": lambda: bare.generate(sample, settings=settings),
                "default": capture,
                "hooks_save": hooks,
            },
            rounds=1 if quick else ROUNDS,
        )
    report.add_median("capture.cpu.bare.seconds", seconds["bare"])
    report.add_ratio("capture.cpu.default.overhead", seconds["default"], seconds["bare"], offset=-1)
    report.add_ratio("capture.cpu.hooks_save.overhead", seconds["hooks_save"], seconds["bare"], offset=-1)


def _hooked(model: interp.Model, path: Path, *, sample: store.Sample, settings: store.SamplerSettings) -> None:
    """The peer: plain hooks on every block, `.cpu()`, `torch.save` at the end."""
    kept: list[torch.Tensor] = []

    def keep(module: Any, args: Any, output: torch.Tensor) -> None:
        kept.append(output.cpu().clone())

    with ExitStack() as stack:
        for denoiser in model.adapter.denoisers().values():
            for block in model.adapter.blocks(denoiser):
                stack.callback(block.register_forward_hook(keep).remove)
        model.generate(sample, settings=settings)
    torch.save(kept, path)


if __name__ == "__main__":
    main(measure, description=__doc__)
