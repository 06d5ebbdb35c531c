"""One small picture for each of many runs, a hundred to a sheet, so that a browser decodes only those it shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reports._media import Sheet, video_sheet
from store import ActivationStore, dims

SIDE: Final = 72
"""Longest side of a thumbnail in pixels."""
ACROSS: Final = 10
"""Thumbnails of a row of a sheet."""
CHUNK: Final = ACROSS * ACROSS
"""Thumbnails of a sheet."""
_SHAPES: Final = """
SELECT run_id, shape FROM arrays WHERE site = 'output' AND reduction = 'pixels' AND list_contains(?, run_id)
"""


class Thumbnail(NamedTuple):
    """Where the picture of a run is."""

    sheet: int
    row: int
    column: int


class Thumbnails(NamedTuple):
    """All of them."""

    sheets: tuple[Sheet, ...]
    places: dict[str, Thumbnail]
    """By run; a run without a finished video has none."""


def thumbnails(acts: ActivationStore, run_ids: Sequence[str]) -> Thumbnails:
    """The last frame of each run's finished video, in the order of `run_ids`.

    Args:
        acts: The store.
        run_ids: Runs; neighbours share a sheet, unless their videos differ in size.
    """
    held = dict(acts.sql(_SHAPES, [list(run_ids)]).fetchall())
    sheets: list[Sheet] = []
    places: dict[str, Thumbnail] = {}
    for some in _chunks(run_ids, held):
        last = acts.load("output", "pixels", runs=some).isel({dims.FRAME: -1}).sel({dims.RUN: some}).to_numpy()
        places |= {run: Thumbnail(len(sheets), at // ACROSS, at % ACROSS) for at, run in enumerate(some)}
        sheets.append(_sheet(np.stack([_small(picture) for picture in last])))
    return Thumbnails(tuple(sheets), places)


def _chunks(run_ids: Sequence[str], held: dict[str, Any]) -> Iterator[list[str]]:
    """Runs whose videos are equally large, at most `CHUNK` at a time."""
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for run_id in run_ids:
        if run_id in held:
            by_shape.setdefault(tuple(held[run_id]), []).append(run_id)
    for same in by_shape.values():
        for at in range(0, len(same), CHUNK):
            yield same[at : at + CHUNK]


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 `[y, x, channel]`, its longer side at most `SIDE`."""
    image = Image.fromarray(picture)
    scale = min(1.0, SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS)) if scale < 1 else picture


def _sheet(pictures: NDArray[np.uint8]) -> Sheet:
    """`[picture, y, x, channel]` as a sheet; what is missing in its last row is white."""
    count, *shape = pictures.shape
    columns = min(count, ACROSS)
    rows = -(-count // columns)
    cells = np.full((rows * columns, *shape), 255, np.uint8)
    cells[:count] = pictures
    return video_sheet(cells.reshape(rows, columns, *shape), lossless=False)
