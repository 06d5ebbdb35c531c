"""A store whose queries and keys know where one thing goes, and whose heads know frames, in one cell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import store
from store import Sample, SampleRecord
from tests.planted import PROVENANCE, Planted, _write

Head = str
"""`track`: finds the thing where it goes; `still`: finds the same place; `noise`."""


@dataclass(frozen=True, kw_only=True)
class PlantedMotion(Planted):
    """A coloured square of one token goes from one place to another on a grey ground; heads see it or do not.

    In the cell `at`, heads are as `heads` says; everywhere else they are noise. `z` tells frames apart in the heads of
    `frames_in`, in the cell `at`.
    """

    samples: int = 12
    steps: int = 2
    layers: int = 2
    frames: int = 3
    grid: int = 8
    video_frames: int = 5
    size: int = 32
    at: tuple[int, int] = (1, 0)
    heads: tuple[Head, ...] = ("noise", "track", "noise")
    frames_in: tuple[int, ...] = (2,)
    """Heads of `z` that tell frames apart."""
    width: int = 16
    """Channels of a head."""
    strength: float = 6.0
    offset: float = 0.8
    """Size of what tokens of a frame share in `z`, in deviations of the noise."""
    answers: int = 1
    process: float | None = None
    """What the finished videos score, None for no score."""
    arrays: tuple[str, ...] = ("q/full", "k/full", "z/full")
    scored: bool = False
    one_head: bool = False
    """Whether maps are the mean over heads."""
    tracked: bool = True
    segmented: bool = True

    def way(self, position: int) -> np.ndarray:
        """The thing's place in tokens, `[video frame, 2]`: away from its start at once, in a straight line."""
        rng = np.random.default_rng([position, 20])
        while True:
            ends = rng.integers(0, self.grid, size=(2, 2))
            if np.linalg.norm(ends[1] - ends[0]) >= 4:
                break
        along = np.linspace(0, 1, self.video_frames)[:, None] ** 0.5
        way = ends[0] + along * (ends[1] - ends[0])
        return np.concatenate([way[:1], np.round(way[1:])])

    def places(self, position: int) -> np.ndarray:
        """Its place in each latent frame, a token `[frame, 2]`."""
        way = self.way(position)
        each = (self.video_frames - 1) // (self.frames - 1)
        later = way[1:].reshape(self.frames - 1, each, 2).mean(axis=1)
        return np.concatenate([way[:1], later]).round().astype(int)

    def pictures(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Video uint8 `[frame, y, x, channel]` and segmentation `[frame, y, x]`."""
        rng = np.random.default_rng([position, 21])
        side = self.size // self.grid
        video = np.full((self.video_frames, self.size, self.size, 3), 128, np.uint8)
        video += rng.integers(0, 20, size=video.shape, dtype=np.uint8)
        which = np.zeros(video.shape[:3], np.uint8)
        for frame, (y, x) in enumerate((self.way(position) * side).astype(int)):
            video[frame, y : y + side, x : x + side] = [220, 40, 40]
            which[frame, y : y + side, x : x + side] = 1
        return video, which

    def sample(self, position: int) -> Sample:
        """The sample at `position`."""
        video, which = self.pictures(position)
        side = self.size // self.grid
        tracks = ((self.way(position) + 0.5) * side).astype(np.float32)[None]
        record = SampleRecord(
            family="move", prompt=f"Move {position}", labels={"position": position}, answers=self.answers
        )
        return Sample(
            record,
            first_frame=video[0],
            video=video,
            tracks=tracks if self.tracked else None,
            segmentation=which if self.segmented else None,
        )

    def heads_of(self, site: str, position: int, seed: int) -> np.ndarray:
        """`q`, `k` or `z`, float32 `[step, branch, layer, frame, y, x, head, channel]`."""
        rng = np.random.default_rng([position, seed, "qkz".index(site)])
        shape = (self.steps, 1, self.layers, self.frames, self.grid, self.grid, len(self.heads), self.width)
        found = rng.standard_normal(shape)
        cell = found[self.at[0], 0, self.at[1]]
        if site == "z":
            for head in self.frames_in:
                own = np.random.default_rng([position, seed, head, 22]).standard_normal((self.frames, self.width))
                cell[..., head, :] += self.offset * own[:, None, None]
            return found.astype(np.float32)
        codes = np.random.default_rng(23).standard_normal((self.grid, self.grid, self.width))
        name = np.random.default_rng([position, 24]).standard_normal(self.width)
        for number, head in enumerate(self.heads):
            if head == "still":
                cell[..., number, :] += self.strength * codes
            if head == "track":
                for frame, (y, x) in enumerate(self.places(position)):
                    cell[frame, y, x, number] += self.strength * name
        return found.astype(np.float32)

    def maps(self, position: int, seed: int) -> np.ndarray:
        """Attention of the first frame's tokens, float32 `[step, branch, layer, head, query, frame, y, x]`."""
        q, k = (self.heads_of(site, position, seed) for site in "qk")
        first = q[:, :, :, 0].reshape(*q.shape[:3], -1, *q.shape[-2:])
        logits = np.einsum("sblqad,sblfyxad->sblaqfyx", first, k) / np.sqrt(self.width)
        raised = np.exp(logits - logits.max(axis=(-3, -2, -1), keepdims=True))
        return (raised / raised.sum(axis=(-3, -2, -1), keepdims=True)).astype(np.float32)

    def plant(self, path: Path) -> store.ActivationStore:
        """Write every run into the store at `path`, which may exist, and open it."""
        acts = store.open(path, mode="a")
        for position in range(self.samples):
            sample_id = acts.put_sample(self.sample(position))
            for seed in self.seeds:
                self._plant_motion(acts, position, sample_id, seed)
        return acts

    def _plant_motion(self, acts: store.ActivationStore, position: int, sample_id: str, seed: int) -> None:
        cells: dict[str, Any] = {
            "step": np.arange(self.steps),
            "branch": np.array(["cond"]),
            "layer": np.arange(self.layers),
        }
        with acts.begin_run(self.run(sample_id, seed), PROVENANCE) as writer:
            for site in sorted({name[0] for name in self.arrays} - {"p"}):
                values = self.heads_of(site, position, seed)
                if f"{site}/full" in self.arrays:
                    flat = values.reshape(*values.shape[:-2], -1)
                    self._write_cells(writer, site, "full", flat, cells, ("frame", "y", "x", "channel"))
                if f"{site}/head_energy" in self.arrays:
                    energy = np.moveaxis(np.linalg.norm(values, axis=-1), -1, 3)
                    heads = {**cells, "head": np.arange(len(self.heads))}
                    self._write_cells(writer, site, "head_energy", energy, heads, ("frame", "y", "x"))
            if "pattern/map" in self.arrays:
                labels = [f"0:{y}:{x}" for y in range(self.grid) for x in range(self.grid)]
                more = {**cells, "head": np.arange(len(self.heads)), "query": np.array(labels)}
                maps = self.maps(position, seed)
                if self.one_head:
                    maps = maps.mean(axis=3)
                    del more["head"]
                self._write_cells(writer, "pattern", "map", maps, more, ("frame", "y", "x"))
            _write(writer, "output", "pixels", self.pictures(position)[0], {})
            writer.set_steps(self.infos())
            if self.process is not None:
                writer.add_scores([store.Score(scorer="planted", metric="process", value=self.process)])
            writer.commit(1.5)

    def _write_cells(
        self,
        writer: store.RunWriter,
        site: str,
        reduction: str,
        values: np.ndarray,
        coords: dict[str, Any],
        tail: tuple[str, ...],
    ) -> None:
        along = ("step", "branch", "layer")
        writer.add_array(
            site,
            reduction,
            dims=(*coords, *tail),
            shape=values.shape,
            dtype="float32",
            coords=coords,
            files_along=along,
            attrs={"heads": len(self.heads)},
        )
        for place in np.ndindex(values.shape[:3]):
            index = {name: int(at) for name, at in zip(along, place, strict=True)}
            writer.write(site, reduction, index, np.ascontiguousarray(values[place], np.float32))
