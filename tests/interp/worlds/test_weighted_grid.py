"""Weighted grid: its contract, and that the way is the only cheapest one, by trying them all."""

from __future__ import annotations

import heapq
import itertools
from typing import Any

from interp.worlds.weighted_grid import COSTLY, LEVELS
from tests.interp.worlds.contract import WorldContract


def neighbours(square: int) -> list[int]:
    row, column = divmod(square, 6)
    steps = ((row, column + 1), (row + 1, column), (row, column - 1), (row - 1, column))
    return [r * 6 + c for r, c in steps if 0 <= r < 6 and 0 <= c < 6]


def cheapest_ways(squares: list[int], start: int, goal: int) -> list[list[int]]:
    """All cheapest ways: grown in the order of their cost until a dearer one than the first arrives."""
    found: list[list[int]] = []
    best = sum(squares)
    waiting = [(0, [start])]
    while waiting:
        cost, way = heapq.heappop(waiting)
        if cost > best:
            break
        if way[-1] == goal:
            best = cost
            found.append(way)
            continue
        for after in neighbours(way[-1]):
            left = abs(after // 6 - goal // 6) + abs(after % 6 - goal % 6)
            if after not in way and cost + squares[after] + left <= best:
                heapq.heappush(waiting, (cost + squares[after], [*way, after]))
    return found


class TestWeightedGrid(WorldContract):
    """The contract, and what is particular to the grid."""

    family = "weighted_grid"

    def test_the_way_is_the_only_cheapest_one(self) -> None:
        for sample in self.samples[::2]:
            labels: dict[str, Any] = sample.record.labels
            ways = cheapest_ways(labels["squares"], labels["start"], labels["goal"])
            assert ways == labels["answers"]
            assert sum(labels["squares"][s] for s in ways[0][1:]) == labels["cost"]

    def test_the_wrong_way_is_lawful_and_shortest_but_dearer(self) -> None:
        for sample in self.samples:
            labels: dict[str, Any] = sample.record.labels
            other, start, goal = labels["shortest"], labels["start"], labels["goal"]
            assert all(b in neighbours(a) for a, b in itertools.pairwise(other))
            assert (other[0], other[-1]) == (start, goal)
            assert len(other) - 1 == abs(start // 6 - goal // 6) + abs(start % 6 - goal % 6)
            assert sum(labels["squares"][s] for s in other[1:]) > labels["cost"]

    def test_difficulty_is_as_promised(self) -> None:
        for sample in self.samples:
            labels: dict[str, Any] = sample.record.labels
            level = LEVELS[sample.record.split][sample.record.difficulty]
            assert level.fewest <= labels["steps"] <= level.most
            assert labels["steps"] - (len(labels["shortest"]) - 1) >= level.detour
            assert set(labels["squares"]) <= {1, COSTLY}

    def test_the_picture_shows_the_costs_and_the_walker_takes_the_way(self) -> None:
        for sample in self.samples[::4]:
            labels: dict[str, Any] = sample.record.labels
            corners = sample.first_frame[::16, ::16].reshape(36, 3).astype(int)
            for square, cost in enumerate(labels["squares"]):
                assert (corners[square, 2] < 200) == (cost == COSTLY)
            assert sample.tracks is not None
            y, x = sample.tracks[labels["objects"].index("walker")].T
            visited = dict.fromkeys(((y + 0.5) // 16 * 6 + (x + 0.5) // 16).astype(int).tolist())
            assert [square for square in labels["answers"][0] if square in visited] == list(visited)
