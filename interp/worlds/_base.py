"""What every world is: a family of tasks that draws samples with their truth and scores videos.

A family is one file in this folder with one subclass of `World`; its last line registers it::

    worlds.add(Maze.name, Maze())

Shapes: n samples, F frames, H×W pixels; videos are uint8 `[n, F, H, W, 3]`, red-green-blue.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.errors import BadInput
from store.records import Sample

T = TypeVar("T")

FRAMES = 17
"""Video frames of every sample."""
CELL = 8
"""Pixels along a cell: one cell of the board is one token of the bundled model."""
BOARD = 12
"""Cells along a side of the board."""
SIZE = CELL * BOARD
"""Pixels along a side of the video."""
SPLITS = ("in_domain", "out_of_domain")
"""What the bundled model was trained on, and what it was not."""


GROUPS = ("search", "multi-path", "superposition", "memory", "dynamics", "grounding", "arrangement")
"""What families ask of a model, in the order of tables."""


class WorldScore(NamedTuple):
    """What a scorer reads off a video, each from 0 (wrong) to 1 (right)."""

    answer: float
    """Whether the video ends in a valid answer."""
    process: float
    """How far the way to it is shown, lawfully, over the frames."""
    overall: float
    """Both together: high only if the answer is right and the way to it is shown."""


def in_time(video: NDArray[np.uint8], frames: int) -> NDArray[np.uint8]:
    """A video shown in `frames` frames from its first to its last, each the nearest in time of its own.

    Scorers compare frames of one number of them. From 9 frames on, the true video of every family keeps its full score
    on its way to fewer or more frames and back; with 5 the way through a maze is too coarse for its process.

    Args:
        video: uint8 `[F, H, W, 3]`, 2 frames or more.
        frames: How many to show, 2 or more.

    Example:
        >>> in_time(np.arange(3, dtype=np.uint8)[:, None, None, None], 5)[:, 0, 0, 0].tolist()
        [0, 0, 1, 2, 2]
    """
    places = np.arange(frames) * (len(video) - 1) / (frames - 1)
    return video[places.round().astype(int)]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples as tensors on one device, as training needs them."""

    video: Tensor
    """uint8 `[n, F, H, W, 3]`."""
    prompts: list[str]
    truth: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Whatever else the world needs to build `Sample` objects, first axis n."""

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.prompts)


class Answers(NamedTuple):
    """Samples with all their valid answers."""

    videos: Tensor
    """uint8 `[n, K, F, H, W, 3]`, K the most answers of any; behind its own k a sample has its last one again."""
    valid: Tensor
    """int64 `[n]`: k."""
    prompts: list[str]


class World(ABC):
    """A family of tasks. Subclasses are stateless and registered under `name`."""

    name: ClassVar[str]
    """Family name, as in `Sample.record.family`."""
    summary: ClassVar[str]
    """One line for tables."""
    group: ClassVar[str]
    """What the family asks of a model: one of `GROUPS`."""
    kind: ClassVar[str] = "single"
    """What a sample with several valid answers is: `multi-path` (they show in different places), `superposition`
    (at one place); `single` where there never are several."""
    difficulties: ClassVar[tuple[str, ...]]
    """From easy to hard."""

    @abstractmethod
    def draw(self, index: Tensor, *, seed: int, difficulty: str, split: str) -> Batch:
        """Samples number `index` of the stream (`seed`, `difficulty`, `split`).

        Args:
            index: int64 `[n]`; its device is where everything is made.
            seed: Names the stream; training and evaluation use different ones.
            difficulty: One of `difficulties`.
            split: One of `SPLITS`.
        """

    def answers(self, index: Tensor, *, seed: int, difficulty: str, split: str) -> Answers:
        """The same samples as `draw`, each with the true videos of all its valid answers."""
        batch = self.draw(index, seed=seed, difficulty=difficulty, split=split)
        return Answers(batch.video[:, None], torch.ones_like(index), batch.prompts)

    @abstractmethod
    def samples(self, batch: Batch, *, difficulty: str, split: str) -> list[Sample]:
        """The batch as `store` samples, with regions, tracks and labels."""

    @abstractmethod
    def wrong(self, index: Tensor, *, seed: int, difficulty: str, split: str) -> Tensor:
        """For the same samples as `draw`, videos that look like an answer and end in a wrong one.

        Returns:
            uint8 `[n, F, H, W, 3]`: a null floor, which every scorer must tell from the truth.
        """

    @abstractmethod
    def which(self, sample: Sample, video: NDArray[np.uint8]) -> int | None:
        """Number of the valid answer that `video` ends in, or None; `video` has been checked."""

    @abstractmethod
    def judge(self, sample: Sample, video: NDArray[np.uint8]) -> WorldScore:
        """Score a video that has been checked; see `score`."""

    def twin(self, index: Tensor, *, seed: int, difficulty: str, split: str) -> Batch | None:
        """The same samples as `draw`, each changed a little so that its one answer is another.

        Its prompt is changed, or one thing of its first frame. None where the family has no such change.
        """
        return None

    def pairs(
        self, n: int, *, seed: int = 0, difficulty: str | None = None, split: str = "in_domain"
    ) -> list[tuple[Sample, Sample]]:
        """The first `n` samples of a stream, each with its twin: nearly the same question with another answer.

        The label `twin_of` of a twin is the id of the sample that it belongs to. Arguments and errors as in `generate`.

        Raises:
            BadInput: if the family has no twins.

        Example:
            >>> from interp.worlds import worlds
            >>> ((one, twin),) = worlds["grounding"].pairs(1)
            >>> one.record.prompt, twin.record.prompt
            ('Put the box around the orange triangle.', 'Put the box around the blue diamond.')
        """
        if difficulty is None:
            return self._in_turn(n, lambda count, level: self.pairs(count, seed=seed, difficulty=level, split=split))
        of: dict[str, Any] = {"difficulty": difficulty, "split": split}
        originals = self.generate(n, seed=seed, **of)
        batch = self.twin(torch.arange(n), seed=seed, **of)
        if batch is None:
            raise BadInput(
                f"{self.name} has no twins, samples that differ little and have another answer; grounding and maze have"
            )
        return [
            (original, _labelled(twin, twin_of=original.id))
            for original, twin in zip(originals, self.samples(batch, **of), strict=True)
        ]

    def _in_turn(self, n: int, made: Callable[[int, str], list[T]]) -> list[T]:
        """`n` of them, the difficulties in turn."""
        count = len(self.difficulties)
        per_level = [iter(made(-(-n // count), level)) for level in self.difficulties]
        return [next(per_level[i % count]) for i in range(n)]

    def generate(
        self, n: int, *, seed: int = 0, difficulty: str | None = None, split: str = "in_domain"
    ) -> list[Sample]:
        """The first `n` samples of a stream.

        Args:
            n: How many; a larger `n` extends the list and leaves its beginning as it was.
            seed: Names the stream.
            difficulty: One of `difficulties`; None takes them in turn.
            split: `in_domain` or `out_of_domain`.

        Raises:
            BadInput: if the difficulty or the split is not one of this world's.

        Example:
            >>> from interp.worlds import worlds
            >>> [sample.record.difficulty for sample in worlds["maze"].generate(3)]
            ['easy', 'medium', 'hard']
        """
        if difficulty is None:
            return self._in_turn(n, lambda count, level: self.generate(count, seed=seed, difficulty=level, split=split))
        self.check(difficulty=difficulty, split=split)
        batch = self.draw(torch.arange(n), seed=seed, difficulty=difficulty, split=split)
        return self.samples(batch, difficulty=difficulty, split=split)

    def score(self, sample: Sample, video: NDArray[np.uint8]) -> dict[str, float]:
        """Score `video` as an answer to `sample`, from its pixels alone.

        Args:
            sample: One of this world's own, with its truth.
            video: uint8 `[F, H, W, 3]`.

        Returns:
            `answer`, `process`, `overall`, each 0 to 1; see `WorldScore`.

        Raises:
            BadInput: if the video has another shape or dtype than the true one.
        """
        if sample.video is None or video.shape != sample.video.shape or video.dtype != np.uint8:
            wanted = "no true video" if sample.video is None else f"uint8 {sample.video.shape}"
            raise BadInput(
                f"{self.name} scores videos like the sample's own ({wanted}), not {video.dtype} {video.shape}; "
                "sample at the world's size and pass frames as uint8"
            )
        return self.judge(sample, video)._asdict()

    def check(self, *, difficulty: str, split: str) -> None:
        """Raise `BadInput` unless this world has `difficulty` and `split`."""
        for what, value, known in (("difficulty", difficulty, self.difficulties), ("split", split, SPLITS)):
            if value not in known:
                raise BadInput(f"{self.name} has no {what} {value!r}; choose one of {', '.join(known)}")


def _labelled(sample: Sample, **labels: str) -> Sample:
    """The same sample with more labels."""
    record = sample.record.model_copy(update={"labels": {**sample.record.labels, **labels}})
    return Sample(record, **sample.arrays())  # pyright: ignore[reportArgumentType]
