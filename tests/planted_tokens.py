"""A store of whole tokens in which massive channels, a foreground and classes of tokens are planted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import store
from store import Sample, SampleRecord
from tests.planted import PROVENANCE, Planted, _write

MASSIVE = 5
"""Channel that carries the massive activation."""
AT = {"first frame": 3.0, "frame border": 1.5, "interior": 1.0}
"""How strong it is in each class of tokens, in units of `massive`."""


@dataclass(frozen=True, kw_only=True)
class PlantedTokens(Planted):
    """Gaussian tokens of deviation 1, float32, kept whole; energy and channel statistics follow from them."""

    samples: int = 3
    seeds: tuple[int, ...] = (0,)
    steps: int = 2
    layers: int = 4
    channels: int = 24
    massive: float = 0.0
    """What `MASSIVE` holds beside its noise, in interior tokens."""
    gain: float = 0.0
    """By how much tokens of the foreground are larger in `bright` layers."""
    bright: tuple[int, ...] = (3,)
    still: float = 0.0
    """By how much tokens of even columns, in which all foregrounds lie, are larger in every layer and sample."""
    segmented: bool = True
    arrays: tuple[str, ...] = ("resid_post/full",)
    full_layers: tuple[int, ...] | None = None
    """Layers that `full` keeps; all, if not given."""
    scored: bool = False

    def foreground(self, position: int) -> np.ndarray:
        """The segmentation, uint8 `[frame, y, x]`: a square of a token that moves down from a place of the sample's."""
        found = np.zeros((self.video_frames, self.size, self.size), np.uint8)
        side = self.size // self.grid
        column = position * 2 % self.grid * side
        for frame in range(self.video_frames):
            row = (frame + position) % self.grid * side
            found[frame, row : row + side, column : column + side] = 1
        return found

    def tokens(self, position: int, seed: int) -> np.ndarray:
        """Float32 `[step, branch, layer, frame, y, x, channel]`."""
        rng = np.random.default_rng([position, seed, 11])
        shape = (self.steps, 1, self.layers, self.frames, self.grid, self.grid, self.channels)
        found = rng.standard_normal(shape)
        scale = np.ones(shape[:-1])
        scale[..., ::2] += self.still
        scale[:, :, list(self.bright)] += self.gain * self.covered(position)
        found *= scale[..., None]
        found[..., MASSIVE] += self.massive * self.strength()
        return found.astype(np.float32)

    def covered(self, position: int) -> np.ndarray:
        """Share of each token that is foreground, `[frame, y, x]`, told in another way than the analysis does."""
        side = self.size // self.grid
        video = (self.foreground(position) > 0).reshape(self.video_frames, self.grid, side, self.grid, side)
        each = video.mean(axis=(2, 4))
        per = (self.video_frames - 1) // (self.frames - 1)
        return np.stack(
            [each[0], *(each[1 + per * at : 1 + per * (at + 1)].mean(axis=0) for at in range(self.frames - 1))]
        )

    def strength(self) -> np.ndarray:
        """Of the massive activation by token, `[frame, y, x]`."""
        found = np.full((self.frames, self.grid, self.grid), AT["interior"])
        found[1:, [0, -1]] = AT["frame border"]
        found[0] = AT["first frame"]
        return found

    def sample(self, position: int) -> Sample:
        """The sample at `position`."""
        video = np.full((self.video_frames, self.size, self.size, 3), position % 251, np.uint8)
        record = SampleRecord(family="detour", prompt=f"Case {position}", difficulty="easy", answers=1)
        segmentation = self.foreground(position) if self.segmented else None
        return Sample(record, first_frame=video[0], video=video, segmentation=segmentation)

    def plant(self, path: Path) -> store.ActivationStore:
        """Write every run into the store at `path`, which may exist, and open it."""
        acts = store.open(path, mode="a")
        for position in range(self.samples):
            sample_id = acts.put_sample(self.sample(position))
            for seed in self.seeds:
                self._plant_tokens(acts, position, sample_id, seed)
        return acts

    def _plant_tokens(self, acts: store.ActivationStore, position: int, sample_id: str, seed: int) -> None:
        cells = {"step": np.arange(self.steps), "branch": np.array(["cond"]), "layer": np.arange(self.layers)}
        tokens = self.tokens(position, seed)
        with acts.begin_run(self.run(sample_id, seed), PROVENANCE) as writer:
            if "resid_post/full" in self.arrays:
                kept = list(range(self.layers)) if self.full_layers is None else list(self.full_layers)
                _write(writer, "resid_post", "full", tokens[:, :, kept], {**cells, "layer": np.array(kept)})
            if "resid_post/energy" in self.arrays:
                _write(writer, "resid_post", "energy", np.linalg.norm(tokens, axis=-1), cells)
            if "resid_post/channel_stats" in self.arrays:
                over = (3, 4, 5)
                parts = (tokens.mean(axis=over), tokens.std(axis=over), np.abs(tokens).max(axis=over))
                writer.add_array(
                    "resid_post",
                    "channel_stats",
                    dims=(*cells, "stat", "channel"),
                    shape=(*parts[0].shape[:3], 3, self.channels),
                    dtype="float32",
                    coords={**cells, "stat": np.array(["mean", "std", "absmax"])},
                    files_along=("step",),
                )
                for step in range(self.steps):
                    values = np.stack([part[step] for part in parts], axis=2)
                    writer.write("resid_post", "channel_stats", {"step": step}, values)
            if "resid_post/project" in self.arrays:
                _write(writer, "resid_post", "project", tokens[..., : self.channels // 2], cells)
            writer.set_steps(self.infos())
            writer.commit(1.5)
