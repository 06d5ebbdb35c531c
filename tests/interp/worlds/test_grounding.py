"""Grounding: its contract, and that the box ends around the only thing that the prompt fits."""

from __future__ import annotations

import itertools

import numpy as np

from interp.worlds import _palette
from interp.worlds.grounding import APART, border
from tests.interp.worlds.contract import WorldContract, truth


class TestGrounding(WorldContract):
    """The contract, and what is particular to naming a thing."""

    family = "grounding"

    def test_the_prompt_fits_one_thing_and_the_box_ends_around_it(self) -> None:
        for sample in self.samples:
            labels = sample.record.labels
            said = set(sample.record.prompt.lower().strip(".").split())
            kinds = {word for name in labels["names"] for word in name.split()}  # type: ignore[union-attr]
            fits = [i for i, name in enumerate(labels["names"]) if said & kinds <= set(name.split())]  # type: ignore[arg-type]
            assert fits == [labels["target"]]
            black = (truth(sample)[-1] == _palette.rgb("black")[0]).all(axis=-1)
            middle = np.argwhere(black).mean(axis=0)
            np.testing.assert_allclose(middle, labels["positions"][fits[0]], atol=1)  # type: ignore[index]

    def test_at_hard_one_word_is_not_enough(self) -> None:
        for sample in self.samples:
            if (sample.record.difficulty, sample.record.split) == ("hard", "in_domain"):
                words = [word for name in sample.record.labels["names"] for word in name.split()]  # type: ignore[union-attr]
                assert all(words.count(word) == 2 for word in words)

    def test_every_thing_has_a_prompt_of_its_own_over_the_same_picture(self) -> None:
        for sample in self.samples:
            prompts: list[str] = sample.record.labels["prompts"]  # type: ignore[assignment]
            assert prompts[sample.record.labels["target"]] == sample.record.prompt  # type: ignore[index]
            assert len(set(prompts)) == len(prompts) == len(sample.record.labels["names"])  # type: ignore[arg-type]

    def test_places_that_far_apart_along_the_border_leave_room_for_a_box(self) -> None:
        cells = border().tolist()
        assert len({tuple(cell) for cell in cells}) == len(cells)
        for i, j in itertools.combinations(range(len(cells)), 2):
            if min(j - i, len(cells) - (j - i)) >= APART:
                assert max(abs(a - b) for a, b in zip(cells[i], cells[j], strict=True)) >= 24
