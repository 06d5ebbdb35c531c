"""The maze: its contract, its shortest paths, and a scorer that sees through each way of cheating."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from interp.worlds import BOARD, CELL, FRAMES, worlds
from interp.worlds._palette import rgb
from interp.worlds.maze import (
    _DOORS,
    DOORS,
    LENGTHS,
    PATH_MAX,
    UNREACHED,
    Maze,
    draw_cells,
    grow,
    paint,
    path_of,
    trace,
)
from store.records import Sample
from tests.interp.worlds.contract import Video, WorldContract, truth


def _cells(sample: Sample) -> list[tuple[int, int]]:
    return [tuple(cell) for cell in sample.record.labels["path"]]  # type: ignore[misc, union-attr, arg-type]


def _walk(sample: Sample, path: list[tuple[int, int]]) -> Video:
    """The sample's board with a walk along `path` instead of the true one."""
    walls = torch.tensor([[cell == "#" for cell in row] for row in sample.record.labels["walls"]])  # type: ignore[union-attr]
    place = torch.full((BOARD, BOARD), UNREACHED)
    for number, cell in enumerate(path):
        place[cell] = number
    length = torch.tensor([len(path)])
    colours = sample.record.labels["colours"]
    names = [str(colours[name]) for name in ("floor", "wall", "trail", "walker", "goal")]  # type: ignore[index, call-overload]
    palette = torch.from_numpy(rgb(*names))[None]
    return paint(draw_cells(walls[None], place[None], length), place[None], length, palette)[0].numpy()


def _centre(cell: tuple[int, int]) -> tuple[int, int]:
    """A pixel in the middle of `cell`."""
    return cell[0] * CELL + CELL // 2, cell[1] * CELL + CELL // 2


class TestMaze(WorldContract):
    """The contract, and what is particular to mazes."""

    family = "maze"

    def test_paths_are_walks_over_open_cells_as_long_as_the_difficulty_asks(self) -> None:
        for sample in self.samples:
            path, walls, record = _cells(sample), sample.record.labels["walls"], sample.record
            low, high = LENGTHS[record.split][record.difficulty]
            assert low <= len(path) == record.labels["path_length"] <= high
            assert len(set(path)) == len(path)
            assert all(walls[r][c] == "." for r, c in path)  # type: ignore[index]
            assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in itertools.pairwise(path))

    def test_every_maze_is_a_tree(self) -> None:
        for sample in self.samples:
            open_cells = sum(row.count(".") for row in sample.record.labels["walls"])  # type: ignore[union-attr]
            assert open_cells == 36 + 35

    def test_the_prompt_alone_names_the_trail(self) -> None:
        for sample in self.samples:
            colours = sample.record.labels["colours"]
            assert all(colours[name] in sample.record.prompt for name in ("walker", "goal", "trail"))  # type: ignore[index]
            assert len(set(colours.values())) == 5  # type: ignore[union-attr]
            last = truth(sample)[-1].reshape(-1, 3)
            trail = truth(sample)[-1][_centre(_cells(sample)[0])]
            assert not (sample.first_frame.reshape(-1, 3) == trail).all(axis=1).any()
            assert (last == trail).all(axis=1).any()

    def test_tracks_follow_the_walker(self) -> None:
        sample = self.samples[0]
        assert sample.tracks is not None
        walker = sample.first_frame[_centre(_cells(sample)[0])]
        for frame, (y, x) in enumerate(sample.tracks[0]):
            np.testing.assert_array_equal(truth(sample)[frame, round(y), round(x)], walker)

    def test_regions_hold_all_that_changes_and_follow_the_walk(self) -> None:
        for sample in self.samples[::10]:
            assert sample.regions is not None
            changed = (truth(sample) != sample.first_frame).any(axis=-1)
            assert not (changed & ~sample.regions[0]).any()
            cells = sample.regions[0].sum(axis=(1, 2)) // CELL**2
            np.testing.assert_array_equal(cells - 1, sample.record.labels["positions"])

    # ---- ways of cheating

    def test_a_walk_backwards_in_time_is_no_process(self) -> None:
        for sample in self.samples:
            assert self.overall(sample, truth(sample)[::-1].copy()) == 0

    def test_the_wrong_trail_colour_is_wrong(self) -> None:
        for sample in self.samples[::10]:
            video = truth(sample).copy()
            trail = video[-1][_centre(_cells(sample)[0])]
            video[(video == trail).all(axis=-1)] = (120, 255, 240)
            assert self.overall(sample, video) == 0

    def test_a_short_cut_through_a_wall_is_wrong(self) -> None:
        for sample in self.samples:
            path = _cells(sample)
            row = [(r, path[0][1]) for r in _between(path[0][0], path[-1][0])]
            straight = row + [(path[-1][0], c) for c in _between(path[0][1], path[-1][1])][1:]
            if straight != path:
                assert self.overall(sample, _walk(sample, straight)) == 0

    def test_two_walkers_spoil_their_frames(self) -> None:
        sample = self.samples[-1]
        video = truth(sample).copy()
        row, column = np.array(_cells(sample)[0]) * CELL
        walker = video[0, row : row + CELL, column : column + CELL].copy()
        video[4:12, row : row + CELL, column : column + CELL] = walker
        assert self.world.score(sample, video)["process"] <= 9 / 16

    def test_a_pause_is_lawful_but_a_leap_is_not(self) -> None:
        easy = next(sample for sample in self.samples if sample.record.labels["path_length"] == 9)
        pause = truth(easy)[[0, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]]
        leap = truth(easy)[[0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7, 7, 16, 16, 16, 16]]
        assert self.overall(easy, pause) == 1
        assert self.overall(easy, leap) < 0.6

    def test_half_a_walk_has_half_a_process_and_no_answer(self) -> None:
        sample = self.samples[0]
        video = truth(sample).copy()
        video[9:] = video[8]
        score = self.world.score(sample, video)
        assert score["answer"] == 0
        assert score["process"] == pytest.approx(0.5)


