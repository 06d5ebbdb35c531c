"""An HTML page about results, in one file or with its videos beside it: it opens from a disk, without a network.

To draw a new kind of result, write one file here with a function that carries `@draws(name, place=…)`, and
import it below.
"""

from reports import (
    behaviours,
    channels,
    correspondence,
    energy,
    exchange,
    exploration,
    features,
    gains,
    motion_heads,
    numbers,
    probes,
    propagation,
    similarity,
    token_pca,
    trajectory,
)
from reports._page import QUERIES, Mode, render, write
from reports.errors import CannotWrite, NothingToReport, ReportError

__all__ = [
    "QUERIES",
    "CannotWrite",
    "Mode",
    "NothingToReport",
    "ReportError",
    "behaviours",
    "channels",
    "correspondence",
    "energy",
    "exchange",
    "exploration",
    "features",
    "gains",
    "motion_heads",
    "numbers",
    "probes",
    "propagation",
    "render",
    "similarity",
    "token_pca",
    "trajectory",
    "write",
]
