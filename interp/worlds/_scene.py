"""A family whose tasks are sprites that move over a backdrop: all it has to say is what stands where, and when.

Drawing, regions, tracks, segmentation and scoring follow from that. The answer axis of a `Scenes` first holds
the valid answers of each sample, and somewhere behind them a wrong one that looks plausible: the null floor.

Shapes: n samples, A entries of the answer axis, k ≤ A valid answers, F frames, O sprites, H×W pixels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.worlds import _judge, _palette
from interp.worlds._base import FRAMES, SIZE, Answers, Batch, World, WorldScore
from interp.worlds._random import stream_key, uniform
from interp.worlds._sprites import SHAPES, Sprites, draw
from store.records import Json, Sample, SampleRecord


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """Samples of a `SceneWorld`, not drawn yet."""

    prompts: list[str]
    backdrop: Tensor
    """uint8 `[n, H, W]`: classes of `_palette.NAMES`."""
    sprites: Sprites
    """Fields broadcast to `[n, A, F, O]`; at frame 0 all answers of a sample look the same."""
    tracked: tuple[str, ...]
    """Names of the first sprites, which are the objects: each has a track, and one that is never visible in a
    sample is left out there. Sprites behind them (marks, walls in front) have none."""
    answers: Tensor | None = None
    """int64 `[n]`: k, how many entries of the answer axis are valid; None where it is 1 in all samples."""
    wrong: Tensor | None = None
    """int64 `[n]`: an entry of the answer axis that is not valid; None for entry k."""
    notes: Mapping[str, Tensor]
    """What `SceneWorld.labels` needs, first axis n."""

    def valid(self) -> Tensor:
        """Number of valid answers k, int64 `[n]`."""
        return torch.ones(len(self.prompts), dtype=torch.int64) if self.answers is None else self.answers.cpu()


@dataclass(frozen=True, kw_only=True)
class SceneBatch(Batch):
    """Drawn samples with what they were drawn from."""

    scenes: Scenes
    chosen: Tensor
    """int64 `[n]`: the valid answer that `video` shows."""


def blank(n: int, device: torch.device, colour: str = "white") -> Tensor:
    """An empty backdrop, uint8 `[n, H, W]`."""
    return torch.full((n, SIZE, SIZE), _palette.NAMES.index(colour), dtype=torch.uint8, device=device)


class SceneWorld(World):
    """Base of families that are made of sprites. Subclasses give `scenes` and `labels`."""

    @abstractmethod
    def scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """Samples number `index`, int64 `[n]`, of the stream `key`, on the device of `index`.

        Draw every random number with `uniform(stream_key(key, "what it is for"), index, draws)`.
        """

    @abstractmethod
    def labels(self, notes: Mapping[str, NDArray[Any]], i: int) -> Json:
        """Named truths of sample `i` beside those that every sample has (kind, objects, colours, shapes, chosen).

        Must hold `answers`: a list with one entry for each valid answer, in their order (a place, a colour, …).
        """

    def _chosen(self, index: Tensor, key: int, scenes: Scenes) -> Tensor:
        """The valid answer that the true video shows, int64 `[n]`."""
        u = uniform(stream_key(key, "chosen"), index, 1)[:, 0]
        valid = scenes.valid().to(index.device)
        return (u * valid).long().clamp_max(valid - 1)

    def _key(self, *, seed: int, difficulty: str, split: str) -> int:
        self.check(difficulty=difficulty, split=split)
        return stream_key(self.name, split, difficulty, seed)

    def draw(self, index: Tensor, *, seed: int, difficulty: str, split: str) -> Batch:
        """See `World.draw`."""
        key = self._key(seed=seed, difficulty=difficulty, split=split)
        return self._drawn(index, key, self.scenes(index, key=key, difficulty=difficulty, split=split))

    def valid(self, index: Tensor, *, seed: int, difficulty: str, split: str) -> Tensor:
        """Number of valid answers k of the same samples as `draw`, int64 `[n]`, with nothing drawn."""
        key = self._key(seed=seed, difficulty=difficulty, split=split)
        return self.scenes(index, key=key, difficulty=difficulty, split=split).valid()

    def twin_scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes | None:
        """The scenes of `World.twin`, or None where the family has none."""
        return None

    def twin(self, index: Tensor, *, seed: int, difficulty: str, split: str) -> Batch | None:
        """See `World.twin`."""
        key = self._key(seed=seed, difficulty=difficulty, split=split)
        scenes = self.twin_scenes(index, key=key, difficulty=difficulty, split=split)
        return None if scenes is None else self._drawn(index, key, scenes)

    def _drawn(self, index: Tensor, key: int, scenes: Scenes) -> SceneBatch:
        chosen = self._chosen(index, key, scenes)
        classes, _ = draw(scenes.backdrop, scenes.sprites.of(chosen))
        return SceneBatch(video=_palette.to_rgb(classes), prompts=scenes.prompts, scenes=scenes, chosen=chosen)

    def answers(self, index: Tensor, *, seed: int, difficulty: str, split: str) -> Answers:
        """See `World.answers`."""
        key = self._key(seed=seed, difficulty=difficulty, split=split)
        scenes = self.scenes(index, key=key, difficulty=difficulty, split=split)
        valid = scenes.valid().to(index.device)
        drawn = [
            _palette.to_rgb(draw(scenes.backdrop, scenes.sprites.of((valid - 1).clamp_max(number)))[0])
            for number in range(int(valid.max()))
        ]
        return Answers(torch.stack(drawn, dim=1), valid, scenes.prompts)

    def wrong(self, index: Tensor, *, seed: int, difficulty: str, split: str) -> Tensor:
        """See `World.wrong`."""
        key = self._key(seed=seed, difficulty=difficulty, split=split)
        scenes = self.scenes(index, key=key, difficulty=difficulty, split=split)
        wrong = scenes.valid() if scenes.wrong is None else scenes.wrong
        classes, _ = draw(scenes.backdrop, scenes.sprites.of(wrong))
        return _palette.to_rgb(classes)

    def samples(self, batch: Batch, *, difficulty: str, split: str) -> list[Sample]:
        """See `World.samples`."""
        assert isinstance(batch, SceneBatch)
        scenes, valid = batch.scenes, batch.scenes.valid()
        by_answer: list[Drawn] = []
        for answer in range(int(valid.max())):
            classes, top = draw(scenes.backdrop, scenes.sprites.of(torch.full_like(valid, answer)))
            by_answer.append(Drawn(_palette.to_rgb(classes).cpu().numpy(), top.cpu().numpy()))
        notes = {name: tensor.cpu().numpy() for name, tensor in scenes.notes.items()}
        made: list[Sample] = []
        for i, prompt in enumerate(batch.prompts):
            k, chosen = int(valid[i]), int(batch.chosen[i])
            videos = np.stack([drawn.videos[i] for drawn in by_answer[:k]])
            objects = _objects(scenes, i, chosen)
            record = SampleRecord(
                family=self.name,
                prompt=prompt,
                difficulty=difficulty,
                split=split,
                answers=k,
                labels={
                    "kind": self.kind if k > 1 else "single",
                    "chosen": chosen,
                    "objects": [scenes.tracked[o] for o in objects],
                    "colours": _names(scenes, scenes.sprites.colour, _palette.NAMES, i, objects),
                    "shapes": _names(scenes, scenes.sprites.shape, SHAPES, i, objects),
                    **self.labels(notes, i),
                },
            )
            number = np.zeros(scenes.sprites.count + 1, np.uint8)
            number[[o + 1 for o in objects]] = np.arange(1, len(objects) + 1)
            made.append(
                Sample(
                    record,
                    first_frame=videos[chosen, 0],
                    video=videos[chosen],
                    videos=videos if k > 1 else None,
                    regions=regions(videos),
                    tracks=_tracks(scenes, i, chosen, objects),
                    segmentation=number[by_answer[chosen].top[i]],
                )
            )
        return made

    def judge(self, sample: Sample, video: NDArray[np.uint8]) -> WorldScore:
        """Answer: the last frame is that of a valid answer. Process: the frames on the way are, in order; `_judge`."""
        assert sample.answer_videos is not None
        verdict = _judge.judge(video, sample.answer_videos)
        answer = float(verdict.answer is not None)
        return WorldScore(answer=answer, process=verdict.process, overall=answer * verdict.process)

    def which(self, sample: Sample, video: NDArray[np.uint8]) -> int | None:
        """See `World.which`."""
        assert sample.answer_videos is not None
        return _judge.judge(video, sample.answer_videos).answer


class Drawn(NamedTuple):
    """One answer of every sample."""

    videos: NDArray[np.uint8]
    """uint8 `[n, F, H, W, 3]`."""
    top: NDArray[np.uint8]
    """uint8 `[n, F, H, W]`: the sprite on top, 0 for the backdrop, i for the i-th counted from 1."""


def regions(videos: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where each valid answer shows.

    Args:
        videos: True videos of the valid answers of one sample, uint8 `[k, F, H, W, 3]`.

    Returns:
        bool `[k, F, H, W]`: pixels that differ from the first frame and, if k > 1, in which the answers differ
        from one another.
    """
    changed = (videos != videos[:, :1]).any(axis=-1)
    if len(videos) == 1:
        return changed
    return changed & (videos != videos[:1]).any(axis=-1).any(axis=0)


