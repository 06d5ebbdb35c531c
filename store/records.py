"""The vocabulary of stepscope as typed records: what is persisted beside the arrays.

Pydantic models, frozen and closed (unknown fields are an error), because they are read from disk.
Nothing here knows torch or a model; `interp` fills the records in, `analyses` and `reports` read them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeInt,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

FORMAT: int = 1
"""Version of the on-disk format that this code writes; part of every manifest."""

Json = dict[str, JsonValue]

Encoding = Literal["exact", "int8", "float8"]
"""How numbers are kept: as they are, or in one byte with a scale for each channel and frame (see `store.encodings`)."""


class Record(BaseModel):
    """Base of everything that is persisted: immutable, closed, canonical as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)

    def canonical(self) -> str:
        """The record as JSON with sorted keys and no spaces: equal records, equal text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(*parts: str | bytes) -> str:
    """First 16 hex digits of the SHA-256 of `parts`, each preceded by its length in bytes."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()[:16]


class Adapter(Record):
    """A LoRA or other set of weights applied on top of a checkpoint."""

    path: str
    """Hub id or folder that it was loaded from."""
    weight_hash: str
    """SHA-256 of its weights."""
    scale: float = 1.0
    """Strength with which it was applied."""
    component: str = "transformer"
    """Which denoiser it changes: `transformer` or `transformer_2`."""


class ModelRef(Record):
    """Exactly which weights ran."""

    id: str
    """Name, hub id or folder name, without the machine's path."""
    revision: str = ""
    """Hub commit, empty for a local folder."""
    weight_hash: str
    """SHA-256 over the weights that were loaded, adapters excluded."""
    adapters: tuple[Adapter, ...] = ()
    """What was applied on top, in order."""
    pipeline: str
    """Class name of the diffusers pipeline."""
    dtype: str
    """Computation dtype of the denoiser, e.g. `bfloat16`."""


class SamplerSettings(Record):
    """How a video was sampled; part of the run's id."""

    steps: int = Field(gt=0)
    """Denoising steps (`num_inference_steps`)."""
    guidance: float
    """Classifier-free guidance scale; at 1 or below only the cond branch runs."""
    guidance_2: float | None = None
    """Guidance of the low-noise expert, where the model has two."""
    height: int = Field(gt=0)
    """Pixels."""
    width: int = Field(gt=0)
    """Pixels."""
    frames: int = Field(gt=0)
    """Video frames."""
    max_sequence_length: int = Field(default=512, gt=0)
    """Prompt tokens, padding included."""
    scheduler: str
    """Class name of the scheduler."""
    scheduler_config: Json = Field(default_factory=dict)
    """The scheduler's own configuration."""


Span = tuple[NonNegativeInt, NonNegativeInt]
"""First and last of some numbers in a row."""


class TokenBox(Record):
    """Tokens whose attention is kept: a box of the token grid."""

    frame: Span | None = None
    """Latent frames, both ends included; None for all."""
    y: Span | None = None
    """Rows, both ends included; None for all."""
    x: Span | None = None
    """Columns, both ends included; None for all."""
    mean: bool = False
    """Whether the box is one query, the mean of its tokens' attention; else each token is one."""

    @field_validator("frame", "y", "x")
    @classmethod
    def _in_order(cls, value: Span | None) -> Span | None:
        if value is not None and value[1] < value[0]:
            raise ValueError(f"a span goes from its first to its last, not from {value[0]} to {value[1]}")
        return value


_LATER: Final[Json] = {"encoding": "exact", "heads": None, "queries": None}
"""Fields of `CaptureItem` that it has not always had, and their defaults."""


