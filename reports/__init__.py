"""One self-contained HTML page about results: it opens from a disk, without a network, and computes nothing.

To draw a new kind of result, write one file here with a function that carries `@draws(name, place=…)`, and
import it below.
"""

from reports import energy, exchange, exploration, gains, numbers, probes, propagation, similarity, trajectory
from reports._page import QUERIES, render, write
from reports.errors import CannotWrite, NothingToReport, ReportError

__all__ = [
    "QUERIES",
    "CannotWrite",
    "NothingToReport",
    "ReportError",
    "energy",
    "exchange",
    "exploration",
    "gains",
    "numbers",
    "probes",
    "propagation",
    "render",
    "similarity",
    "trajectory",
    "write",
]
