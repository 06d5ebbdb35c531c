"""Tic-tac-toe: its contract, and that exactly the winning cells win."""

from __future__ import annotations

import itertools

from interp.worlds.tic_tac_toe import LINES, WINS, positions
from tests.interp.worlds.contract import WorldContract


class TestTicTacToe(WorldContract):
    """The contract, and what is particular to the game."""

    family = "tic_tac_toe"

    def test_answers_are_all_the_cells_that_win_and_no_others(self) -> None:
        for sample in self.samples:
            board = list(sample.record.labels["board"])  # type: ignore[arg-type]
            winning = [
                cell
                for cell in range(9)
                if board[cell] == 0
                and any(cell in line and all(board[c] == 1 for c in line if c != cell) for line in LINES)
            ]
            assert winning == sample.record.labels["answers"]
            assert len(winning) == sample.record.answers == WINS[sample.record.difficulty]

    def test_positions_are_lawful_and_different(self) -> None:
        for wins in WINS.values():
            boards = [tuple(board) for board in positions(wins).tolist()]
            assert len(set(boards)) == len(boards) > 20
            for board, line, player in itertools.product(boards, LINES, (1, 2)):
                assert any(board[cell] != player for cell in line)
