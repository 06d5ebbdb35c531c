"""`stepscope report`: an HTML page about the runs of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from stepscope_commands._options import Store, Where
from stepscope_commands._printing import say
from stepscope_commands._results import kept, write_report


def report(
    *,
    store: Store,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="The HTML file to write.")],
    where: Where = None,
    mode: Annotated[
        Literal["single", "folder"],
        Parameter(
            help="single: everything in one file, a folder all the same above 50 MB. folder: videos and tables as "
            "files in OUT_files beside the page."
        ),
    ] = "single",
) -> None:
    """Write an HTML page about the runs of a store; it works offline."""
    say(str(write_report(kept(store), out, where=where, mode=mode)))
