"""Stores with objects that move and hide: what is known of them is written into features at steps of choice."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import store
from store import Sample, SampleRecord
from tests.planted import PROVENANCE, Planted, _write

COLOURS, SHAPES = ("red", "green", "blue"), ("circle", "square")


@dataclass(frozen=True, kw_only=True)
class PlantedTracks(Planted):
    """Frame means of noise (`resid_post/frame_mean`), into which truths of the thing are written.

    The thing moves in a straight line; `cover` video frames in the middle hide it behind a panel.
    """

    samples: int = 60
    seeds: tuple[int, ...] = (0,)
    steps: int = 6
    layers: int = 2
    channels: int = 24
    video_frames: int = 9
    since: dict[str, int] = field(default_factory=dict[str, int])
    """Truth (`colour`, `shape`, `where`, `how`) → step from which it is written."""
    strength: float = 3.0
    cover: tuple[int, ...] = ()
    """Video frames in which the thing is hidden."""
    forgets: bool = False
    """Whether nothing is written in frames that hide the thing."""
    in_picture: bool = False
    """Whether x̂0 tells the colour in all frames: nothing need be remembered then."""
    told: bool = False
    """Whether the prompt tells the colour."""
    moves: bool = True
    arrays: tuple[str, ...] = ("resid_post/frame_mean", "x0_hat/full")
    scored: bool = False

    def looks(self, position: int) -> tuple[int, int]:
        """Numbers of its colour and shape."""
        return position % 3, position // 3 % 2

    def track(self, position: int) -> np.ndarray:
        """Centre by video frame, float32 `[V, 2]`."""
        rng = np.random.default_rng([position, 21])
        start, way = rng.uniform(6, 18, 2), rng.uniform(-5, 5, 2) * self.moves
        return (start + np.linspace(0, 1, self.video_frames)[:, None] * way).astype(np.float32)

    def sample(self, position: int) -> Sample:
        """The sample at `position`."""
        colour, shape = self.looks(position)
        track = self.track(position)
        segmentation = np.zeros((self.video_frames, self.size, self.size), np.uint8)
        for frame, (y, x) in enumerate(track.round().astype(int)):
            if frame not in self.cover:
                segmentation[frame, max(0, y - 2) : y + 2, max(0, x - 2) : x + 2] = 1
        video = np.full((self.video_frames, self.size, self.size, 3), position % 251, np.uint8)
        labels = {
            "objects": ["thing"],
            "colours": {"thing": COLOURS[colour]},
            "shapes": {"thing": SHAPES[shape]},
        }
        prompt = f"Case {position}{f' is {COLOURS[colour]}' if self.told else ''}"
        record = SampleRecord(family="occlusion", prompt=prompt, labels=labels, answers=1)
        return Sample(record, first_frame=video[0], video=video, tracks=track[None], segmentation=segmentation)

    def features(self, position: int, seed: int) -> np.ndarray:
        """Float32 `[step, branch, layer, frame, channel]`."""
        rng = np.random.default_rng([position, seed, 22])
        found = rng.standard_normal((self.steps, 1, self.layers, self.frames, self.channels))
        basis = np.linalg.qr(np.random.default_rng(23).standard_normal((self.channels, 8)))[0].T
        colour, shape = self.looks(position)
        track = self.track(position) / 4
        own = track if self.frames == self.video_frames else self.latent(track)
        written: dict[str, Any] = {
            "colour": (colour - 1) * basis[0] + (colour == 1) * basis[1],
            "shape": (2 * shape - 1) * basis[2],
            "where": track[0] @ basis[3:5],
            "how": (track[-1] - track[0]) @ basis[5:7],
            "place": own @ basis[3:5],
        }
        there = np.ones((self.frames, 1))
        if self.forgets:
            there = 1 - (self.latent(np.isin(np.arange(self.video_frames), self.cover)[:, None]) > 0.5)
        for name, step in self.since.items():
            found[step:] += self.strength * there * written[name]
        return found.astype(np.float32)

    def latent(self, values: np.ndarray) -> np.ndarray:
        """Means over the video frames of each latent frame, `[F, …]`."""
        per = (self.video_frames - 1) // (self.frames - 1)
        later = values[1:].reshape(self.frames - 1, per, *values.shape[1:]).mean(axis=1)
        return np.concatenate([values[:1], later])

    def latents(self, position: int, seed: int) -> np.ndarray:
        """x̂0 `[step, frame, y, x, channel]`: noise, with the colour in one channel if `in_picture`."""
        rng = np.random.default_rng([position, seed, 24])
        found = rng.standard_normal((self.steps, self.frames, self.grid, self.grid, 4))
        if self.in_picture:
            found[..., 0] += 6 * (self.looks(position)[0] - 1)
        return found.astype(np.float32)

    def plant(self, path: Path) -> store.ActivationStore:
        """Write every run into the store at `path`, which may exist, and open it."""
        acts = store.open(path, mode="a")
        for position in range(self.samples):
            sample_id = acts.put_sample(self.sample(position))
            for seed in self.seeds:
                self._plant_tracks(acts, position, sample_id, seed)
        return acts

    def _plant_tracks(self, acts: store.ActivationStore, position: int, sample_id: str, seed: int) -> None:
        along = {"step": np.arange(self.steps)}
        cells = {**along, "branch": np.array(["cond"]), "layer": np.arange(self.layers)}
        with acts.begin_run(self.run(sample_id, seed), PROVENANCE) as writer:
            values = self.features(position, seed)
            writer.add_array(
                "resid_post",
                "frame_mean",
                dims=(*cells, "frame", "channel"),
                shape=values.shape,
                dtype="float32",
                coords=cells,
                files_along=("step",),
            )
            for step in range(self.steps):
                writer.write("resid_post", "frame_mean", {"step": step}, values[step])
            if "x0_hat/full" in self.arrays:
                _write(writer, "x0_hat", "full", self.latents(position, seed), along)
            writer.set_steps(self.infos())
            writer.commit(1.5)
