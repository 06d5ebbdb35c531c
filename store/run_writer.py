"""Writing one run: arrays cell by cell from any thread, then everything visible at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from store import coordinates, dims, files, manifest
from store.array_writer import ALONG_STEP, ArrayWriter, Profile
from store.coordinates import Coordinate
from store.encodings import Quantised
from store.errors import IncompleteRun, InvalidArray, RunExists
from store.layout import Draft, Layout
from store.places import Location
from store.records import FORMAT, Encoding, Json, Provenance, Run, Score, StepInfo
from store.zarr_meta import CELL, group_json


class RunWriter:
    """One run being written; a context manager that removes what was not committed.

    Made by `ActivationStore.begin_run`. `write` may be called from many threads at once.

    Args:
        layout: The store's paths.
        run: What is generated.
        provenance: Where and when.

    Example:
        with acts.begin_run(run, provenance) as writer:
            writer.add_array("resid_post", "energy", dims=("step", "layer", "frame", "y", "x"), ...)
            writer.write("resid_post", "energy", {"step": 0, "layer": 0}, block)
            writer.set_steps(steps)
            writer.commit(seconds=12.5)
    """

    def __init__(self, layout: Layout, run: Run, provenance: Provenance) -> None:
        self.run, self.provenance, self.id = run, provenance, run.id
        self._columns = manifest.run_columns(run, provenance)
        if layout.has("runs", self.id):
            raise _exists(self.id)
        self._draft = Draft(layout, "runs", self.id)
        self._lock = threading.Lock()
        self._arrays: dict[tuple[str, str], ArrayWriter] = {}
        self._steps: tuple[StepInfo, ...] = ()
        self._scores: list[Score] = []
        self._done = False

    @property
    def path(self) -> Location:
        """The run's Zarr group, invisible until `commit`."""
        return self._draft.path

    def add_array(
        self,
        site: str,
        reduction: str,
        *,
        dims: Sequence[str],
        shape: Sequence[int],
        dtype: str | np.dtype[Any],
        coords: Mapping[str, Any],
        files_along: Sequence[str] = CELL,
        profile: Profile = "fast",
        encoding: Encoding = "exact",
        attrs: Json | None = None,
    ) -> None:
        """Announce an array before its first block.

        Args:
            site: Where in the model.
            reduction: What is kept of it; also the name of the Zarr array.
            dims: Names of the axes, a subsequence of `store.dims.ORDER` without `run`.
            shape: Their lengths.
            dtype: Of the values; `bfloat16` is written as its bits (uint16).
            coords: Labels. An axis's name → its labels (required for step, branch and layer; frame
                defaults to 0, 1, …), or another name → (axis, labels along it).
            files_along: Axes of which each element is a file of its own: all of step, branch and layer for
                large cells, only step for small ones, none for a single file.
            profile: See `Profile`.
            encoding: How floats are kept. A lossy one (see `store.encodings`) also makes the array
                `<reduction>_scale`; `load` hands out float32 again.
            attrs: The array's attributes, e.g. `{"units": "…"}`.

        Raises:
            InvalidArray: anything of this does not fit the format, or the array was announced before.
        """
        array = ArrayWriter(
            self.path,
            site,
            reduction,
            dims=tuple(dims),
            shape=tuple(shape),
            dtype=str(dtype),
            coords=coords,
            files_along=tuple(files_along),
            profile=profile,
            encoding=encoding,
            attrs=attrs or {},
        )
        with self._lock:
            if self._done:
                raise InvalidArray(f"run {self.id} was committed or discarded; {array.name} comes too late")
            added = [array] if array.scales is None else [array, array.scales]
            if taken := [one.name for one in added if (one.site, one.reduction) in self._arrays]:
                raise InvalidArray(f"{taken[0]} was added before; each site and reduction once")
            for one in added:
                one.create()
                self._arrays[site, one.reduction] = one

    def write(self, site: str, reduction: str, index: Mapping[str, int], block: NDArray[Any] | Quantised) -> None:
        """Write the values of one file, once.

        Args:
            site: Of an array that `add_array` announced.
            reduction: Of the same.
            index: Positions (not labels) along the axes `files_along` that the array has.
            block: The values along the remaining axes, e.g. `[frame, y, x]`, in the array's dtype; of a lossy array,
                its numbers and scales will do, where they were made elsewhere (`encodings.quantise`).

        Raises:
            InvalidArray: unknown array, position, shape or dtype, or the cell was written before.
            StoreFull, ReadOnlyStore: see `store.files.translated`.
        """
        with self._lock:
            array = self._arrays.get((site, reduction))
        if array is None:
            there = ", ".join(array.name for array in self._arrays.values()) or "none"
            raise InvalidArray(f"{site}/{reduction} was never added; call add_array first (added: {there})")
        array.write(index, block)

    def set_steps(self, steps: Sequence[StepInfo]) -> None:
        """Set the sampler's trajectory as it ran.

        Raises:
            InvalidArray: a step is named twice.
        """
        if len({step.step for step in steps}) < len(steps):
            raise InvalidArray(f"each step once, not {[step.step for step in steps]}")
        self._steps = tuple(sorted(steps, key=lambda step: step.step))

    def add_scores(self, scores: Sequence[Score]) -> None:
        """Add what scorers read off the run's videos."""
        with self._lock:
            self._scores += scores

    def commit(self, seconds: float) -> str:
        """Check that everything announced was written, and make the run visible.

        Args:
            seconds: How long the generation took.

        Returns:
            The run's id.

        Raises:
            IncompleteRun: cells or steps are missing.
            RunExists: another writer committed the same run first; this one's files are removed.
        """
        if self._done:
            raise IncompleteRun(f"run {self.id} was committed or discarded before; begin it anew")
        for array in self._arrays.values():  # all of them before the first file, so that a caller may mend and repeat
            array.check_complete(self._steps)
        for array in self._arrays.values():
            array.finish(self._steps)
        self._write_groups()
        data = manifest.encode("runs", self._row(seconds))
        won = self._draft.publish(data)
        self._done = True
        if not won:
            raise _exists(self.id)
        return self.id

    def discard(self) -> None:
        """Remove what was written, unless it was committed."""
        if not self._done:
            self._done = True
            self._draft.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.discard()

    def __repr__(self) -> str:
        return f"RunWriter({self.id}, {len(self._arrays)} arrays, {self.path})"

    def _write_groups(self) -> None:
        """The groups above the arrays; the run's own also holds the whole trajectory."""
        for site in sorted({site for site, _ in self._arrays}):
            files.write_new(self.path / site / "zarr.json", [group_json({})])
        trajectory = {
            name: Coordinate(dims.STEP, np.array([getattr(step, name) for step in self._steps]))
            for name in (dims.STEP, *ALONG_STEP)
            if self._steps
        }
        coordinates.write(self.path, trajectory)
        attributes: Json = {
            "format": FORMAT,
            "run_id": self.id,
            "run": self.run.model_dump(mode="json"),
            "provenance": self.provenance.model_dump(mode="json"),
            "coordinates": coordinates.names(trajectory),
        }
        files.write_new(self.path / "zarr.json", [group_json(attributes)])

    def _row(self, seconds: float) -> dict[str, Any]:
        arrays = [array.info() for array in self._arrays.values()]
        stats = [row for array in self._arrays.values() for row in array.stats]
        return {
            **self._columns,
            **manifest.array_columns(arrays),
            "path": self._draft.relative,
            "seconds": float(seconds),
            "trajectory": [step.model_dump() for step in self._steps],
            "scores": [score.model_dump() for score in self._scores],
            "token_stats": manifest.stats_column(stats),
            "metadata": manifest.file_rows(self._draft.others(manifest.value_files(arrays))),
        }


def _exists(id: str) -> RunExists:
    return RunExists(f"run {id} is complete already; runs are never overwritten, skip it (has_run tells beforehand)")