def _objects(scenes: Scenes, i: int, answer: int) -> list[int]:
    """Numbers of the tracked sprites that sample `i` shows in some frame."""
    visible = _row(scenes.sprites.visible, i, answer).expand(-1, scenes.sprites.count)
    return [o for o in range(len(scenes.tracked)) if bool(visible[:, o].any())]


def _tracks(scenes: Scenes, i: int, answer: int, objects: list[int]) -> NDArray[np.float32]:
    """Centres float32 `[object, F, 2]`, kept inside the picture."""
    centre = scenes.sprites.centre
    chosen = centre[i if len(centre) > 1 else 0, answer if centre.shape[1] > 1 else 0]
    tracks = chosen.expand(FRAMES, -1, 2)[:, objects].permute(1, 0, 2)
    return tracks.clamp(0, SIZE - 1).cpu().numpy().astype(np.float32)


def _names(scenes: Scenes, numbers: Tensor, known: tuple[str, ...], i: int, objects: list[int]) -> Json:
    """Name of each object's number at frame 0, by object."""
    row = _row(numbers, i, 0)[0].expand(scenes.sprites.count)
    return {scenes.tracked[o]: known[int(row[o])] for o in objects}


def _row(values: Tensor, i: int, answer: int) -> Tensor:
    """One sample and answer of `[n, A, F, O]`, each axis perhaps 1 long: `[1 or F, O]`."""
    return values[i if len(values) > 1 else 0, answer if values.shape[1] > 1 else 0]
