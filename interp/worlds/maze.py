"""Maze: a walker goes from start to goal along the only way there is, and leaves a trail.

Search with one answer. The board is 12×12 cells of 8 pixels: rooms at the even rows and columns of an
11×11 lattice, passages between them, a wall margin below and to the right. The maze is a minimum spanning
tree under random weights, grown by Prim's algorithm from the start, for a whole batch at once; a room's
parent in the tree is the way back to the start, so the path comes for free. In frame f of 17 the walker
stands on cell ⌊L·f/16⌋ of the path, so that every walk fills the video. The first frame shows the walker,
the goal and the walls; the colour of the trail is named only by the prompt.

Shapes: n samples, F frames, 12×12 cells, 6×6 = 36 rooms, 60 doors between neighbouring rooms.
"""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.worlds import BOARD, CELL, FRAMES, SIZE, Batch, World, WorldScore, _palette, worlds
from interp.worlds._random import pick, stream_key, uniform
from store.records import Sample, SampleRecord

ROOMS: Final = 6
FLOOR, WALL, TRAIL, WALKER, GOAL = range(5)
"""Classes of a cell, in the order of a sample's palette."""
LAST: Final = FRAMES - 1
UNREACHED: Final = 10_000
"""Place on the path of a cell that is not on it."""
PATH_MAX: Final = 2 * (ROOMS * ROOMS - 1) + 1
"""Cells of the longest path that a spanning tree allows."""

LENGTHS: Final = {
    "in_domain": {"easy": (5, 9), "medium": (11, 17), "hard": (19, 25)},
    "out_of_domain": {"easy": (5, 9), "medium": (11, 17), "hard": (27, 35)},
}
"""Path length in cells, both ends included; always odd. The bundled model never saw more than 25."""


class Colours(NamedTuple):
    """Names of the colours that a split draws from."""

    floor: str
    wall: str
    trails: tuple[str, ...]
    things: tuple[str, ...]
    """Of walker and goal."""


COLOURS: Final = {
    split: Colours("white", "black", _palette.THINGS["in_domain"], things) for split, things in _palette.THINGS.items()
}

TEMPLATES: Final = (
    "The {walker} square walks through the maze to the {goal} square and leaves a {trail} trail.",
    "Move the {walker} square along the path to the {goal} goal, drawing a {trail} line.",
    "Find the way from the {walker} cell to the {goal} cell and mark it in {trail}.",
    "In {trail}, a trail grows behind the {walker} walker until it reaches the {goal} goal.",
    "Solve the maze: {walker} goes to {goal}, and the path turns {trail}.",
    "The {walker} walker finds the {goal} square. Its trail is {trail}.",
)

_DOORS = torch.tensor(
    [(r * ROOMS + c, r * ROOMS + c + 1) for r in range(ROOMS) for c in range(ROOMS - 1)]
    + [(r * ROOMS + c, (r + 1) * ROOMS + c) for r in range(ROOMS - 1) for c in range(ROOMS)]
)
DOORS: Final = len(_DOORS)
ATTEMPTS: Final = 64
"""Mazes tried for one sample before giving up; one try in two succeeds in the hardest bin."""


