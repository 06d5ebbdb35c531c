"""Detour: its contract, and that the answers are all the routes there are, equally long and clear of walls."""

from __future__ import annotations

import itertools
from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray

from interp.worlds import SIZE, _palette
from interp.worlds.detour import GATE, MIDDLE, THING, Plan, points
from store.records import Sample
from tests.interp.worlds.contract import WorldContract


def board(sample: Sample) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
    """Black pixels, start and target of a sample, turned so that the way runs down rows or columns as drawn."""
    assert sample.tracks is not None
    black = (sample.first_frame == _palette.rgb("black")[0]).all(axis=-1)
    target, thing = sample.tracks[:, 0]
    if sample.record.labels["direction"] in {"up", "down"}:
        black, target, thing = black.T, target[::-1], thing[::-1]
    return black, thing, target


def free(black: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where the middle of the thing may be so that it is on the board and touches nothing black."""
    half = int(THING)
    padded = np.pad(black, half, constant_values=True)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * half + 1, 2 * half + 1))
    return np.logical_not(windows.any(axis=(2, 3)))


def connected(open_: NDArray[np.bool_], start: tuple[int, int], end: tuple[int, int]) -> bool:
    """Whether a path of free pixels leads from `start` to `end`."""
    seen, queue = {start}, deque([start])
    while queue:
        y, x = queue.popleft()
        for place in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
            inside = 0 <= place[0] < SIZE and 0 <= place[1] < SIZE
            if inside and place not in seen and open_[place]:
                seen.add(place)
                queue.append(place)
    return end in seen


class TestDetour(WorldContract):
    """The contract, and what is particular to routes."""

    family = "detour"

    def test_answers_are_all_the_ways_round_and_no_others(self) -> None:
        for sample in self.samples:
            black, start, target = board(sample)
            routes = sample.record.labels["answers"]
            row = int(start[0])
            across = np.flatnonzero(np.diff(black[row].astype(int), prepend=0) == 1)  # first columns of the walls
            middles = [int(column) + 2 for column in across]
            if start[1] > target[1]:
                middles.reverse()
            names = ("left", "right") if sample.record.labels["direction"] in {"up", "down"} else ("above", "below")
            found = []
            for route in itertools.product(names, repeat=len(middles)):
                shut = black.copy()
                for column, side in zip(middles, route, strict=True):
                    shut[slice(row, None) if side == names[0] else slice(None, row), column] = True
                ends = [(int(y), int(x)) for y, x in (start, target)]
                if connected(free(shut), ends[0], ends[1]):
                    found.append(list(route))
            assert sorted(routes) == sorted(found)  # type: ignore[arg-type, type-var]

    def test_the_thing_touches_no_wall_on_its_way(self) -> None:
        for sample in self.samples:
            assert sample.segmentation is not None
            black = (sample.first_frame == _palette.rgb("black")[0]).all(axis=-1)
            assert not (sample.segmentation.astype(bool) & black).any()

    def test_routes_are_equally_long(self) -> None:
        plan = Plan(torch.tensor([47.5]), torch.tensor([20.0]), torch.tensor([[21.5, 73.5]]), torch.zeros(1, 2, 2) > 0)
        sides = torch.tensor([list(itertools.product((0, 1), repeat=2))])
        lengths = points(plan, sides).diff(dim=2).norm(dim=-1).sum(dim=2)
        assert lengths.tolist() == [[78.0 + 4 * 32.0] * 4]

    def test_two_walls_in_a_row_have_a_gate_between_them(self) -> None:
        for sample in self.samples:
            if sample.record.difficulty == "hard":
                black, start, _ = board(sample)
                rows = np.flatnonzero(~black[:, int(MIDDLE)])
                assert rows.min() == start[0] - GATE + 0.5
                assert len(rows) == 2 * GATE
