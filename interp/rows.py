"""The runs of a batch as sinks of blocks: each writes its part, and keeps decoded x̂0 until they are scored."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

import store
from interp import resuming
from interp.geometry import Geometry
from interp.planning import ArrayPlan, Plan
from interp.scoring import Shown, scorable, scored
from store import Json, Run, Sample, Score, dims
from store.encodings import Quantised

_UNSCORED: Final = 64 << 20
"""Bytes of a run's x̂0 videos that wait to be scored."""


class Asked(NamedTuple):
    """A run that is to be made."""

    sample: Sample
    run: Run
    prefix: resuming.Prefix | None
    """Its first steps, if they are taken from a stored run."""


class Row:
    """One run of a batch while it is made: a sink of its blocks, which keeps decoded x̂0 for scoring."""

    def __init__(self, writer: store.RunWriter, asked: Asked, plan: Plan) -> None:
        self.writer = writer
        self.sample, self.run, self.prefix = asked
        self.waiting: list[Shown] = []
        """Decoded x̂0 that are not scored yet."""
        self.scores: list[Score] = []
        self._steps = {(a.site.name, a.reduction.name): a.steps for a in plan.arrays}
        self._lock = threading.Lock()
        for array in plan.arrays:
            _announce(writer, array, plan.geometry)

    def write(self, site: str, reduction: str, index: dict[str, int], block: NDArray[np.generic] | Quantised) -> None:
        """See `interp.stream.Sink`."""
        self.writer.write(site, reduction, index, block)
        if isinstance(block, Quantised):
            return
        if (site, reduction) == ("x0_hat", "pixels") and scorable(self.sample, block.shape):
            step = self._steps[site, reduction][index[dims.STEP]]
            with self._lock:
                self.waiting.append(Shown(self.sample, block.astype(np.uint8, copy=False), step))
                full: list[Shown] = []
                if sum(shown.video.nbytes for shown in self.waiting) > _UNSCORED:
                    full, self.waiting = self.waiting, []
            found = [score for scores in scored(full) for score in scores]
            with self._lock:
                self.scores += found

    def write_video(self, video: NDArray[np.uint8]) -> None:
        """Write the finished video, `[f, y, x, 3]`."""
        self.writer.add_array(
            "output",
            "pixels",
            dims=(dims.FRAME, dims.Y, dims.X, dims.CHANNEL),
            shape=video.shape,
            dtype="uint8",
            coords={},  # frames are numbered by the store
            profile="compact",
        )
        self.writer.write("output", "pixels", {}, video)


class Split:
    """Gives each run of a batch its part of a block."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def write(self, site: str, reduction: str, index: dict[str, int], block: NDArray[np.generic] | Quantised) -> None:
        """See `interp.stream.Sink`; the runs are the block's first axis."""
        parts = map(Quantised, *block) if isinstance(block, Quantised) else block
        for row, part in zip(self._rows, parts, strict=True):
            row.write(site, reduction, index, part)


def _announce(writer: store.RunWriter, array: ArrayPlan, geometry: Geometry) -> None:
    writer.add_array(
        array.site.name,
        array.reduction.name,
        dims=array.dims,
        shape=array.shape,
        dtype=str(array.dtype).removeprefix("torch."),
        coords=_coords(array),
        attrs=_attributes(array, geometry),
        files_along=array.dims[: -len(array.cell)] if array.reduction.by_cell else (dims.STEP,),
        profile="compact" if array.reduction.compressible else "fast",
        encoding=array.encoding,
    )


def _attributes(array: ArrayPlan, geometry: Geometry) -> Json:
    """How many heads lie side by side along the channels, where that is so: nothing else in the store tells."""
    return {"heads": geometry.heads} if array.site.by_head and dims.CHANNEL in array.dims else {}


def _coords(array: ArrayPlan) -> dict[str, Any]:
    """Labels of the axes that are no places; the store numbers frames, rows, columns and channels."""
    coords: dict[str, Any] = {dims.STEP: np.array(array.steps)}
    if array.branches:
        coords[dims.BRANCH] = np.array(array.branches)
    if array.layers:
        coords[dims.LAYER] = np.array(array.layers)
    return coords | array.reduction.labels()
