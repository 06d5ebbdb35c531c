"""Colours: told apart from each other and found again."""

from __future__ import annotations

import itertools

import numpy as np

from interp.worlds._palette import OTHER, RGB, cell_colours, classify, rgb


def test_colours_are_far_enough_apart_to_be_told_apart() -> None:
    for (a, colour_a), (b, colour_b) in itertools.combinations(RGB.items(), 2):
        assert np.linalg.norm(np.subtract(colour_a, colour_b)) > 60, (a, b)


def test_cells_give_their_colour_back_whatever_their_edge() -> None:
    palette = rgb("white", "red", "blue")
    cells = np.array([[[0, 1], [2, 0]]])
    video = palette[cells].repeat(8, axis=1).repeat(8, axis=2)
    video[:, ::8] = 0
    video[:, :, ::8] = 0
    np.testing.assert_array_equal(classify(cell_colours(video, 8), palette), cells)


def test_a_colour_near_none_is_other() -> None:
    palette = rgb("white", "red")
    assert classify(np.array([[0.0, 255.0, 0.0]], np.float32), palette).tolist() == [OTHER]
