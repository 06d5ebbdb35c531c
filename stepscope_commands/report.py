"""`stepscope report`: one HTML file about the runs of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stepscope_commands._options import Store, Where
from stepscope_commands._printing import say
from stepscope_commands._results import kept, write_report


def report(
    *,
    store: Store,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="The HTML file to write.")],
    where: Where = None,
) -> None:
    """Write one HTML file about the runs of a store; it works offline."""
    say(str(write_report(kept(store), out, where=where)))
