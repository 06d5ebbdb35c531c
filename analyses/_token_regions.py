"""Parts of the token grid: the foreground of a sample, and classes of tokens that massive activations prefer.

Shapes: V video frames, H×W pixels, F latent frames, h×w tokens.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from store import ActivationStore, dims

REGION: Final = "region"
"""Axis of parts of the grid, here only."""
ALL: Final = "all"
"""All tokens of a frame."""
TOKEN_CLASS: Final = "token_class"
"""Axis of classes of tokens."""
CLASSES: Final = ("first frame", "frame border", "interior")
"""`first frame`: all tokens of latent frame 0. `frame border`: the first and the last row of every later one, the head
and the tail of what one latent frame adds to the sequence. `interior`: its other rows. Text tokens are no class: the
sites that are stored hold the tokens of the video. (Classes after arXiv 2603.17825.)"""
FOREGROUND: Final = ("foreground", "background", "foreground elsewhere", "background elsewhere")
"""Of the sample itself, and where another sample has them."""

Mask = NDArray[np.float32]
"""Share of each token that is foreground, `[F, h, w]`."""


def coverage(segmentation: NDArray[np.uint8], grid: tuple[int, int, int]) -> Mask:
    """How much of each token is foreground.

    A latent frame stands for the video frames that a causal VAE packs into it: the first for one, each other for as
    many; where the frames do not divide so, for equal shares of them. A token covers its share of the picture.

    Args:
        segmentation: `[V, H, W]`, 0 is background.
        grid: F, h, w.
    """
    there = (segmentation > 0).astype(np.float32)
    in_time = frames(len(there), grid[0])
    rows, columns = _overlap(there.shape[1], grid[1]), _overlap(there.shape[2], grid[2])
    return np.einsum("fv,vij,hi,wj->fhw", in_time, there, rows, columns, optimize=True).astype(np.float32)


def frames(video: int, latent: int) -> NDArray[np.float64]:
    """Share of each video frame in each latent one, `[F, V]`, rows add up to 1."""
    if latent > 1 and video > latent and (video - 1) % (latent - 1) == 0:
        found = np.zeros((latent, video))
        found[0, 0] = 1
        found[1:, 1:] = _overlap(video - 1, latent - 1)
        return found
    return _overlap(video, latent)


def _overlap(count: int, cells: int) -> NDArray[np.float64]:
    """Share of each of `count` equal parts of a line in each of `cells` equal ones, `[cells, count]`."""
    edges, parts = np.linspace(0, 1, cells + 1), np.linspace(0, 1, count + 1)
    shared = np.minimum(edges[1:, None], parts[None, 1:]) - np.maximum(edges[:-1, None], parts[None, :-1])
    return shared.clip(0) * cells


def masks(acts: ActivationStore, samples: list[str], grid: tuple[int, int, int]) -> dict[str, Mask]:
    """Foreground of the samples that carry a segmentation with something in it."""
    found: dict[str, Mask] = {}
    for sample in samples:
        segmentation = acts.sample(sample).segmentation
        if segmentation is not None and segmentation.any():
            found[sample] = coverage(segmentation, grid)
    return found


def regions(grid: tuple[int, int, int], own: Mask | None, other: Mask | None) -> xr.DataArray:
    """Weights of the tokens of each part, of all first, `[region, frame, y, x]`; of parts that are not known, none.

    Foreground counts by the share of the token that is covered; background are tokens without any.
    """
    classes = np.zeros((len(CLASSES), *grid), np.float32)
    classes[0, 0] = 1
    classes[1, 1:, [0, -1]] = 1
    classes[2, 1:] = 1 - classes[1, 1:]
    parts: list[Mask] = []
    for mask in (own, other):
        nothing = np.zeros(grid, np.float32)
        parts += [nothing, nothing] if mask is None else [mask, (mask == 0).astype(np.float32)]
    weights = np.concatenate([np.ones((1, *grid), np.float32), classes, np.stack(parts)])
    names = [ALL, *CLASSES, *FOREGROUND]
    return xr.DataArray(weights, dims=(REGION, dims.FRAME, dims.Y, dims.X), coords={REGION: names})


def weighted(tokens: NDArray[Any], weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Weighted mean of the tokens of each part in each frame, NaN for an empty part.

    Args:
        tokens: `[…, F, h, w]`.
        weights: `[region, F, h, w]`.

    Returns:
        `[…, F, region]`.
    """
    flat = tokens.reshape(*tokens.shape[:-2], -1)
    found = np.empty((*flat.shape[:-1], len(weights)))
    with np.errstate(invalid="ignore", divide="ignore"):
        for frame in range(flat.shape[-2]):
            found[..., frame, :] = flat[..., frame, :] @ weights[:, frame].reshape(len(weights), -1).T
        return found / weights.sum(axis=(-2, -1), dtype=np.float64).T
