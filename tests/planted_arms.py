"""Runs whose scores are given, for experiments whose arms differ in settings: by sample, seed, steps, frames, LoRA."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import store
from store import (
    Adapter,
    CaptureItem,
    CaptureSpec,
    ModelRef,
    Run,
    Sample,
    SampleRecord,
    SamplerSettings,
    Score,
    StepInfo,
)
from tests.planted import PROVENANCE

LORA = Adapter(path="few/steps.safetensors", weight_hash="e" * 64)
SIZE, FRAMES = 16, 3
STEPS = 4
"""Of clean runs."""


def sample(position: int, *, answers: int = 1) -> Sample:
    """A square that goes right in the upper half, or in the lower one where there are two answers."""
    video = np.full((answers, FRAMES, SIZE, SIZE, 3), 200, np.uint8)
    for answer in range(answers):
        for frame in range(1, FRAMES):
            video[answer, frame, 2 + 8 * answer : 6 + 8 * answer, 4 * frame : 4 * frame + 4] = (200, 30, position)
    record = SampleRecord(family="planted", prompt=f"Go right, {position}.", answers=answers)
    return Sample(record, first_frame=video[0, 0], video=video[0], videos=video if answers > 1 else None)


def put(
    acts: store.ActivationStore,
    question: Sample,
    *,
    score: float | None,
    seed: int = 0,
    steps: int = STEPS,
    frames: int = FRAMES,
    guidance: float = 1.0,
    adapters: tuple[Adapter, ...] = (),
    interventions: Sequence[dict[str, Any]] = (),
    clean: bool = False,
    x0: Sequence[np.ndarray] = (),
    answers: Sequence[float] = (),
    video: np.ndarray | None = None,
    seconds: float = 2.0,
) -> str:
    """Write one run; one that is not `clean` is the child of the clean run of its sample and seed.

    Args:
        acts: The store.
        question: Its sample.
        score: Overall score of its video; None where nothing scored it.
        seed: Its seed.
        steps: Denoising steps.
        frames: Video frames.
        guidance: Above 1, a step makes two forwards.
        adapters: LoRAs.
        interventions: What changes it.
        clean: Whether it is a clean run.
        x0: Decoded x̂0 of each step, uint8 `[frame, y, x, channel]`; nothing is kept if empty.
        answers: Answer score of each x̂0.
        video: The finished video; plain grey if not given.
        seconds: How long it is said to have taken.
    """
    items = (CaptureItem(site="x0_hat", reduction="pixels"),) if len(x0) else ()
    base = Run(
        model=ModelRef(id="planted", weight_hash="f" * 64, pipeline="P", dtype="float32"),
        sample_id=acts.put_sample(question),
        seed=seed,
        settings=SamplerSettings(
            steps=STEPS, guidance=guidance, height=SIZE, width=SIZE, frames=FRAMES, scheduler="Euler"
        ),
        capture=CaptureSpec(items=items),
    )
    run = base.model_copy(
        update={
            "model": base.model.model_copy(update={"adapters": adapters}),
            "settings": base.settings.model_copy(update={"steps": steps, "frames": frames}),
            "interventions": tuple(interventions),
            "parent_id": None if clean else base.id,
        }
    )
    line = np.linspace(1, 0, steps + 1)
    with acts.begin_run(run, PROVENANCE) as writer:
        if len(x0):
            shape = (len(x0), *x0[0].shape)
            axes = ("step", "frame", "y", "x", "channel")
            writer.add_array(
                "x0_hat", "pixels", dims=axes, shape=shape, dtype="uint8", coords={"step": np.arange(len(x0))}
            )
            for step, one in enumerate(x0):
                writer.write("x0_hat", "pixels", {"step": step}, np.ascontiguousarray(one))
        shown = np.full((FRAMES, SIZE, SIZE, 3), 128, np.uint8) if video is None else video
        writer.add_array(
            "output", "pixels", dims=("frame", "y", "x", "channel"), shape=shown.shape, dtype="uint8", coords={}
        )
        writer.write("output", "pixels", {}, shown)
        writer.set_steps(
            [
                StepInfo(
                    step=at,
                    timestep=1000 * float(line[at]),
                    sigma=float(line[at]),
                    sigma_next=float(line[at + 1]),
                    expert="transformer",
                    guidance=guidance,
                )
                for at in range(steps)
            ]
        )
        if score is not None:
            told = [Score(scorer="planted", metric=metric, value=score) for metric in ("overall", "answer")]
            told += [Score(scorer="planted", metric="answer", value=value, step=at) for at, value in enumerate(answers)]
            writer.add_scores(told)
        writer.commit(seconds)
    return run.id


def empty(path: Path) -> store.ActivationStore:
    """A store to put runs into."""
    return store.open(path, mode="a")
