"""What every world must satisfy; a family's test class inherits `WorldContract` and names its world."""

from __future__ import annotations

import functools
import json
import re
from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from interp.errors import BadInput
from interp.worlds import FRAMES, GROUPS, SIZE, SPLITS, World, in_time, worlds
from store.records import Sample, SampleRecord
from training import tokenizer as words

Video = NDArray[np.uint8]
PER_CELL = 6
"""Samples of each split and difficulty; `stepscope worlds check` looks at a hundred and more of each family."""
SEED = 5
PAIRED = ("grounding", "maze")
"""Families with twins."""


@functools.cache
def _samples(family: str) -> tuple[Sample, ...]:
    world = worlds[family]
    return tuple(
        sample
        for split in SPLITS
        for difficulty in world.difficulties
        for sample in world.generate(PER_CELL, seed=SEED, difficulty=difficulty, split=split)
    )


def truth(sample: Sample) -> Video:
    """The true video, which every sample of a world has."""
    assert sample.video is not None
    return sample.video


class WorldContract:
    """Inherit, and set `family`."""

    family: ClassVar[str]

    @property
    def world(self) -> World:
        return worlds[self.family]

    @property
    def samples(self) -> tuple[Sample, ...]:
        return _samples(self.family)

    def overall(self, sample: Sample, video: Video) -> float:
        return self.world.score(sample, video)["overall"]

    def wrong_answers(self) -> list[Video]:
        """For each of `samples`, a video with its first frame that looks like an answer and is none."""
        return [
            video
            for split in SPLITS
            for difficulty in self.world.difficulties
            for video in self.world.wrong(torch.arange(PER_CELL), seed=SEED, difficulty=difficulty, split=split).numpy()
        ]

    # ---- samples

    def test_shapes_and_types(self) -> None:
        for sample in self.samples:
            record, k = sample.record, sample.record.answers
            assert sample.first_frame.shape == (SIZE, SIZE, 3)
            assert truth(sample).shape == (FRAMES, SIZE, SIZE, 3)
            assert k >= 1
            assert sample.regions is not None
            assert sample.regions.shape == (k, FRAMES, SIZE, SIZE)
            assert sample.regions.any(axis=(1, 2, 3)).all()
            assert sample.tracks is not None
            assert sample.tracks.shape == (len(record.labels["objects"]), FRAMES, 2)  # type: ignore[arg-type]
            assert sample.tracks.min() >= 0
            assert sample.tracks.max() < SIZE
            np.testing.assert_array_equal(truth(sample)[0], sample.first_frame)
            assert sample.segmentation is not None
            assert sample.segmentation.shape == (FRAMES, SIZE, SIZE)
            assert sample.segmentation.max() <= len(sample.tracks)
            assert len(record.labels["answers"]) == k  # type: ignore[arg-type]

    def test_every_object_is_seen_where_its_track_says(self) -> None:
        for sample in self.samples[::3]:
            assert sample.segmentation is not None
            assert sample.tracks is not None
            for number, track in enumerate(sample.tracks, start=1):
                where = sample.segmentation == number
                assert where.any(), f"object {number} of {sample} is never seen"
                for frame in np.flatnonzero(where.any(axis=(1, 2))):
                    rows, columns = np.nonzero(where[frame])
                    y, x = track[frame]
                    assert rows.min() - SIZE // 8 <= y <= rows.max() + SIZE // 8
                    assert columns.min() - SIZE // 8 <= x <= columns.max() + SIZE // 8

    def test_prompts_use_words_that_the_bundled_model_knows(self) -> None:
        known = set(words.vocabulary())
        for sample in self.samples:
            assert set(re.findall(r"[a-z]+", sample.record.prompt.lower())) <= known
            assert len(re.findall(r"[a-z]+|[^a-z ]", sample.record.prompt.lower())) < 48

    def test_every_answer_has_a_video_and_is_told_from_the_others(self) -> None:
        for sample in self.samples[::3]:
            videos = sample.answer_videos
            assert videos is not None
            assert len(videos) == sample.record.answers
            for number, video in enumerate(videos):
                np.testing.assert_array_equal(video[0], sample.first_frame)
                assert self.world.which(sample, video) == number
                assert self.overall(sample, video) == 1.0

    def test_twins_differ_in_one_thing_and_answer_otherwise(self) -> None:
        """A family either has twins in every stream, or says that it has none."""
        for split in SPLITS:
            for difficulty in self.world.difficulties:
                if self.family not in PAIRED:
                    with pytest.raises(BadInput, match=f"{self.family} has no twins"):
                        self.world.pairs(2, seed=SEED, difficulty=difficulty, split=split)
                    continue
                for one, twin in self.world.pairs(PER_CELL, seed=SEED, difficulty=difficulty, split=split):
                    assert twin.record.labels["twin_of"] == one.id
                    assert "twin_of" not in one.record.labels
                    same_prompt = one.record.prompt == twin.record.prompt
                    assert same_prompt != np.array_equal(one.first_frame, twin.first_frame)
                    assert (one.first_frame != twin.first_frame).any(axis=-1).mean() < 0.05
                    for own, other in ((one, twin), (twin, one)):
                        assert self.overall(own, truth(own)) == 1.0
                        assert self.world.score(own, truth(other))["answer"] == 0.0

    def test_every_valid_answer_is_drawn_equally_often(self) -> None:
        level = self.world.difficulties[-1]
        samples = self.world.generate(60, seed=6, difficulty=level)
        ranks = [float(s.record.labels.get("chosen", 0)) / max(1, s.record.answers - 1) for s in samples]  # type: ignore[arg-type]
        if min(sample.record.answers for sample in samples) > 1:
            assert 0.35 < np.mean(ranks) < 0.65

    def test_records_say_where_they_come_from_and_survive_json(self) -> None:
        for sample in self.samples:
            assert sample.record.family == self.family
            assert sample.record.split in SPLITS
            assert sample.record.difficulty in self.world.difficulties
            assert SampleRecord.model_validate(json.loads(sample.record.canonical())) == sample.record

    def test_the_kind_of_ambiguity_fits_the_number_of_answers(self) -> None:
        for sample in self.samples:
            kind = sample.record.labels["kind"]
            assert kind in {"single", "multi-path", "superposition"}
            assert kind == ("single" if sample.record.answers == 1 else self.world.kind)

    def test_the_family_says_what_it_asks_of_a_model(self) -> None:
        assert self.world.group in GROUPS
        assert (self.world.kind == "single") == all(sample.record.answers == 1 for sample in self.samples)

    # ---- generation

    def test_the_same_seed_gives_the_same_samples(self) -> None:
        assert self._ids(4, seed=3) == self._ids(4, seed=3)

    def test_more_samples_extend_the_list(self) -> None:
        assert self._ids(9, seed=3)[:4] == self._ids(4, seed=3)

    def test_seeds_splits_and_difficulties_differ(self) -> None:
        assert len({sample.id for sample in self.samples}) == len(self.samples)
        assert not set(self._ids(6, seed=3)) & set(self._ids(6, seed=4))

    def test_the_global_generators_are_left_alone(self) -> None:
        before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[union-attr]  # noqa: NPY002
        self.world.generate(3, seed=1)
        assert torch.equal(torch.get_rng_state(), before[0])
        np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # type: ignore[arg-type]  # noqa: NPY002

    def test_a_batch_is_the_same_as_the_samples(self) -> None:
        level = self.world.difficulties[0]
        batch = self.world.draw(torch.tensor([5, 2]), seed=3, difficulty=level, split="in_domain")
        samples = self.world.generate(6, seed=3, difficulty=level)
        np.testing.assert_array_equal(batch.video.numpy(), [truth(samples[5]), truth(samples[2])])
        assert batch.prompts == [samples[5].record.prompt, samples[2].record.prompt]

    @pytest.mark.parametrize("wrong", [{"difficulty": "impossible"}, {"split": "elsewhere"}])
    def test_an_unknown_choice_names_what_there_is(self, wrong: dict[str, str]) -> None:
        with pytest.raises(BadInput, match=r"choose one of (easy|in_domain)"):
            self.world.generate(1, **wrong)  # type: ignore[arg-type]

    def _ids(self, n: int, *, seed: int) -> list[str]:
        return [sample.id for sample in self.world.generate(n, seed=seed)]

    # ---- scores

    def test_the_true_video_is_right(self) -> None:
        for sample in self.samples:
            assert self.world.score(sample, truth(sample)) == {"answer": 1.0, "process": 1.0, "overall": 1.0}

    def test_a_still_picture_scores_nothing(self) -> None:
        for sample in self.samples:
            assert self.overall(sample, np.repeat(sample.first_frame[None], FRAMES, axis=0)) < 0.1

    def test_noise_scores_nothing(self) -> None:
        generator = np.random.default_rng(0)
        for sample in self.samples:
            noise = generator.integers(0, 256, truth(sample).shape, dtype=np.uint8)
            assert self.overall(sample, noise) < 0.1

    def test_grey_scores_nothing(self) -> None:
        for sample in self.samples:
            assert self.overall(sample, np.full_like(truth(sample), 128)) < 0.1

    def test_another_answer_scores_nothing(self) -> None:
        for sample, video in zip(self.samples, self.wrong_answers(), strict=True):
            np.testing.assert_array_equal(video[0], sample.first_frame)
            assert self.overall(sample, video) < 0.1

    @pytest.mark.parametrize("cut", [1, 8, 16])
    def test_a_jump_to_the_last_frame_is_not_a_process(self, cut: int) -> None:
        for sample in self.samples[cut % 3 :: 3]:
            video = np.repeat(sample.first_frame[None], FRAMES, axis=0)
            video[cut:] = truth(sample)[-1]
            assert self.overall(sample, video) <= 0.5

    def test_small_noise_does_not_matter(self) -> None:
        generator = np.random.default_rng(2)
        for sample in self.samples[::3]:
            noise = generator.normal(0, 12, truth(sample).shape)
            video = np.clip(truth(sample) + noise, 0, 255).astype(np.uint8)
            assert self.overall(sample, video) >= 0.9

    def test_blur_does_not_matter(self) -> None:
        for sample in self.samples[1::3]:
            video = truth(sample).astype(np.float32)
            for axis in (1, 2):
                video = (np.roll(video, 1, axis) + 4 * video + np.roll(video, -1, axis)) / 6
            assert self.overall(sample, video.astype(np.uint8)) >= 0.9

    @pytest.mark.parametrize("frames", [9, 25])
    def test_in_time_the_true_video_is_right_and_a_jump_is_not(self, frames: int) -> None:
        for sample in self.samples[:2]:
            told = in_time(truth(sample), frames)
            assert len(told) == frames
            assert self.overall(sample, in_time(told, FRAMES)) == 1.0
            jump = np.where(np.arange(frames)[:, None, None, None] < frames // 2, told[:1], told[-1:])
            assert self.world.score(sample, in_time(jump, FRAMES))["process"] < 0.1

    def test_a_video_of_another_size_is_refused(self) -> None:
        sample = self.samples[0]
        with pytest.raises(BadInput, match="uint8"):
            self.world.score(sample, truth(sample)[:-1])
        with pytest.raises(BadInput, match="float32"):
            self.world.score(sample, truth(sample).astype(np.float32))  # type: ignore[arg-type]
