"""What an experiment costs over bare generations, on tinywan on the CPU: clean runs and common prefixes are made once.

An experiment of R runs may cost 1.1 times as much as R bare generations, beside what its own interventions need. The
peer is the loop that one would write without us: R calls of the bare diffusers pipeline, loaded by itself, that keep
nothing. Ours is everything until the last run is visible in the store: planning, clean runs with what they keep,
changed runs, donors, decoding, scores.

- `noise`: plain noise at every step, one clean run. Each changed run begins at its step, from the stored x_s of the
  clean run (`shared`); beside it the same where clean runs keep no x_s, so that all runs are made whole (`whole`).
- `patch`: twins, whole states of all layers at the first steps and at the rest. Donors' states are kept with the clean
  runs, and read: no donor is made again.

Every case makes another seed in each round, so nothing is found in the store from before.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(sys.path.pop(0))  # `analyses.py` beside this file is not the package

import interp
import store
from _frame import Report, interleaved, main
from analyses.experiments import Experiment, Frame, Noise, Patch
from interp import experimenting
from interp.conditions import Condition
from store import CaptureSpec, Sample

STEPS, ROUNDS = 6, 3
BARE = 4
"""Generations of the peer in each round; a figure is of a single one."""
NOTHING = CaptureSpec(items=())


class Case:
    """An experiment that is conducted whole, again and again.

    Args:
        model: Traced.
        asked: The experiment.
        samples: Its questions.
        settings: How to sample.
        acts: Where runs go.
        clean: What clean runs keep; what the experiment asks for if not given.
    """

    def __init__(
        self,
        model: interp.Model,
        asked: Experiment,
        samples: Sequence[Sample],
        *,
        settings: store.SamplerSettings,
        acts: store.ActivationStore,
        clean: CaptureSpec | None = None,
    ) -> None:
        self.model, self.asked, self.samples, self.acts = model, asked, samples, acts
        self.frame = Frame(**experimenting.shape(model, settings))
        kept, child = asked.keeps(self.frame)
        self._how: dict[str, Any] = {
            "clean": kept if clean is None else clean,
            "child": child,
            "into": acts,
            "settings": settings,
        }
        self.done: list[experimenting.Programme] = []
        """What each round has made."""

    def run(self, seeds: itertools.count[int]) -> None:
        """Plan and make it with the next seed."""
        plan = partial(experimenting.programme, self.model, self.samples, seeds=[next(seeds)], **self._how)
        first = plan(arms=[])
        given = self.asked.given(self.acts, first.clean.runs, self.frame)
        todo = plan(
            arms=[
                Condition(arm.interventions if given is None else partial(given, arm), arm.settings, arm.variant)
                for arm in self.asked.plan(self.frame)
            ]
        )
        assert experimenting.conduct(self.model, todo, into=self.acts) == len(todo.run_ids)
        self.done.append(todo)

    @property
    def runs(self) -> int:
        """Runs of a round."""
        return len(self.done[-1].run_ids)

    @property
    def saved(self) -> float:
        """Share of the denoising steps that are taken from clean runs."""
        return self.done[-1].copied / (self.done[-1].copied + self.done[-1].steps)


def measure(report: Report, *, quick: bool) -> None:
    """Time bare generations and both experiments in turns."""
    bare, traced = (interp.load("tinywan", device="cpu", scheduler="euler") for _ in range(2))
    settings = traced.settings(steps=4 if quick else STEPS, guidance=1.0)
    (twins,) = interp.worlds["grounding"].pairs(1, seed=0, difficulty="easy")
    noise = Noise(at=tuple(range(settings.steps)), frames=(), doses=(), draws=0)
    patch = Patch(sites=("resid_post",), parts=("whole",), layer_blocks=1)
    seeds, generations = itertools.count(), 1 if quick else BARE
    with tempfile.TemporaryDirectory() as folder:
        acts = store.open(Path(folder) / "acts", mode="a")
        case = partial(Case, traced, settings=settings, acts=acts)
        cases = {
            "noise.shared": case(noise, twins[:1]),
            "noise.whole": case(noise, twins[:1], clean=NOTHING),
            "patch.shared": case(patch, twins),
        }

        def peer() -> None:
            for _ in range(generations):
                bare.generate(twins[0], seed=next(seeds), settings=settings)

        todo = {name: partial(one.run, seeds) for name, one in cases.items()}
        seconds = interleaved({"bare": peer, **todo}, rounds=1 if quick else ROUNDS, warmups=0 if quick else 1)
    single = seconds["bare"] / generations
    report.add_median("experiments.cpu.bare.seconds", single)
    for name, one in cases.items():
        report.add(f"experiments.cpu.{name}.runs", one.runs, "runs", len(single))
        report.add_ratio(f"experiments.cpu.{name}.ratio_bare", seconds[name] / one.runs, single)
    for name in ("noise", "patch"):
        report.add(f"experiments.cpu.{name}.steps_saved", cases[f"{name}.shared"].saved, "ratio", 1)
    report.add("experiments.cpu.patch.donor_steps", cases["patch.shared"].done[-1].donated, "steps", 1)
    report.add_ratio("experiments.cpu.noise.gain", seconds["noise.whole"], seconds["noise.shared"])


if __name__ == "__main__":
    main(measure, description=__doc__)
