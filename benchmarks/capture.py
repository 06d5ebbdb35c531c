"""What capturing costs: a traced and stored generation of tinywan against the bare pipeline.

The bare pipeline is loaded by itself, without nnsight on its modules. A case is one whole generation: for
a capture, until the run is visible in the store. Captured are the default spec, and the energy of every site
that the model has. Beside our own, the way in which most people do it: forward hooks that copy to the host,
and `torch.save` of the list.
"""

from __future__ import annotations

import itertools
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

import interp
import store
from _frame import Report, interleaved, main
from interp import catalogue

STEPS = 20
ROUNDS = 7


def measure(report: Report, *, quick: bool) -> None:
    """Time bare, captured and hooked generations in turns."""
    bare, traced, hooked = (interp.load("tinywan", device="cpu") for _ in range(3))
    sample = interp.worlds["maze"].generate(1, seed=1)[0]
    settings = bare.settings(steps=2 if quick else STEPS)
    seeds = itertools.count()
    energies = [cost.site for cost in catalogue.cost(traced, settings).costs if cost.reduction == "energy"]
    specs = {"default": interp.DEFAULT, "all_sites": interp.parse(f"{site}/energy" for site in energies)}
    with tempfile.TemporaryDirectory() as folder:
        acts = store.open(Path(folder) / "acts", mode="a")

        def capture(case: str) -> None:
            done = interp.capture(traced, [sample], specs[case], into=acts, seeds=[next(seeds)], settings=settings)
            assert done.made == 1

        def hooks() -> None:
            _hooked(hooked, Path(folder) / "hooks.pt", sample=sample, settings=settings)

        seconds = interleaved(
            {
                "bare": lambda: bare.generate(sample, settings=settings),
                **{case: partial(capture, case) for case in specs},
                "hooks_save": hooks,
            },
            rounds=1 if quick else ROUNDS,
        )
    report.add_median("capture.cpu.bare.seconds", seconds["bare"])
    for case in (*specs, "hooks_save"):
        report.add_ratio(f"capture.cpu.{case}.overhead", seconds[case], seconds["bare"], offset=-1)


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
