"""What a command prints: lines, tables, JSON, and the one line of a refusal."""

from __future__ import annotations

import json
import sys
from typing import Any, NoReturn


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """Print a line on standard error, beside what a command answers."""
    sys.stderr.write(text + "\n")


def fail(text: str, *, code: int = 2) -> NoReturn:
    """End with one line on standard error.

    Raises:
        SystemExit: with `code`.
    """
    line = " ".join(text.split())
    sys.stderr.write(f"stepscope: {line}\n")
    raise SystemExit(code)


def print_json(value: Any) -> None:
    """Print a value as JSON; what JSON has no type for, as text."""
    say(json.dumps(value, indent=2, default=str))


def print_table(columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    """Print rows under their columns; None is an empty cell."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns)
    for row in rows:
        # Text, not markup: what is stored may hold square brackets and control sequences.
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
