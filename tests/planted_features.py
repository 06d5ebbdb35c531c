"""A store whose activations hold known truths in known cells, for probes and for comparisons of representations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import store
from store import Sample, SampleRecord
from tests.planted import PROVENANCE, Planted, _write


@dataclass(frozen=True, kw_only=True)
class PlantedFeatures(Planted):
    """Mean tokens (`resid_post/token_mean`) of noise, in which labels are written at one step and layer.

    Every sample has the labels `side` (two classes), `colour` (three), `speed` (a number) and `answers` (a list);
    nothing else in the sample tells them, unless `told` writes the side into the prompt.
    """

    samples: int = 60
    seeds: tuple[int, ...] = (0,)
    steps: int = 3
    layers: int = 3
    channels: int = 24
    at: tuple[int, int] | None = (1, 2)
    """Step and layer that hold the labels; None for none."""
    strength: float = 3.0
    """Distance of the classes, and size of the number, in deviations of the noise."""
    fingerprint: float = 0.0
    """Size of a vector that all runs of one sample share, in every cell: it gives the sample away, and no label."""
    massive: float = 1.0
    """Size of the first channel's noise: as of a massive activation."""
    told: bool = False
    arrays: tuple[str, ...] = ("resid_post/token_mean",)
    full_layers: tuple[int, ...] | None = None
    """Layers that `full` keeps; all, if not given."""
    scored: bool = False

    def truth(self, position: int) -> dict[str, Any]:
        """Labels of a sample."""
        rng = np.random.default_rng([position, 5])
        side = ("left", "right")[position % 2]
        colour = ("red", "green", "blue")[position // 2 % 3]
        return {"side": side, "colour": colour, "speed": float(rng.normal()), "answers": [int(rng.integers(2)), side]}

    def features(self, position: int, seed: int) -> np.ndarray:
        """Mean tokens, float32 `[step, branch, layer, channel]`."""
        rng = np.random.default_rng([position, seed, 6])
        found = rng.standard_normal((self.steps, 1, self.layers, self.channels))
        own = np.random.default_rng([position, 7]).standard_normal((self.steps, 1, self.layers, self.channels))
        found += self.fingerprint * own
        if self.at is not None:
            truth, cell = self.truth(position), found[self.at[0], 0, self.at[1]]
            cell += self.strength * (truth["side"] == "right") * self.direction("side")
            cell += self.strength * ("red", "green", "blue").index(truth["colour"]) * self.direction("colour")
            cell += self.strength * truth["speed"] * self.direction("speed")
        found[..., 0] *= self.massive
        return found.astype(np.float32)

    def tokens(self, position: int, seed: int) -> np.ndarray:
        """Tokens around the mean ones, float32 `[step, branch, layer, frame, y, x, channel]`.

        Around them, layer 1 is layer 0 turned and scaled, every other layer is its own.
        """
        rng = np.random.default_rng([position, seed, 9])
        shape = (self.steps, 1, self.layers, self.frames, self.grid, self.grid, self.channels)
        around = rng.standard_normal(shape)
        turn = np.linalg.qr(np.random.default_rng(10).standard_normal((self.channels, self.channels)))[0]
        around[:, :, 1] = 3 * around[:, :, 0] @ turn
        return (self.features(position, seed)[:, :, :, None, None, None] + around).astype(np.float32)

    def direction(self, label: str) -> np.ndarray:
        """Unit vector along which a label is written, away from the massive channel; labels' are orthogonal."""
        basis = np.linalg.qr(np.random.default_rng(8).standard_normal((self.channels - 1, 3)))[0]
        return np.concatenate([[0.0], basis[:, ("side", "colour", "speed").index(label)]])

    def sample(self, position: int) -> Sample:
        """The sample at `position`."""
        truth = self.truth(position)
        prompt = f"Case {position} goes {truth['side']}" if self.told else f"Case {position}"
        video = np.full((self.video_frames, self.size, self.size, 3), position % 251, np.uint8)
        record = SampleRecord(family="detour", prompt=prompt, difficulty="easy", labels=truth, answers=1)
        return Sample(record, first_frame=video[0], video=video)

    def plant(self, path: Path) -> store.ActivationStore:
        """Write every run into the store at `path`, which may exist, and open it."""
        acts = store.open(path, mode="a")
        for position in range(self.samples):
            sample_id = acts.put_sample(self.sample(position))
            for seed in self.seeds:
                self._plant_features(acts, position, sample_id, seed)
        return acts

    def _plant_features(self, acts: store.ActivationStore, position: int, sample_id: str, seed: int) -> None:
        along = {"step": np.arange(self.steps)}
        cells = {**along, "branch": np.array(["cond"]), "layer": np.arange(self.layers)}
        with acts.begin_run(self.run(sample_id, seed), PROVENANCE) as writer:
            if "resid_post/token_mean" in self.arrays:
                values = self.features(position, seed)
                writer.add_array(
                    "resid_post",
                    "token_mean",
                    dims=(*cells, "channel"),
                    shape=values.shape,
                    dtype="float32",
                    coords=cells,
                    files_along=("step",),
                )
                for step in range(self.steps):
                    writer.write("resid_post", "token_mean", {"step": step}, values[step])
            if "resid_post/full" in self.arrays:
                kept = list(range(self.layers)) if self.full_layers is None else list(self.full_layers)
                tokens = self.tokens(position, seed)[:, :, kept]
                _write(writer, "resid_post", "full", tokens, {**cells, "layer": np.array(kept)})
            if "latent/full" in self.arrays:
                _write(writer, "latent", "full", self.latents(position, seed), along)
            if "output/pixels" in self.arrays:
                _write(writer, "output", "pixels", self.videos(position, seed)[-1], {})
            writer.set_steps(self.infos())
            writer.commit(1.5)
