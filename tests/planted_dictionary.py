"""A store whose tokens are sums of a few of some directions, or Gaussian with the same covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.planted_features import PlantedFeatures


@dataclass(frozen=True, kw_only=True)
class PlantedDictionary(PlantedFeatures):
    """Tokens of `resid_post` of which `together` of `parts` directions are active at each, with a little noise."""

    samples: int = 6
    seeds: tuple[int, ...] = (0, 1)
    steps: int = 2
    layers: int = 1
    channels: int = 16
    parts: int = 20
    together: int = 2
    gaussian: bool = False
    early: int | None = None
    """A direction that is active at the first step alone."""
    massive: float = 1.0
    """Size of the first channel, as a multiple."""
    arrays: tuple[str, ...] = ("resid_post/full", "output/pixels")
    at: tuple[int, int] | None = None

    def directions(self) -> np.ndarray:
        """Unit vectors `[part, channel]`, before the first channel is made massive."""
        found = np.random.default_rng(30).standard_normal((self.parts, self.channels))
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def activations(self, position: int, seed: int) -> np.ndarray:
        """How active each direction is, `[step, branch, layer, frame, y, x, part]`."""
        rng = np.random.default_rng([position, seed, 31])
        shape = (self.steps, 1, self.layers, self.frames, self.grid, self.grid, self.parts)
        drawn = rng.random(shape)
        if self.early is not None:
            drawn[1:, ..., self.early] = 2
        least = np.sort(drawn, axis=-1)[..., self.together - 1 : self.together]
        return np.where(drawn <= least, rng.uniform(1, 2, shape), 0)

    def tokens(self, position: int, seed: int) -> np.ndarray:
        """See `PlantedFeatures.tokens`."""
        rng = np.random.default_rng([position, seed, 32])
        found = self.activations(position, seed) @ self.directions()
        if self.gaussian:
            many = np.concatenate([self.activations(100 + one, 0).reshape(-1, self.parts) for one in range(4)])
            covariance = np.cov(many @ self.directions(), rowvar=False)
            found = rng.multivariate_normal(np.zeros(self.channels), covariance, found.shape[:-1], method="eigh")
        found += 3 + 0.05 * rng.standard_normal(found.shape)
        found[..., 0] *= self.massive
        return found.astype(np.float32)
