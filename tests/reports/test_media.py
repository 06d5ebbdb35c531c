"""Sheets: every cell comes back where it belongs, and does not show in its neighbours."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from reports._media import MAX_SIDE, Sheet, evenly, map_sheet, picture, shrunk, video_sheet
from tests.planted import Planted


def cell(sheet: Sheet, row: int, column: int) -> np.ndarray:
    """What the page shows of a sheet, cut out by the numbers that the sheet declares."""
    image = Image.open(io.BytesIO(base64.b64decode(sheet.uri.split(",")[1]))).convert("RGB")
    assert image.size == (sheet.columns * sheet.pitch_x, sheet.rows * sheet.pitch_y)
    top = row * sheet.pitch_y + (sheet.pitch_y - sheet.height) // 2
    left = column * sheet.pitch_x + (sheet.pitch_x - sheet.width) // 2
    return np.asarray(image)[top : top + sheet.height, left : left + sheet.width].astype(int)


@pytest.mark.parametrize("shape", [(3, 4, 32, 32), (2, 3, 24, 40), (1, 1, 17, 5)])
def test_cells_come_back_nearly(shape):
    steps, frames, *_ = shape
    grey = np.linspace(20, 230, steps * frames).astype(np.uint8).reshape(steps, frames, 1, 1, 1)
    video = np.broadcast_to(grey, (*shape, 3)).copy()
    sheet = video_sheet(video, lossless=False)
    assert sheet.lossy
    assert (sheet.rows, sheet.columns, sheet.height, sheet.width) == shape
    for row, column in np.ndindex(steps, frames):
        assert np.abs(cell(sheet, row, column) - video[row, column]).max() <= 3


def test_lossless_cells_come_back_exactly():
    video = np.random.default_rng(0).integers(0, 256, (3, 4, 17, 21, 3), np.uint8)
    sheet = video_sheet(video, lossless=True)
    assert not sheet.lossy
    for row, column in np.ndindex(3, 4):
        np.testing.assert_array_equal(cell(sheet, row, column), video[row, column])


@pytest.mark.parametrize("size", [24, 32, 40])
def test_a_frame_does_not_show_in_its_neighbours(size):
    video = np.full((3, 3, size, size, 3), 200, np.uint8)
    video[1, 1] = [0, 90, 30]
    sheet = video_sheet(video, lossless=False)
    for row, column in np.ndindex(3, 3):
        if (row, column) != (1, 1):
            assert np.abs(cell(sheet, row, column) - 200).max() <= 6, (row, column)


def test_maps_come_back_exactly():
    places = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 6), np.uint8)
    palette = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
    sheet = map_sheet(places, palette)
    assert not sheet.lossy
    for row, column in np.ndindex(4, 3):
        np.testing.assert_array_equal(cell(sheet, row, column), palette[places[row, column]])


def test_pictures_come_back_exactly_and_large_ones_smaller():
    small = np.random.default_rng(2).integers(0, 256, (30, 40, 3), np.uint8)
    np.testing.assert_array_equal(cell(picture(small), 0, 0), small)
    large = picture(np.zeros((480, 832, 3), np.uint8))
    assert (large.height, large.width) == (80, 138)


def test_shrunk_is_the_mean_of_blocks():
    frames = np.zeros((2, 2 * MAX_SIDE, 2 * MAX_SIDE + 1, 3), np.uint8)
    frames[1, :2, :2] = [[[0, 4, 8], [0, 4, 8]], [[8, 4, 0], [8, 4, 0]]]
    small = shrunk(frames)
    assert small.shape == (2, 2 * MAX_SIDE // 3, (2 * MAX_SIDE + 1) // 3, 3)
    assert small[1, 0, 0].tolist() == [2, 2, 2]  # 16/9 of each channel, in blocks of 3
    assert small[0].max() == 0


@pytest.mark.parametrize(("count", "most", "kept"), [(5, 9, [0, 1, 2, 3, 4]), (9, 3, [0, 4, 8]), (1, 3, [0])])
def test_evenly_keeps_both_ends(count, most, kept):
    assert evenly(count, most).tolist() == kept


def test_six_runs_of_the_bundled_model_stay_small():
    planted = Planted(steps=20, video_frames=17, size=96)
    assert 6 * video_sheet(planted.videos(0, 0), lossless=False).nbytes < 6_000_000
