"""A small synthetic store of exchanged states with known endings, planted through the public API of `store`.

A sample shows a square that slides left or right; its twin slides the other way under another prompt. Or, where samples
are `ambiguous`, both ways are valid and seeds choose. What changed runs end in is said by the test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

import store
from analyses.experiments import Experiment, Frame
from store import CaptureSpec, ModelRef, Run, Sample, SampleRecord, SamplerSettings, Score, StepInfo
from tests.planted import PROVENANCE

FRAMES, SIZE = 5, 24
End = Literal["own", "donor", "broken"]
Ends = Callable[[dict[str, Any], int], End]
"""Labels of an arm and number of the unit → what its runs end in."""


@dataclass(frozen=True, kw_only=True)
class Exchanged:
    """What is planted."""

    units: int = 4
    seeds: tuple[int, ...] = (0,)
    steps: int = 4
    layers: int = 6
    ambiguous: bool = False
    wrong: tuple[int, ...] = ()
    """Units whose clean runs show neither answer."""
    settled: int = 0
    """First step whose x̂0 shows the answer, where x̂0 is asked for."""
    switch_step: int | None = None
    families: tuple[str, ...] = ("planted",)
    """Of the units, in turn."""

    @property
    def frame(self) -> Frame:
        """The model that is planned for."""
        sites = ("resid_post", "attn_out", "mlp_out", "cross_attn_out")
        return Frame(self.steps, self.layers, 3, 0, tokens=(3, 6, 6), sites=sites)

    @cached_property
    def samples(self) -> list[tuple[int, Sample]]:
        """Samples with the number of their unit; of twins the first comes first."""
        found: list[tuple[int, Sample]] = []
        for unit in range(self.units):
            first, ways = _still(unit), np.stack([_video(unit, way) for way in (-1, 1)])
            told: dict[str, Any] = {
                "family": self.families[unit % len(self.families)],
                "difficulty": ("easy", "hard")[unit % 2],
            }
            if self.ambiguous:
                record = SampleRecord(prompt=f"{unit}: slide", answers=2, **told)
                found.append((unit, Sample(record, first_frame=first, video=ways[0], videos=ways)))
                continue
            left = Sample(SampleRecord(prompt=f"{unit}: left", answers=1, **told), first_frame=first, video=ways[0])
            record = SampleRecord(prompt=f"{unit}: right", answers=1, labels={"twin_of": left.id}, **told)
            found += [(unit, left), (unit, Sample(record, first_frame=first, video=ways[1]))]
        return found

    def answer(self, sample: Sample, seed: int) -> np.ndarray:
        """What a clean run ends in."""
        assert sample.answer_videos is not None
        return sample.answer_videos[seed % len(sample.answer_videos)]

    def clean(self, sample: Sample, seed: int, capture: CaptureSpec) -> Run:
        """The record of a clean run."""
        return Run(
            model=ModelRef(id="planted", weight_hash="f" * 64, pipeline="WanImageToVideoPipeline", dtype="float32"),
            sample_id=sample.id,
            seed=seed,
            settings=SamplerSettings(
                steps=self.steps,
                guidance=1.0,
                height=SIZE,
                width=SIZE,
                frames=FRAMES,
                scheduler="FlowMatchEulerDiscreteScheduler",
            ),
            capture=capture,
        )

    def plant(self, path: Path, experiment: Experiment, ends: Ends = lambda labels, unit: "own") -> Any:
        """Write the clean runs and those of every arm, and open the store."""
        acts = store.open(path, mode="a")
        keeps, child = experiment.keeps(self.frame)
        clean = [
            (unit, sample, self.clean(sample, seed, keeps)) for unit, sample in self.samples for seed in self.seeds
        ]
        for unit, sample, run in clean:
            acts.put_sample(sample)
            right = unit not in self.wrong
            video = self.answer(sample, run.seed) if right else np.zeros_like(self.answer(sample, 0))
            self._write(acts, run, video, score=float(right), first=sample.first_frame)
        given = experiment.given(acts, [(sample, run) for _, sample, run in clean], self.frame)
        assert given is not None
        for arm in experiment.plan(self.frame):
            for unit, sample, run in clean:
                changes = given(arm, sample, run.seed)
                if changes is None or acts.has_run(self._changed(run, changes, child).id):
                    continue
                end = ends(dict(arm.labels), unit)
                video = {
                    "own": self.answer(sample, run.seed),
                    "donor": _video(unit, -1 if np.array_equal(self.answer(sample, run.seed), _video(unit, 1)) else 1),
                    "broken": np.repeat(sample.first_frame[None], FRAMES, axis=0),
                }[end]
                self._write(acts, self._changed(run, changes, child), video, score=float(end == "own"))
        return acts

    @staticmethod
    def _changed(run: Run, changes: Sequence[Any], child: CaptureSpec) -> Run:
        return run.model_copy(update={"interventions": tuple(changes), "capture": child, "parent_id": run.id})

    def _write(
        self, acts: store.ActivationStore, run: Run, video: np.ndarray, *, score: float, first: np.ndarray | None = None
    ) -> None:
        wanted = [item for item in run.capture.items if (item.site, item.reduction) == ("x0_hat", "pixels")]
        with acts.begin_run(run, PROVENANCE) as writer:
            axes: Any = {"dtype": "uint8", "coords": {}}
            writer.add_array("output", "pixels", dims=("frame", "y", "x", "channel"), shape=video.shape, **axes)
            writer.write("output", "pixels", {}, np.ascontiguousarray(video))
            if wanted and first is not None:
                steps = wanted[0].steps or tuple(range(self.steps))
                still = np.repeat(first[None], FRAMES, axis=0)
                axes["coords"] = {"step": np.array(steps)}
                shape, names = (len(steps), *video.shape), ("step", "frame", "y", "x", "channel")
                writer.add_array("x0_hat", "pixels", dims=names, shape=shape, **axes)
                for place, step in enumerate(steps):
                    shown = video if step >= self.settled else still
                    writer.write("x0_hat", "pixels", {"step": place}, np.ascontiguousarray(shown))
            writer.set_steps(self._infos())
            writer.add_scores([Score(scorer="planted", metric="answer", value=score)])
            writer.commit(1.0)

    def _infos(self) -> list[StepInfo]:
        sigma = np.linspace(1, 0, self.steps + 1)
        return [
            StepInfo(
                step=step,
                timestep=1000 * float(sigma[step]),
                sigma=float(sigma[step]),
                sigma_next=float(sigma[step + 1]),
                expert="transformer" if self.switch_step is None or step < self.switch_step else "transformer_2",
                guidance=1.0,
            )
            for step in range(self.steps)
        ]


def _still(unit: int) -> np.ndarray:
    """The first frame: a square in the middle, at a height of its own."""
    picture = np.full((SIZE, SIZE, 3), 240, np.uint8)
    _put(picture, unit, 10)
    return picture


def _video(unit: int, way: int) -> np.ndarray:
    """The square slides left (-1) or right (1)."""
    video = np.full((FRAMES, SIZE, SIZE, 3), 240, np.uint8)
    for frame in range(FRAMES):
        _put(video[frame], unit, 10 + way * 2 * frame)
    return video


def _put(picture: np.ndarray, unit: int, x: int) -> None:
    y = 2 + 4 * (unit % 5)
    picture[y : y + 4, x : x + 4] = [200, 40 + 20 * (unit // 5), 30]
