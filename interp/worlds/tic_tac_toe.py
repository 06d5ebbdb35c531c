"""Tic-tac-toe: a cross slides from the side into a cell that completes a line of three.

Search with k answers in different places: the board is drawn so that exactly k cells win at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.worlds import _palette, worlds
from interp.worlds._motion import between, ramp
from interp.worlds._random import pick, stream_key, uniform
from interp.worlds._scene import Scenes, SceneWorld, blank
from interp.worlds._sprites import Sprites, shape_number
from store.records import Json

WINS: Final = {"easy": 1, "medium": 2, "hard": 3}
"""Winning cells k by difficulty."""
LINES: Final = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
PITCH, LEFT, TOP, HALF, BAR = 24, 20, 24, 8.0, 4
"""Pixels from cell to cell, centre of the first column and row, half a mark, width of the board's lines."""
TRAY: Final = 84.0
"""Column where the cross waits."""


def positions(wins: int) -> Tensor:
    """Every position with exactly `wins` winning cells for the cross, and no line yet.

    Returns:
        int64 `[position, 9]`: 0 empty, 1 cross, 2 ring; with as many rings as crosses or one ring more, and an
        empty cell that does not win.
    """
    boards = torch.cartesian_prod(*[torch.arange(3)] * 9)
    lines = boards[:, torch.tensor(LINES)]
    crosses, rings = (boards == 1).sum(dim=1), (boards == 2).sum(dim=1)
    over = ((lines == 1).all(dim=2) | (lines == 2).all(dim=2)).any(dim=1)
    winning = winning_cells(boards)
    fits = (winning.sum(dim=1) == wins) & ~over & ((rings - crosses).clamp_min(0) <= 1) & (crosses - rings <= 1)
    return boards[fits & ((boards == 0) & ~winning).any(dim=1)]


def winning_cells(boards: Tensor) -> Tensor:
    """Empty cells that complete a line of crosses, bool `[n, 9]`, for boards `[n, 9]`."""
    winning = torch.zeros_like(boards, dtype=torch.bool)
    for line in LINES:
        cells = boards[:, list(line)]
        ready = ((cells == 1).sum(dim=1) == 2) & ((cells == 0).sum(dim=1) == 1)
        winning[:, list(line)] |= ready[:, None] & (cells == 0)
    return winning


class TicTacToe(SceneWorld):
    """See the module. Out of domain, marks have colours that training never shows."""

    name: ClassVar[str] = "tic_tac_toe"
    summary: ClassVar[str] = "put a cross into one of k cells that complete a line"
    group: ClassVar[str] = "multi-path"
    kind: ClassVar[str] = "multi-path"
    difficulties: ClassVar[tuple[str, ...]] = ("easy", "medium", "hard")

    TEMPLATES: ClassVar[tuple[str, ...]] = (
        "The {cross} cross moves to a cell that completes a line of three.",
        "Play tic tac toe: {cross} wins with one move. The other player is {ring}.",
        "Put the {cross} mark where it makes three in a row. The other player is {ring}.",
    )

    def scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """See `SceneWorld.scenes`."""
        n, device, wins = len(index), index.device, WINS[difficulty]
        u = uniform(stream_key(key, "board"), index, 5)
        known = positions(wins).to(device)
        board = known[pick(u[:, 0], len(known))]
        things = _palette.classes(_palette.THINGS[split], device=device)
        cross = pick(u[:, 1], len(things))
        ring = (cross + 1 + pick(u[:, 2], len(things) - 1)) % len(things)

        winning = winning_cells(board)
        rank = torch.where(winning, 0, torch.where(board == 0, 1, 2)) * 9 + torch.arange(9, device=device)
        cells = rank.argsort(dim=1)[:, : wins + 1]  # [n, A]: winning cells, then one that only is empty
        centres = torch.stack(
            [TOP + PITCH * (torch.arange(9, device=device) // 3), LEFT + PITCH * (torch.arange(9, device=device) % 3)],
            dim=1,
        ).float()
        start = torch.tensor([TOP + PITCH, TRAY], device=device, dtype=torch.float32).expand(n, wins + 1, 2)
        moving = between(start, centres[cells], ramp(0, 16, device=device))[:, :, :, None]  # [n, A, F, 1, 2]
        still = centres.view(1, 1, 1, 9, 2).expand(n, wins + 1, moving.shape[2], 9, 2)

        shape = torch.where(board == 1, shape_number("ex"), shape_number("ring"))
        colour = torch.where(board == 1, things[cross][:, None], things[ring][:, None])
        one = torch.ones(n, 1, dtype=torch.bool, device=device)
        sprites = Sprites(
            centre=torch.cat([still, moving], dim=3),
            half=torch.full((1, 1, 1, 10, 2), HALF, device=device),
            shape=torch.cat([shape, torch.full_like(cross, shape_number("ex"))[:, None]], dim=1)[:, None, None],
            colour=torch.cat([colour, things[cross][:, None]], dim=1)[:, None, None],
            visible=torch.cat([board > 0, one], dim=1)[:, None, None],
        )
        backdrop = blank(n, device)
        for line in range(2):
            middle = PITCH * line + PITCH // 2
            backdrop[:, TOP + middle - BAR // 2 : TOP + middle + BAR // 2, LEFT - 12 : LEFT + 60] = 1
            backdrop[:, TOP - 12 : TOP + 60, LEFT + middle - BAR // 2 : LEFT + middle + BAR // 2] = 1
        names = _palette.THINGS[split]
        templates = pick(u[:, 3], len(self.TEMPLATES)).tolist()
        prompts = [
            self.TEMPLATES[t].format(cross=names[c], ring=names[r])
            for t, c, r in zip(templates, cross.tolist(), ring.tolist(), strict=True)
        ]
        return Scenes(
            prompts=prompts,
            backdrop=backdrop,
            sprites=sprites,
            tracked=(*(f"mark {cell}" for cell in range(9)), "cross"),
            answers=torch.full((n,), wins),
            notes={"board": board, "cells": cells[:, :wins]},
        )

    def labels(self, notes: Mapping[str, NDArray[np.int64]], i: int) -> Json:
        """`answers`: winning cells 0-8, row by row; `board`: 0 empty, 1 cross, 2 ring."""
        return {"answers": notes["cells"][i].tolist(), "board": notes["board"][i].tolist()}


worlds.add(TicTacToe.name, TicTacToe())