def _between(a: int, b: int) -> list[int]:
    return list(range(a, b + 1)) if a <= b else list(range(a, b - 1, -1))


class TestPrim:
    """The tree against a plain Kruskal, and paths against the tree."""

    def test_the_tree_is_the_minimum_spanning_tree(self) -> None:
        generator = torch.Generator().manual_seed(0)
        weights = torch.rand(20, DOORS, generator=generator)
        roots = torch.randint(36, (20,), generator=generator)
        _, _, opened = grow(roots, weights)
        for row in range(20):
            assert set(torch.nonzero(opened[row])[:, 0].tolist()) == _kruskal(weights[row].tolist())

    def test_depth_counts_the_rooms_to_the_root(self) -> None:
        generator = torch.Generator().manual_seed(1)
        parent, depth, _ = grow(torch.tensor([7]), torch.rand(1, DOORS, generator=generator))
        for room in range(36):
            steps, at = 0, room
            while at != 7:
                at, steps = int(parent[0, at]), steps + 1
            assert depth[0, room] == steps
            cells = path_of(trace(parent, depth, torch.tensor([room]))[0].numpy())
            assert len(cells) == 2 * steps + 1 <= PATH_MAX
            assert cells[-1] == (room // 6 * 2, room % 6 * 2)


def _kruskal(weights: list[float]) -> set[int]:
    group = list(range(36))
    chosen: set[int] = set()
    for door in sorted(range(DOORS), key=weights.__getitem__):
        a, b = (group[int(room)] for room in _DOORS[door])
        if a != b:
            chosen.add(door)
            group = [a if g == b else g for g in group]
    return chosen


def test_a_maze_is_registered_once_under_its_name() -> None:
    assert isinstance(worlds["maze"], Maze)
    assert "maze" in worlds.names()


def test_walks_fill_the_video() -> None:
    for sample in worlds["maze"].generate(6, seed=1):
        steps = sample.record.labels["positions"]
        assert len(steps) == FRAMES  # type: ignore[arg-type]
        assert (steps[0], steps[-1]) == (0, sample.record.labels["path_length"] - 1)  # type: ignore[index, operator]
        assert max(np.diff(steps)) - min(np.diff(steps)) <= 1  # type: ignore[arg-type]