def grow(root: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Prim's algorithm for a batch: the minimum spanning tree of the room grid, grown from `root`.

    Args:
        root: int64 `[n]`, the room to start from.
        weights: float32 `[n, DOORS]`, below 1; the smallest door on the frontier opens next.

    Returns:
        parent `[n, 36]` (the root is its own), depth `[n, 36]` in rooms, and open doors bool `[n, DOORS]`.
    """
    n, device = len(root), root.device
    row = torch.arange(n, device=device)
    ends = _DOORS.to(device)
    reached = torch.zeros(n, ROOMS * ROOMS, dtype=torch.bool, device=device)
    reached[row, root] = True
    parent = root[:, None].repeat(1, ROOMS * ROOMS)
    depth = torch.zeros_like(parent)
    opened = torch.zeros(n, DOORS, dtype=torch.bool, device=device)
    for _ in range(ROOMS * ROOMS - 1):
        frontier = reached[:, ends[:, 0]] ^ reached[:, ends[:, 1]]
        door = torch.where(frontier, weights, 2.0).argmin(dim=1)
        a, b = ends[door].unbind(dim=1)
        from_a = reached[row, a]
        old, new = torch.where(from_a, a, b), torch.where(from_a, b, a)
        reached[row, new] = True
        parent[row, new] = old
        depth[row, new] = depth[row, old] + 1
        opened[row, door] = True
    return parent, depth, opened


def trace(parent: Tensor, depth: Tensor, goal: Tensor) -> Tensor:
    """Place of every cell on the path from the root to `goal`.

    Args:
        parent: int64 `[n, 36]` and depth int64 `[n, 36]`: a tree of rooms, see `grow`.
        depth: See `parent`.
        goal: int64 `[n]`, a room.

    Returns:
        int64 `[n, 12, 12]`: 0 at the start, the path's length minus 1 at the goal, `UNREACHED` elsewhere.
    """
    n = len(goal)
    row = torch.arange(n, device=goal.device)
    place = torch.full((n, BOARD * BOARD), UNREACHED, device=goal.device)
    room, left = goal, depth[row, goal]
    place[row, _cell(room)] = 2 * left
    for _ in range(int(left.max())):
        before = parent[row, room]
        between = (_cell(room) + _cell(before)) // 2  # the passage is the cell midway; at the root, the room itself
        going = left > 0
        place[row, between] = torch.where(going, 2 * left - 1, place[row, between])
        left = (left - 1).clamp_min(0)
        place[row, _cell(before)] = torch.where(going, 2 * left, place[row, _cell(before)])
        room = before
    return place.view(n, BOARD, BOARD)


def _cell(room: Tensor) -> Tensor:
    """Number of a room's cell on the board, row by row."""
    return 2 * (room // ROOMS) * BOARD + 2 * (room % ROOMS)


def _walls(opened: Tensor) -> Tensor:
    """Everything but rooms and open doors, bool `[n, 12, 12]`."""
    n, device = len(opened), opened.device
    wall = torch.ones(n, BOARD * BOARD, dtype=torch.bool, device=device)
    wall[:, _cell(torch.arange(ROOMS * ROOMS, device=device))] = False
    ends = _DOORS.to(device)
    wall[:, (_cell(ends[:, 0]) + _cell(ends[:, 1])) // 2] = ~opened
    return wall.view(n, BOARD, BOARD)


def positions(length: Tensor) -> Tensor:
    """Place of the walker in each frame, int64 `[n, F]`, for paths of `length` cells int64 `[n]`."""
    return (length[:, None] - 1) * torch.arange(FRAMES, device=length.device) // LAST


def draw_cells(walls: Tensor, place: Tensor, length: Tensor) -> Tensor:
    """Class of every cell in every frame, uint8 `[n, F, 12, 12]`."""
    now = positions(length)[:, :, None, None]
    where = place[:, None]
    cells = torch.where(walls[:, None], WALL, FLOOR).expand(-1, FRAMES, -1, -1)
    cells = torch.where(where < now, TRAIL, cells)
    cells = torch.where(where == length[:, None, None, None] - 1, GOAL, cells)
    return torch.where(where == now, WALKER, cells).to(torch.uint8)


def paint(cells: Tensor, place: Tensor, length: Tensor, palette: Tensor) -> Tensor:
    """Videos from cells: every cell filled, the walker inset by one pixel over what it stands on.

    Args:
        cells: uint8 `[n, F, 12, 12]`, see `draw_cells`.
        place: int64 `[n, 12, 12]`, see `trace`.
        length: int64 `[n]`, cells of the path.
        palette: uint8 `[n, 5, 3]`, the colour of each class.

    Returns:
        uint8 `[n, F, 96, 96, 3]`.
    """
    n = len(cells)
    at_goal = (place == length[:, None, None] - 1)[:, None]
    under = torch.where(cells == WALKER, torch.where(at_goal, GOAL, FLOOR), cells.long())
    pixel = torch.arange(CELL, device=cells.device)
    inner = (pixel > 0) & (pixel < CELL - 1)
    inset = inner[:, None] & inner
    classes = torch.where(inset, cells.long()[..., None, None], under[..., None, None])  # [n, F, row, col, y, x]
    classes = classes.permute(0, 1, 2, 4, 3, 5).reshape(n, -1, 1).expand(-1, -1, 3)
    return palette.gather(1, classes).view(n, FRAMES, SIZE, SIZE, 3)


class Maze(World):
    """See the module."""

    name: ClassVar[str] = "maze"
    summary: ClassVar[str] = "walk through a maze to the goal, leaving a trail"
    group: ClassVar[str] = "search"
    difficulties: ClassVar[tuple[str, ...]] = ("easy", "medium", "hard")

    def draw(self, index: Tensor, *, seed: int, difficulty: str, split: str) -> Batch:
        """See `World.draw`; difficulty is the path's length, see `LENGTHS`."""
        self.check(difficulty=difficulty, split=split)
        key = stream_key(self.name, split, difficulty, seed)
        return self._drawn(index, key, self._mazes(index, key, LENGTHS[split][difficulty]), split)

    def wrong(self, index: Tensor, *, seed: int, difficulty: str, split: str) -> Tensor:
        """See `World.wrong`: a lawful walk from the same start to another room."""
        self.check(difficulty=difficulty, split=split)
        key = stream_key(self.name, split, difficulty, seed)
        truth = self._mazes(index, key, LENGTHS[split][difficulty])
        goal = truth["place"] == truth["length"][:, None, None] - 1
        truth = {**truth, "place": truth["other_place"], "length": truth["other_length"], "goal": goal}
        return self._drawn(index, key, truth, split).video

    def twin(self, index: Tensor, *, seed: int, difficulty: str, split: str) -> Batch:
        """See `World.twin`: the same maze under the same prompt, its goal in another room."""
        self.check(difficulty=difficulty, split=split)
        key = stream_key(self.name, split, difficulty, seed)
        truth = self._mazes(index, key, LENGTHS[split][difficulty])
        return self._drawn(index, key, {**truth, "place": truth["other_place"], "length": truth["other_length"]}, split)

    def _drawn(self, index: Tensor, key: int, truth: dict[str, Tensor], split: str) -> Batch:
        """Mazes with their colours and prompts."""
        u = uniform(stream_key(key, "look"), index, 4)
        colours = COLOURS[split]
        walker = pick(u[:, 0], len(colours.things))
        goal = (walker + 1 + pick(u[:, 1], len(colours.things) - 1)) % len(colours.things)
        trail = self._trails(colours, walker, goal, u[:, 2])
        named = [(colours.things[w], colours.things[g], colours.trails[t]) for w, g, t in _rows(walker, goal, trail)]
        palette = torch.from_numpy(
            np.stack([_palette.rgb(colours.floor, colours.wall, t, w, g) for w, g, t in named])
        ).to(index.device)
        look = torch.stack([walker, goal, trail], dim=1)
        cells = draw_cells(truth["walls"], truth["place"], truth["length"])
        if "goal" in truth:  # not at the end of the walk
            cells = torch.where(cells == GOAL, FLOOR, cells)
            cells = torch.where(truth["goal"][:, None] & (cells == FLOOR), GOAL, cells)
        video = paint(cells, truth["place"], truth["length"], palette)
        templates = pick(u[:, 3], len(TEMPLATES)).tolist()
        prompts = [
            TEMPLATES[i].format(walker=w, goal=g, trail=t) for i, (w, g, t) in zip(templates, named, strict=True)
        ]
        return Batch(video=video, prompts=prompts, truth={**truth, "cells": cells, "look": look})

    def _mazes(self, index: Tensor, key: int, lengths: tuple[int, int]) -> dict[str, Tensor]:
        """Walls, places and path lengths, redrawn until some room is as far away as the difficulty asks."""
        n, device = len(index), index.device
        walls = torch.zeros(n, BOARD, BOARD, dtype=torch.bool, device=device)
        place = torch.zeros(n, BOARD, BOARD, dtype=torch.int64, device=device)
        length = torch.zeros(n, dtype=torch.int64, device=device)
        other_place, other_length = place.clone(), length.clone()
        open_rows = torch.arange(n, device=device)
        for attempt in range(ATTEMPTS):
            u = uniform(stream_key(key, "maze", attempt), index[open_rows], DOORS + 2)
            root = pick(u[:, 0], ROOMS * ROOMS)
            parent, depth, opened = grow(root, u[:, 2:])
            goal, found = _goal(depth, u[:, 1], lengths)
            rows = open_rows[found]
            if len(rows):
                place[rows] = trace(parent[found], depth[found], goal[found])
                walls[rows] = _walls(opened[found])
                length[rows] = 2 * depth[found].gather(1, goal[found, None])[:, 0] + 1
                other = _other(depth[found], goal[found], uniform(stream_key(key, "other", attempt), index[rows], 36))
                other_place[rows] = trace(parent[found], depth[found], other)
                other_length[rows] = 2 * depth[found].gather(1, other[:, None])[:, 0] + 1
            open_rows = open_rows[~found]
            if not len(open_rows):
                found_all = {"walls": walls, "place": place, "length": length}
                return {**found_all, "other_place": other_place, "other_length": other_length}
        raise RuntimeError(f"no maze with a path of {lengths} cells in {ATTEMPTS} attempts")

    @staticmethod
    def _trails(colours: Colours, walker: Tensor, goal: Tensor, u: Tensor) -> Tensor:
        """A trail colour per sample that neither walker nor goal has, int64 `[n]`."""
        taken = torch.zeros(len(u), len(colours.trails), dtype=torch.bool, device=u.device)
        for thing in (walker, goal):
            for number, name in enumerate(colours.things):
                if name in colours.trails:
                    taken[:, colours.trails.index(name)] |= thing == number
        free = (~taken).long().cumsum(dim=1)
        wanted = (u[:, None] * free[:, -1:]).long() + 1
        return (free >= wanted).long().argmax(dim=1)

    def samples(self, batch: Batch, *, difficulty: str, split: str) -> list[Sample]:
        """See `World.samples`."""
        arrays = {name: tensor.cpu().numpy() for name, tensor in batch.truth.items()}
        videos = batch.video.cpu().numpy()
        segmentation = (arrays["cells"] == WALKER).repeat(CELL, axis=2).repeat(CELL, axis=3).astype(np.uint8)
        colours = COLOURS[split]
        made: list[Sample] = []
        for i, prompt in enumerate(batch.prompts):
            walker, goal, trail = arrays["look"][i]
            names = {
                "floor": colours.floor,
                "wall": colours.wall,
                "trail": colours.trails[trail],
                "walker": colours.things[walker],
                "goal": colours.things[goal],
            }
            path = path_of(arrays["place"][i])
            steps = [(len(path) - 1) * f // LAST for f in range(FRAMES)]
            record = SampleRecord(
                family=self.name,
                prompt=prompt,
                difficulty=difficulty,
                split=split,
                answers=1,
                labels={
                    "kind": "single",
                    "answers": [list(path[-1])],
                    "objects": ["walker"],
                    "colours": dict(names),
                    "start": list(path[0]),
                    "goal": list(path[-1]),
                    "path": [list(cell) for cell in path],
                    "path_length": len(path),
                    "positions": list(steps),
                    "walls": ["".join("#" if wall else "." for wall in row) for row in arrays["walls"][i]],
                },
            )
            visited = np.isin(arrays["cells"][i], (TRAIL, WALKER))
            centres = np.array([path[step] for step in steps], dtype=np.float32) * CELL + (CELL - 1) / 2
            made.append(
                Sample(
                    record,
                    first_frame=videos[i, 0],
                    video=videos[i],
                    regions=visited.repeat(CELL, axis=1).repeat(CELL, axis=2)[None],
                    tracks=centres[None].astype(np.float32),
                    segmentation=segmentation[i],
                )
            )
        return made

    def judge(self, sample: Sample, video: NDArray[np.uint8]) -> WorldScore:
        """Answer: the last frame shows the whole path walked. Process: the walk is seen, step by step.

        *answer* is 1 if in the last frame the walker stands on the goal, every other cell of the path has the
        trail's colour, no other cell has the trail's or the walker's, and 98 % of the other cells are as they
        were. *process* is the part of the path that was gained by lawful steps (forward along the path, in a
        clean frame, at most one cell further than the fastest true step), times the part of frames that are
        clean: one walker, on the path, behind it exactly the trail, no step back. *overall* is their product.
        """
        cells, place, length = _read(sample, video)
        answer = _answer(cells, place, length)
        process = _process(cells, place, length)
        return WorldScore(answer=answer, process=process, overall=answer * process)

    def which(self, sample: Sample, video: NDArray[np.uint8]) -> int | None:
        """See `World.which`."""
        return 0 if _answer(*_read(sample, video)) else None


def _read(sample: Sample, video: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Class of every cell of the video `[F, 12, 12]`, place of every cell on the true path, and its length."""
    labels = sample.record.labels
    colours, path = labels["colours"], labels["path"]
    assert isinstance(colours, dict)
    assert isinstance(path, list)
    palette = _palette.rgb(*(str(colours[name]) for name in ("floor", "wall", "trail", "walker", "goal")))
    place = np.full((BOARD, BOARD), UNREACHED)
    place[tuple(np.array(path).T)] = np.arange(len(path))
    return _palette.classify(_palette.cell_colours(video, CELL), palette), place, len(path)


def _other(depth: Tensor, goal: Tensor, u: Tensor) -> Tensor:
    """A room that is neither the root nor the goal, int64 `[n]`, by uniform numbers `u` `[n, 36]`."""
    free = (depth > 0).scatter(1, goal[:, None], False)
    return torch.where(free, u, -1.0).argmax(dim=1)


def _rows(*columns: Tensor) -> list[tuple[int, ...]]:
    return [tuple(row) for row in torch.stack(columns, dim=1).tolist()]


def _goal(depth: Tensor, u: Tensor, lengths: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A room at a depth drawn uniformly from those that `lengths` allows, and whether there is one."""
    low, high = lengths
    depths = torch.arange(-(-(low - 1) // 2), (high - 1) // 2 + 1, device=depth.device)
    wanted = depths[pick(u, len(depths))]
    fits = depth == wanted[:, None]
    return fits.long().argmax(dim=1), fits.any(dim=1)


def path_of(place: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cells (row, column) from start to goal, from the place of each cell `[12, 12]`."""
    rows, columns = np.nonzero(place < UNREACHED)
    order = np.argsort(place[rows, columns])
    return [(int(rows[i]), int(columns[i])) for i in order]


def _answer(cells: NDArray[np.int64], place: NDArray[np.int64], length: int) -> float:
    first, final = cells[0], cells[-1]
    on_path = place < UNREACHED
    walked = bool((final[place < length - 1] == TRAIL).all()) and bool((final[place == length - 1] == WALKER).all())
    strayed = bool(np.isin(final[~on_path], (TRAIL, WALKER)).any())
    kept = float((final[~on_path] == first[~on_path]).mean())
    return float(walked and not strayed and kept >= 0.98)


def _process(cells: NDArray[np.int64], place: NDArray[np.int64], length: int) -> float:
    stride = -(-(length - 1) // LAST) + 1
    at, best, gained, clean = 0, 0, 0, 0
    for frame in cells[1:]:
        walkers = place[frame == WALKER]
        found = len(walkers) == 1 and walkers[0] < UNREACHED
        here = int(walkers[0]) if found else at
        lawful = found and here >= at and bool(((frame == TRAIL) == (place < here)).all())
        clean += lawful
        if lawful and here - at <= stride:
            gained += max(0, here - best)
        if found:
            at, best = here, max(best, here)
    return float(gained / (length - 1) * clean / LAST)


worlds.add(Maze.name, Maze())