class CaptureItem(Record):
    """One line of a capture spec: a site, one reduction of it, and which cells of it are kept."""

    site: str
    """`resid_post`, `latent`, `velocity`, `x0_hat`, …"""
    reduction: str
    """`full`, `energy`, `frame_mean`, `pixels`, …"""
    layers: tuple[int, ...] | None = None
    """Layers kept, sorted; None keeps all (and is the only choice for a per-step site)."""
    steps: tuple[int, ...] | None = None
    """Steps kept, sorted; None keeps all."""
    branches: tuple[str, ...] | None = None
    """Branches kept; None keeps the site's own default (`cond` for layers, `guided` for velocity)."""
    encoding: Encoding = "exact"
    """How its numbers are kept."""
    heads: tuple[int, ...] | Literal["mean"] | None = None
    """Attention heads kept by themselves, sorted; None keeps all. `mean`, where the reduction has it, keeps one array,
    the mean over all heads."""

    queries: tuple[TokenBox, ...] | None = None
    """Tokens whose attention is kept, for `pattern/map`; keys are all tokens."""

    @field_validator("layers", "steps", "heads")
    @classmethod
    def _sorted_and_unique(cls, value: tuple[int, ...] | str | None) -> tuple[int, ...] | str | None:
        if value is None or isinstance(value, str):
            return value
        if not value:
            raise ValueError("an empty selection keeps nothing; leave it out to keep all")
        if min(value) < 0:
            raise ValueError(f"negative numbers are not positions: {min(value)}")
        return tuple(sorted(set(value)))

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Fields that were added later appear where they are set only, so that older runs keep their ids."""
        fields: dict[str, Any] = serialise(self)
        return {name: value for name, value in fields.items() if name not in _LATER or value != _LATER[name]}


class CaptureSpec(Record):
    """What a run keeps: sites × reductions × layers × steps × branches."""

    items: tuple[CaptureItem, ...]

    @field_validator("items")
    @classmethod
    def _one_item_an_array(cls, items: tuple[CaptureItem, ...]) -> tuple[CaptureItem, ...]:
        keys = [(item.site, item.reduction) for item in items]
        twice = sorted({f"{site}/{reduction}" for site, reduction in keys if keys.count((site, reduction)) > 1})
        if twice:
            raise ValueError(f"each site/reduction once; given twice: {', '.join(twice)}")
        return tuple(sorted(items, key=lambda item: (item.site, item.reduction)))


class Provenance(Record):
    """Where and when something was made; taken when it starts, never part of an id."""

    started: str
    """UTC, ISO 8601."""
    git_commit: str = ""
    """Commit of the working directory's repository, empty outside one."""
    git_dirty: bool = False
    """Whether that working tree had changes."""
    packages: dict[str, str] = Field(default_factory=dict)
    """Versions of the packages that decide the numbers."""
    python: str = ""
    device: str = ""
    """Name of the GPU, or of the CPU."""
    driver: str = ""
    host: str = ""
    """Host name."""
    threads: int = 0
    """CPU threads that torch used."""


class Run(Record):
    """One generation: model × sample × seed × settings × interventions × capture spec."""

    model: ModelRef
    sample_id: str
    seed: int
    settings: SamplerSettings
    interventions: tuple[Json, ...] = ()
    """Interventions as data, in the order in which they were applied."""
    capture: CaptureSpec
    parent_id: str | None = None
    """The clean run that an intervened run is compared with; not part of the id."""

    @property
    def id(self) -> str:
        """Hash of exactly what decides the numbers: everything except `parent_id`."""
        return digest("run", json.dumps(self.model_dump(mode="json", exclude={"parent_id"}), sort_keys=True))


class StepInfo(Record):
    """One row of the sampler's trajectory, as it really ran."""

    step: int
    timestep: float
    """As given to the denoiser (0–1000 for Wan)."""
    sigma: float
    """Noise level before the step: x_s = (1-sigma)·x0 + sigma·noise."""
    sigma_next: float
    """Noise level after the step."""
    expert: str
    """Denoiser that ran: `transformer` or `transformer_2`."""
    guidance: float
    """Guidance scale in force; 1.0 where only the cond branch ran."""


class Score(Record):
    """One number that a scorer read off a video."""

    scorer: str
    """World family, or the name of an external scorer."""
    metric: str
    """`answer`, `process`, `overall`, …"""
    value: float
    """0 (wrong) to 1 (right)."""
    step: int | None = None
    """The x̂0 that was scored, or None for the finished video."""


class SampleRecord(Record):
    """One question, without its pictures (see `Sample`)."""

    family: str
    """Task family, or `custom` for a user's own picture and prompt."""
    prompt: str
    negative_prompt: str = ""
    difficulty: str = ""
    split: str = ""
    """`in_domain`, `out_of_domain`, or empty."""
    labels: Json = Field(default_factory=dict)
    """Named truths for probes and scorers: positions, identities, the answer."""
    answers: int = 0
    """Number of valid answers k, 0 where unknown."""


