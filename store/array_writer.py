"""Writing one array of a run: checked when announced, a file for each cell, counted until complete."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from store import bfloat16, codecs, coordinates, dims, encodings, files, shard, token_stats
from store.codecs import Codec
from store.coordinates import Coordinate
from store.encodings import Quantised
from store.errors import IncompleteRun, InvalidArray
from store.lossy import Quantiser
from store.places import Location
from store.records import ArrayInfo, Encoding, Json, StepInfo
from store.token_stats import TokenStats
from store.zarr_meta import CELL, DTYPES, ENCODING, ArrayMeta, group_json, label_dtype

Profile = Literal["fast", "compact"]
"""`fast` is uncompressed and directly addressable, `compact` is blosc (see `store.codecs`). Pixels and masks, uint8 and
bool, are always zstd."""

ALONG_STEP: Final[tuple[str, ...]] = ("timestep", "sigma", "sigma_next", "expert", "guidance")
"""What the sampler's trajectory says of each step."""

_BESIDE_ARRAYS = ("timestep", "sigma", "expert")  # the part of it that is repeated beside each array
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_RESERVED = {*dims.ORDER, *ALONG_STEP}


class ArrayWriter:
    """One array, `<run>/<site>/<reduction>/<reduction>`, with its coordinates beside it.

    Args and errors: see `RunWriter.add_array`.
    """

    def __init__(
        self,
        run: Location,
        site: str,
        reduction: str,
        *,
        dims: tuple[str, ...],
        shape: tuple[int, ...],
        dtype: str,
        coords: Mapping[str, Any],
        files_along: tuple[str, ...],
        profile: Profile,
        encoding: Encoding,
        attrs: Json,
    ) -> None:
        self.site, self.reduction, self.name = site, reduction, f"{site}/{reduction}"
        self.group = run / site / reduction
        self.folder = self.group / reduction
        self._check_names()
        self._dtype, self._quantiser = dtype, None
        if encoding != "exact":
            self._quantiser = Quantiser(self.name, reduction, encoding=encoding, dtype=dtype, dims=dims)
        self.meta = self._describe(dims, shape, files_along, profile, attrs)
        self._along = [name for name in self.meta.dims if name in files_along]
        self.coords = self._label(coords)
        self.scales = None if self._quantiser is None else self._scale_writer(run, self._quantiser)
        self.stats: list[TokenStats] = []
        self._lock = threading.Lock()
        self._begun: set[tuple[int, ...]] = set()
        self._shards: dict[str, tuple[int, str]] = {}

    def create(self) -> None:
        """Make the array's folder."""
        files.make_folder(self.folder)
        files.write_new(self.folder / "zarr.json", [self.meta.to_json()])

    def write(self, index: Mapping[str, int], block: NDArray[Any] | Quantised) -> None:
        """Write one cell; see `RunWriter.write`."""
        cell = self._cell(index)
        values = self._checked_numbers(block) if isinstance(block, Quantised) else self._checked(block)
        with self._lock:
            if cell in self._begun:
                raise InvalidArray(f"{self.name} at {dict(index)} was written before; each cell once")
            self._begun.add(cell)
        file = self.meta.file(cell)
        try:
            written = self._write_files(file, index, values)
        except BaseException:
            with self._lock:
                self._begun.discard(cell)
            raise
        stats = self._measure(cell, values)
        with self._lock:
            self._shards[file] = (written.nbytes, written.crc32c)
            self.stats += stats

    def check_complete(self, steps: Sequence[StepInfo]) -> None:
        """Raise IncompleteRun unless every cell was written and `steps` names every step of the array."""
        cells = list(itertools.product(*map(range, self.meta.grid)))
        missing = [cell for cell in cells if self.meta.file(cell) not in self._shards]
        if missing:
            where = ", ".join(f"{name}={label}" for name, label in self._labels_of(missing[0]).items())
            raise IncompleteRun(
                f"{self.name}: {len(missing)} of {len(cells)} cells were not written, the first at {where or 'all'}"
            )
        unknown = sorted(set(self._steps()) - {step.step for step in steps})
        if unknown:
            raise IncompleteRun(f"{self.name} keeps steps {unknown}, which set_steps did not name")

    def finish(self, steps: Sequence[StepInfo]) -> None:
        """Write the coordinates, those along `step` as the sampler ran them, and the group around the array.

        `check_complete` has passed with the same `steps`.
        """
        named = dict(self.coords)
        if dims.STEP in self.coords:
            by_step = {step.step: step for step in steps}
            for name in _BESIDE_ARRAYS:
                values = np.array([getattr(by_step[label], name) for label in self._steps()])
                named.setdefault(name, Coordinate(dims.STEP, values))
        coordinates.write(self.group, named)
        files.write_new(self.group / "zarr.json", [group_json({"coordinates": coordinates.names(named)})])

    def info(self) -> ArrayInfo:
        """What the manifest says of the array."""
        return ArrayInfo(
            site=self.site,
            reduction=self.reduction,
            dims=self.meta.dims,
            shape=self.meta.shape,
            dtype=self.meta.dtype,
            encoding=self.meta.encoding,
            nbytes=self.meta.nbytes,
            stored=sum(nbytes for nbytes, _ in self._shards.values()),
            shards=dict(sorted(self._shards.items())),
        )

    def _steps(self) -> list[int]:
        """Labels of the array's steps; none if it has no such axis."""
        return [int(label) for label in self.coords[dims.STEP].values] if dims.STEP in self.coords else []

    def _check_names(self) -> None:
        for what, name in (("site", self.site), ("reduction", self.reduction)):
            if not _NAME.fullmatch(name) or name in _RESERVED:
                raise InvalidArray(
                    f"{name!r} cannot name a {what}: use a letter, then letters, digits and _, and none of "
                    f"{', '.join(sorted(_RESERVED))}"
                )

    def _describe(
        self,
        names: tuple[str, ...],
        shape: tuple[int, ...],
        files_along: tuple[str, ...],
        profile: Profile,
        attrs: Json,
    ) -> ArrayMeta:
        dtype = self._dtype
        allowed = [name for name in dims.ORDER if name in names and name != dims.RUN]
        if not names or list(names) != allowed:
            raise InvalidArray(f"{self.name}: dims {names} are not a subsequence of {dims.ORDER[1:]}")
        if len(names) != len(shape) or any(size < 1 for size in shape):
            raise InvalidArray(f"{self.name}: shape {shape} does not give each of {names} a length of at least 1")
        if dtype not in DTYPES:
            raise InvalidArray(f"{self.name}: dtype {dtype} cannot be stored; use one of {', '.join(DTYPES)}")
        if profile not in get_args(Profile):
            raise InvalidArray(f"{self.name}: profile {profile!r} does not exist; use one of {get_args(Profile)}")
        if not set(files_along) <= set(CELL):
            raise InvalidArray(f"{self.name}: files can be split along {', '.join(CELL)}, not {files_along}")
        if ENCODING in attrs:
            raise InvalidArray(f"{self.name}: the attribute {ENCODING} is the store's own; use another name")
        codec: Codec = "zstd" if dtype in ("uint8", "bool") else "blosc" if profile == "compact" else "none"
        codecs.check(codec)
        if self._quantiser is not None:
            dtype = encodings.stored_dtype(self._quantiser.encoding)
            attrs = {**attrs, **self._quantiser.attributes}
        sizes = [int(size) for size in shape]
        return ArrayMeta.sharded(
            names, sizes, dtype, files_along=files_along, split=dims.FRAME, codec=codec, attributes=attrs
        )

    def _scale_writer(self, run: Location, quantiser: Quantiser) -> ArrayWriter:
        """The array of the scales, which `write` fills."""
        kept = [axis for axis, name in enumerate(self.meta.dims) if name not in encodings.WITHIN]
        return ArrayWriter(
            run,
            self.site,
            quantiser.scale_name,
            dims=tuple(self.meta.dims[axis] for axis in kept),
            shape=tuple(self.meta.shape[axis] for axis in kept),
            dtype="float32",
            coords={name: given for name, given in self.coords.items() if given.dim not in encodings.WITHIN},
            files_along=tuple(self._along),
            profile="fast",
            encoding="exact",
            attrs={},
        )

    def _write_files(self, file: str, index: Mapping[str, int], values: NDArray[Any] | Quantised) -> files.Written:
        """Write the file of one cell, and that of its scales."""
        if self._quantiser is None or self.scales is None:
            assert not isinstance(values, Quantised)
            return files.write_new(self.folder / file, shard.encode(values, self.meta))
        chunks: list[NDArray[np.float32]] = []
        done = isinstance(values, Quantised)
        parts = shard.encode(values.numbers, self.meta) if done else self._quantiser.encode(values, self.meta, chunks)
        written = files.write_new(self.folder / file, parts)
        try:
            scale = values.scale if done else self._quantiser.gather(chunks, self.meta)
            self.scales.write(index, scale.reshape(self.scales.block))
        except BaseException:
            files.remove(self.folder / file)
            raise
        return written

    def _label(self, coords: Mapping[str, Any]) -> dict[str, Coordinate]:
        sizes = dict(zip(self.meta.dims, self.meta.shape, strict=True))
        labelled = {name: self._coordinate(name, given, sizes) for name, given in coords.items()}
        if dims.FRAME in sizes:
            labelled.setdefault(dims.FRAME, Coordinate(dims.FRAME, np.arange(sizes[dims.FRAME])))
        missing = [name for name in sizes if name in CELL and name not in labelled]
        if missing:
            raise InvalidArray(f"{self.name}: coords must hold the labels of {', '.join(missing)}")
        return labelled

    def _coordinate(self, name: str, given: Any, sizes: Mapping[str, int]) -> Coordinate:
        dim, values = given if _is_pair(given) else (name, given)
        labels, values = values, np.asarray(values)
        if values.dtype.kind == "U" and values.tolist() != list(labels):
            raise InvalidArray(f"{self.name}: NumPy drops the NUL at the end of a label of {name}; use other labels")
        if name == self.reduction or not _NAME.fullmatch(name) or (name in dims.ORDER and name != dim):
            raise InvalidArray(f"{self.name}: {name!r} cannot name a coordinate of {dim!r}")
        if dim not in sizes or values.shape != (sizes[dim],):
            raise InvalidArray(f"{self.name}: coordinate {name} of shape {values.shape} does not fit {dict(sizes)}")
        if name == dim and len(np.unique(values)) < len(values):
            raise InvalidArray(f"{self.name}: the labels of {name} are not unique: {values.tolist()}")
        try:
            label_dtype(values)
        except ValueError as error:
            raise InvalidArray(f"{self.name}: coordinate {name}: {error}") from error
        return Coordinate(dim, values)

    def _cell(self, index: Mapping[str, int]) -> tuple[int, ...]:
        """Position in the grid of files."""
        sizes = dict(zip(self.meta.dims, self.meta.shape, strict=True))
        if sorted(index) != sorted(self._along) or any(not 0 <= index[name] < sizes[name] for name in self._along):
            ranges = ", ".join(f"{name} in 0…{sizes[name] - 1}" for name in self._along) or "an empty index"
            raise InvalidArray(f"{self.name}: {dict(index)} is no file of it; give {ranges}")
        return tuple(int(index.get(name, 0)) for name in self.meta.dims)

    @property
    def block(self) -> tuple[int, ...]:
        """Shape of what `write` takes."""
        sizes = zip(self.meta.dims, self.meta.shape, strict=True)
        return tuple(size for name, size in sizes if name not in self._along)

    def _checked_numbers(self, block: Quantised) -> Quantised:
        if self.scales is None or self.reduction == token_stats.REDUCTION:
            raise InvalidArray(f"{self.name} takes values, not numbers with a scale")
        kept = zip((name for name in self.meta.dims if name not in self._along), self.block, strict=True)
        scale = tuple(1 if name in encodings.WITHIN else size for name, size in kept)
        found = (block.numbers.dtype, block.numbers.shape, block.scale.dtype, block.scale.shape)
        if found != (self.meta.numpy, self.block, np.float32, scale):
            raise InvalidArray(
                f"{self.name}: a block is {self.meta.dtype} of {self.block} with a scale float32 of {scale}, not "
                f"{found[0]} of {found[1]} with {found[2]} of {found[3]}"
            )
        return block

    def _checked(self, block: NDArray[Any]) -> NDArray[Any]:
        shape = self.block
        wanted = bfloat16.numpy_dtype(self._dtype)
        if block.shape != shape or block.dtype != wanted:
            hint = " (the bits of bfloat16)" if self._dtype == bfloat16.NAME else ""
            raise InvalidArray(
                f"{self.name}: a block is {wanted}{hint} of shape {shape}, not {block.dtype} of {block.shape}"
            )
        return block

    def _measure(self, cell: tuple[int, ...], values: NDArray[Any] | Quantised) -> list[TokenStats]:
        if self.reduction != token_stats.REDUCTION or isinstance(values, Quantised):
            return []
        labels = self._labels_of(cell)
        floats = bfloat16.to_float32(values) if self._dtype == bfloat16.NAME else values
        frames = self.coords[dims.FRAME].values if dims.FRAME in self.meta.dims else None
        sizes = dict(zip(self.meta.dims, self.meta.shape, strict=True))
        bundled = [name for name in self.meta.dims if name in CELL and name not in self._along]
        places = np.ndindex(*(sizes[name] for name in bundled))
        cells = [labels | self._labels(bundled, place) for place in places]
        return token_stats.measure(self.site, cells, floats, frames)

    def _labels_of(self, file: tuple[int, ...]) -> dict[str, Any]:
        named = dict(zip(self.meta.dims, file, strict=True))
        return self._labels(self._along, [named[name] for name in self._along])

    def _labels(self, names: Sequence[str], places: Sequence[int]) -> dict[str, Any]:
        return {name: self.coords[name].values[place] for name, place in zip(names, places, strict=True)}


def _is_pair(given: Any) -> bool:
    """Whether a coordinate is given as (axis, labels); two texts are labels."""
    if not isinstance(given, tuple) or len(given) != 2:
        return False
    return isinstance(given[0], str) and not isinstance(given[1], str)
