"""Where a sample's things truly go, on the grid of the model's tokens, and what a look at colours alone makes of it.

A latent frame stands for several video frames: the first for one, the others for equally many each (Wan: 1 + 4k).
Places are (row, column) in tokens, the middle of the first token at (0, 0); a thing is where it is on average over the
video frames of its latent frame.

Shapes: f latent frames, h×w tokens, n tokens of a thing.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyses.errors import BadTruth
from store import Sample

RADIUS: Final = 1.0
"""Tokens: how far from its place a match may lie and be right; neighbours above, below and beside are, diagonal ones
are not."""
MOST_TOKENS: Final = 64
"""Tokens of a thing that are looked for; of more, so many are taken evenly."""
COVERED: Final = 0.5
"""Share of a token's pixels that a thing must cover to own it."""
SEEN: Final = 0.5
"""A thing counts as seen in a latent frame if this share of what shows of it at first shows there, too."""
_PATCH: Final = 3
"""A patch's colours are the means of so many cells a side."""

Floats = NDArray[np.float64]


class Thing(NamedTuple):
    """One thing that moves."""

    tokens: NDArray[np.intp]
    """Its tokens in the first frame, (row, column) `[n, 2]`."""
    way: Floats
    """How far it is from its first place, in tokens `[f, 2]`."""
    seen: NDArray[np.bool_]
    """Where a match can be judged `[f]`: the thing shows and is inside the picture; False for the first frame."""

    @property
    def gone(self) -> NDArray[np.bool_]:
        """Where it is seen, farther than `RADIUS` from its first place `[f]`."""
        return self.seen & (np.linalg.norm(self.way, axis=1) > RADIUS)

    def targets(self) -> Floats:
        """Where each of its tokens belongs, `[n, f, 2]`; things are taken to be rigid and not to turn."""
        return self.tokens[:, None] + self.way[None]


def groups(video_frames: int, frames: int) -> list[slice]:
    """The video frames of each latent frame."""
    edges = np.linspace(1, video_frames, frames).round().astype(int)
    return [slice(0, 1), *(slice(int(one), int(other)) for one, other in pairwise(edges))]


def moving_things(sample: Sample, grid: tuple[int, int, int]) -> list[Thing]:
    """The things of a sample that are somewhere seen away from their first place.

    Args:
        sample: With tracks.
        grid: Latent frames, rows and columns of tokens.

    Raises:
        BadTruth: tracks have fewer frames than the latent video.
    """
    if sample.tracks is None:
        return []
    frames, rows, columns = grid
    height, width = sample.first_frame.shape[:2]
    if sample.tracks.shape[1] < frames:
        raise BadTruth(f"sample {sample.id} has tracks of {sample.tracks.shape[1]} frames for {frames} latent ones")
    along = groups(sample.tracks.shape[1], frames)
    scale = np.array([rows / height, columns / width])
    found: list[Thing] = []
    for number, track in enumerate(sample.tracks.astype(np.float64), start=1):
        tokens = _tokens(sample, number, track[0] * scale, (rows, columns))
        way = np.stack([track[part].mean(axis=0) - track[0] for part in along]) * scale
        ends = tokens.mean(axis=0) + way if len(tokens) else way
        inside = ((ends > -COVERED) & (ends < np.array([rows, columns]) - COVERED)).all(axis=1)
        thing = Thing(tokens, way, inside & _seen(sample, number, along))
        thing.seen[0] = False
        if len(tokens) and thing.gone.any():
            found.append(thing)
    return found


def _tokens(sample: Sample, number: int, centre: Floats, grid: tuple[int, int]) -> NDArray[np.intp]:
    """Tokens of a thing in the first frame `[n, 2]`: those that it covers, or the one that it covers most."""
    if sample.segmentation is None:
        at = np.floor(centre).astype(np.intp)
        return at[None] if ((at >= 0) & (at < grid)).all() else np.empty((0, 2), np.intp)
    share = cells((sample.segmentation[0] == number).astype(np.float64), grid)
    if share.max() <= 0:
        return np.empty((0, 2), np.intp)
    tokens = np.argwhere(share >= min(COVERED, share.max()))
    return tokens[np.linspace(0, len(tokens) - 1, min(len(tokens), MOST_TOKENS)).round().astype(int)]


def _seen(sample: Sample, number: int, along: list[slice]) -> NDArray[np.bool_]:
    if sample.segmentation is None:
        return np.ones(len(along), bool)
    area = (sample.segmentation == number).mean(axis=(1, 2))
    return np.array([area[part].mean() >= SEEN * area[0] for part in along])


def cells(values: Floats, grid: tuple[int, int]) -> Floats:
    """Means over the cells of a grid that need not divide the picture, `[rows, columns, …]` of `[y, x, …]`."""
    for axis, size in enumerate(grid):
        edges = np.linspace(0, values.shape[axis], size + 1).round().astype(int)
        parts = np.add.reduceat(values, edges[:-1], axis=axis)
        counts = np.diff(edges).reshape([-1 if at == axis else 1 for at in range(values.ndim)])
        values = parts / counts
    return values


def by_colour(video: NDArray[np.uint8], things: list[Thing], grid: tuple[int, int, int]) -> list[NDArray[np.intp]]:
    """For each thing, the patch of each later frame that looks most like its own, (row, column) `[n, f, 2]`.

    Args:
        video: The finished video, uint8 `[frame, y, x, channel]`; of each latent frame its middle one is looked at.
        things: As `moving_things` says.
        grid: Latent frames, rows and columns of tokens.
    """
    frames, rows, columns = grid
    along = groups(len(video), frames)
    middle = [video[(part.start + part.stop) // 2] for part in along]
    looks = np.stack([_looks(frame, rows, columns) for frame in middle])  # [f, h·w, colours]
    found: list[NDArray[np.intp]] = []
    for thing in things:
        own = looks[0, thing.tokens[:, 0] * columns + thing.tokens[:, 1]]
        near = np.stack([((own[:, None] - there[None]) ** 2).sum(axis=-1).argmin(axis=1) for there in looks], axis=1)
        found.append(np.stack(np.divmod(near, columns), axis=-1))
    return found


def _looks(frame: NDArray[np.uint8], rows: int, columns: int) -> Floats:
    """Colours of the patches of a frame, `[h·w, 3·_PATCH²]`."""
    fine = min(_PATCH, frame.shape[0] // rows, frame.shape[1] // columns)
    small = cells(frame.astype(np.float64), (rows * fine, columns * fine))
    parts = small.reshape(rows, fine, columns, fine, -1).swapaxes(1, 2)
    return parts.reshape(rows * columns, -1)