class Sample:
    """One question with its pictures and its truth.

    Args:
        record: Everything that is not an array.
        first_frame: uint8 `[y, x, channel]`, red-green-blue.
        video: The true video, uint8 `[frame, y, x, channel]`, or None where unknown. Where several answers are
            valid, it shows the one that was drawn.
        videos: A true video of every valid answer, uint8 `[answer, frame, y, x, channel]`; None where there is one
            answer or none is known, see `answer_videos`.
        regions: bool `[answer, frame, y, x]`: where each valid answer shows, or None.
        tracks: float32 `[object, frame, 2]`: (y, x) in pixels of each object's centre, or None.
        segmentation: uint8 `[frame, y, x]`: 0 is background, i the i-th object of `tracks`, counted from 1, or None.

    Raises:
        ValueError: if a picture has another dtype or rank.
    """

    ARRAYS = ("first_frame", "video", "videos", "regions", "tracks", "segmentation")

    def __init__(
        self,
        record: SampleRecord,
        *,
        first_frame: NDArray[np.uint8],
        video: NDArray[np.uint8] | None = None,
        videos: NDArray[np.uint8] | None = None,
        regions: NDArray[np.bool_] | None = None,
        tracks: NDArray[np.float32] | None = None,
        segmentation: NDArray[np.uint8] | None = None,
    ) -> None:
        self.record = record
        self.first_frame = _checked("first_frame", first_frame, "uint8", 3)
        self.video = None if video is None else _checked("video", video, "uint8", 4)
        self.videos = None if videos is None else _checked("videos", videos, "uint8", 5)
        self.regions = None if regions is None else _checked("regions", regions, "bool", 4)
        self.tracks = None if tracks is None else _checked("tracks", tracks, "float32", 3)
        self.segmentation = None if segmentation is None else _checked("segmentation", segmentation, "uint8", 3)

    @property
    def answer_videos(self) -> NDArray[np.uint8] | None:
        """A true video of every valid answer, uint8 `[answer, frame, y, x, channel]`, or None where unknown."""
        if self.videos is None and self.video is not None:
            return self.video[None]
        return self.videos

    @property
    def id(self) -> str:
        """Hash of the record and of every array."""
        parts: list[str | bytes] = ["sample", self.record.canonical()]
        for name, array in self.arrays().items():
            parts += [name, str(array.shape), np.ascontiguousarray(array).tobytes()]
        return digest(*parts)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays that this sample has, by name."""
        return {name: array for name in self.ARRAYS if (array := getattr(self, name)) is not None}

    def __repr__(self) -> str:
        return f"Sample({self.record.family} {self.id}: {self.record.prompt!r})"


def _checked(name: str, array: NDArray[Any], dtype: str, ndim: int) -> NDArray[Any]:
    if array.dtype != dtype or array.ndim != ndim:
        raise ValueError(f"{name} must be {dtype} with {ndim} axes, not {array.dtype} with shape {array.shape}")
    return array


class ArrayInfo(Record):
    """One array of a run: `runs/<id>/<site>/<reduction>/<reduction>`."""

    site: str
    reduction: str
    dims: tuple[str, ...]
    """Names of the axes, a subsequence of `store.dims.ORDER`."""
    shape: tuple[int, ...]
    dtype: str
    """As stored; that of a lossy array is `int8` or `uint8`."""
    encoding: Encoding = "exact"
    nbytes: int
    """Bytes of the values, uncompressed."""
    stored: int
    """Bytes on disk."""
    shards: dict[str, tuple[int, str]] = Field(default_factory=dict)
    """Every file of the array that holds values: relative path → (bytes, crc32c as 8 hex digits)."""


class ResultRecord(Record):
    """What an analysis found, without its arrays."""

    analysis: str
    version: int = 1
    """Raised when the analysis changes its numbers, so that old results are not reused."""
    params: Json = Field(default_factory=dict)
    run_ids: tuple[str, ...]
    verdict: Literal["replicates", "does not replicate", "inconclusive", "descriptive"]
    """`descriptive` where the analysis tests no claim."""
    finding: str
    """One sentence: what was found, with its number, its interval and n."""
    n: int
    """Number of independent units (samples) behind the verdict."""
    summary: Json = Field(default_factory=dict)
    """The headline numbers."""

    @classmethod
    def make_id(cls, analysis: str, version: int, params: Json, run_ids: Sequence[str]) -> str:
        """Id of the result of `analysis` with `params` on `run_ids`, known before it is computed."""
        return digest("result", analysis, str(version), json.dumps(params, sort_keys=True), *sorted(run_ids))

    @property
    def id(self) -> str:
        """See `make_id`."""
        return self.make_id(self.analysis, self.version, self.params, self.run_ids)

    def model_post_init(self, context: Any, /) -> None:
        """Sort the run ids, so that the order in which runs were named does not matter."""
        object.__setattr__(self, "run_ids", tuple(sorted(self.run_ids)))

    def replaced(self, **changes: Any) -> Self:
        """A copy with `changes`, validated again."""
        return type(self).model_validate({**self.model_dump(), **changes})
