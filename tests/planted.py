"""A small synthetic store with known truth, planted through the public API of `store`.

Every number that an analysis should find is an argument here: the energy of a token is a product of
known factors, the distance of x̂0 to its end is a given curve, and the step at which the answer settles
is chosen. The pictures show a dot that goes round a wall above or below; early x̂0 hold both ways.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import store
from store import (
    CaptureItem,
    CaptureSpec,
    ModelRef,
    Provenance,
    Run,
    Sample,
    SampleRecord,
    SamplerSettings,
    Score,
    StepInfo,
)

PROVENANCE = Provenance(
    started="2026-01-02T03:04:05+00:00",
    git_commit="0123456789abcdef0123456789abcdef01234567",
    git_dirty=True,
    packages={"torch": "2.9.0", "diffusers": "0.42.0"},
    python="3.11.9",
    device="planted device",
    host="planted-host",
    threads=1,
)


@dataclass(frozen=True, kw_only=True)
class Planted:
    """What is planted; the defaults make a store of a quarter of a megabyte."""

    samples: int = 3
    seeds: tuple[int, ...] = (0, 1)
    steps: int = 6
    layers: int = 3
    frames: int = 3
    """Latent frames."""
    grid: int = 6
    """Tokens a side."""
    video_frames: int = 5
    size: int = 24
    """Pixels a side."""
    peak_step: int | None = None
    """Step whose energy is raised by `peak_gain`; None leaves the profile flat."""
    peak_gain: float = 0.5
    first_frame: float = 3.0
    """Energy of the first frame, as a multiple of that of each other frame."""
    noise: float = 0.0
    """Standard deviation of the relative noise of a sample's and of a token's energy."""
    switch_step: int | None = None
    """First step of the second expert; None for a model with one."""
    settle_step: int = 3
    """Step from which the answer read from x̂0 is the final one."""
    wrong: tuple[int, ...] = ()
    """Samples (by position) whose runs end wrong."""
    arrays: tuple[str, ...] = ("resid_post/energy", "x0_hat/full", "x0_hat/pixels")
    """What is kept beside the finished video."""
    scored: bool = True
    prompts: tuple[str, ...] = ()
    """Prompts of the first samples; the others get a plain one."""
    model: str = "planted-dit"
    metric: str = "process"
    """Name of the second metric."""
    interventions: tuple[dict[str, Any], ...] = ()
    parent: Planted | None = None
    """The clean runs of which these are changed."""
    weight_hash: str = "f" * 64
    distance: tuple[float, ...] = field(default=())
    """Relative latent distance to the last x̂0 by step; empty for a straight line from 1 to 0."""

    def distances(self) -> np.ndarray:
        """Relative distance of x̂0 to its end, float64 `[step]`; 0 at the last."""
        return np.array(self.distance) if self.distance else np.linspace(1, 0, self.steps)

    def energies(self, sample: int, seed: int) -> np.ndarray:
        """Energy of each token, float32 `[step, branch, layer, frame, y, x]`."""
        step = np.ones(self.steps)
        if self.peak_step is not None:
            step[self.peak_step] += self.peak_gain
        frame = np.ones(self.frames)
        frame[0] = self.first_frame
        layer = 1.0 + np.arange(self.layers)
        shape = (self.steps, 1, self.layers, self.frames, self.grid, self.grid)
        rng = np.random.default_rng([sample, seed])
        base = np.einsum("s,l,f->slf", step, layer, frame)[:, None, :, :, None, None]
        whole = 1 + self.noise * rng.standard_normal((self.steps, 1, 1, 1, 1, 1))
        return (base * whole * (1 + self.noise * rng.standard_normal(shape))).clip(1e-3).astype(np.float32)

    def latents(self, sample: int, seed: int) -> np.ndarray:
        """x̂0 in the latent grid, float32 `[step, frame, y, x, channel]`, at `distances()` from its last."""
        rng = np.random.default_rng([sample, seed, 1])
        shape = (self.frames, self.grid, self.grid, 4)
        final = rng.standard_normal(shape)
        way = rng.standard_normal(shape)
        way *= np.linalg.norm(final) / np.linalg.norm(way)
        return (final + self.distances()[:, None, None, None, None] * way).astype(np.float32)

    def videos(self, sample: int, seed: int) -> np.ndarray:
        """Decoded x̂0, uint8 `[step, frame, y, x, channel]`; the last is the finished video."""
        rng = np.random.default_rng([sample, 2])
        above = self._walk(sample, up=True)
        below = self._walk(sample, up=False)
        ends, other = (above, below) if (sample + seed) % 2 == 0 else (below, above)
        blur = rng.normal(0.5, 0.2, size=ends.shape)
        off = self.distances()[:, None, None, None, None]
        blended = (1 - off / 2) * ends + off / 2 * other
        return (255 * ((1 - off / 2) * blended + off / 2 * blur)).clip(0, 255).round().astype(np.uint8)

    def _walk(self, sample: int, *, up: bool) -> np.ndarray:
        """A dot that goes from left to right round the wall, float64 `[frame, y, x, channel]` in 0 to 1."""
        y, x = np.mgrid[: self.size, : self.size] / self.size
        video = np.empty((self.video_frames, self.size, self.size, 3))
        video[:] = [0.93, 0.92, 0.88]
        wall = (np.abs(x - 0.5) < 0.07) & (np.abs(y - 0.5) < 0.1 + 0.05 * (sample % 4))
        goal = np.hypot(x - 0.9, y - 0.5) < 0.08
        video[:, goal] = [0.25, 0.6, 0.4]
        video[:, wall] = [0.2, 0.22, 0.27]
        for frame, along in enumerate(np.linspace(0, 1, self.video_frames)):
            height = 0.5 + (-1 if up else 1) * 0.36 * np.sin(np.pi * along)
            video[frame, np.hypot(x - (0.1 + 0.8 * along), y - height) < 0.07] = [0.85, 0.33, 0.2]
        return video

    def infos(self) -> list[StepInfo]:
        """The sampler's steps; sigma falls from 1 to 0 with shift 3."""
        line = np.linspace(1, 0, self.steps + 1)
        sigma = 3 * line / (1 + 2 * line)
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

    def scores(self, sample: int) -> list[Score]:
        """`answer` settles at `settle_step`, `metric` rises in a straight line; 0 all along where wrong."""
        right = float(sample not in self.wrong)
        by_step: list[tuple[int | None, float]] = [
            (step, float(step >= self.settle_step)) for step in range(self.steps)
        ]
        ramp = np.linspace(0.1, 0.9, self.steps)
        rows: list[Score] = []
        for step, settled in [*by_step, (None, 1.0)]:
            process = float(ramp[-1 if step is None else step])
            rows.append(Score(scorer="planted", metric="answer", value=right * settled, step=step))
            rows.append(Score(scorer="planted", metric=self.metric, value=right * process, step=step))
        return rows

    def sample(self, position: int) -> Sample:
        """The sample at `position`."""
        prompt = self.prompts[position] if position < len(self.prompts) else f"Go round wall {position} to the goal."
        return Sample(
            SampleRecord(family="detour", prompt=prompt, difficulty="easy", labels={"wall": position}, answers=2),
            first_frame=self.videos(position, 0)[-1, 0],
            video=self.videos(position, 0)[-1],
        )

    def run(self, sample_id: str, seed: int) -> Run:
        """The record of a run."""
        keeps = tuple(
            CaptureItem(site=site, reduction=kind) for site, kind in (name.split("/") for name in self.arrays)
        )
        return Run(
            model=ModelRef(
                id=self.model, weight_hash=self.weight_hash, pipeline="WanImageToVideoPipeline", dtype="float32"
            ),
            sample_id=sample_id,
            seed=seed,
            settings=SamplerSettings(
                steps=self.steps,
                guidance=1.0,
                height=self.size,
                width=self.size,
                frames=self.video_frames,
                scheduler="FlowMatchEulerDiscreteScheduler",
            ),
            interventions=self.interventions,
            capture=CaptureSpec(items=keeps),
            parent_id=None if self.parent is None else self.parent.run(sample_id, seed).id,
        )

    def plant(self, path: Path) -> store.ActivationStore:
        """Write every run into the store at `path`, which may exist, and open it."""
        acts = store.open(path, mode="a")
        for position in range(self.samples):
            sample_id = acts.put_sample(self.sample(position))
            for seed in self.seeds:
                self._plant_run(acts, position, sample_id, seed)
        return acts

    def _plant_run(self, acts: store.ActivationStore, position: int, sample_id: str, seed: int) -> None:
        along = {"step": np.arange(self.steps)}
        with acts.begin_run(self.run(sample_id, seed), PROVENANCE) as writer:
            if "resid_post/energy" in self.arrays:
                coords = {**along, "branch": np.array(["cond"]), "layer": np.arange(self.layers)}
                _write(writer, "resid_post", "energy", self.energies(position, seed), coords)
            if "x0_hat/full" in self.arrays:
                _write(writer, "x0_hat", "full", self.latents(position, seed), along)
            videos = self.videos(position, seed)
            if "x0_hat/pixels" in self.arrays:
                _write(writer, "x0_hat", "pixels", videos, along)
            _write(writer, "output", "pixels", videos[-1], {})
            writer.set_steps(self.infos())
            if self.scored:
                writer.add_scores(self.scores(position))
            writer.commit(1.5)


def _write(writer: store.RunWriter, site: str, reduction: str, values: np.ndarray, coords: dict[str, Any]) -> None:
    """One array of a run, a shard a leading cell; `coords` names the leading axes in order."""
    tail = ("frame", "y", "x", "channel")[: values.ndim - len(coords)]
    writer.add_array(site, reduction, dims=(*coords, *tail), shape=values.shape, dtype=str(values.dtype), coords=coords)
    names = list(coords)
    for position in np.ndindex(values.shape[: len(names)]):
        index = {name: int(at) for name, at in zip(names, position, strict=True)}
        writer.write(site, reduction, index, np.ascontiguousarray(values[position]))
