"""One self-contained HTML page about results: it opens from a disk, without a network, and computes nothing.

To draw a new kind of result, write one file here with a function that carries `@draws(name, place=…)`, and
import it below.
"""

from reports import (
    attribution,
    behaviours,
    channels,
    correspondence,
    energy,
    exchange,
    exploration,
    features,
    gains,
    motion_heads,
    noise,
    numbers,
    probes,
    propagation,
    similarity,
    token_pca,
    trajectory,
)
from reports._page import QUERIES, render, write
from reports.errors import CannotWrite, NothingToReport, ReportError

__all__ = [
    "QUERIES",
    "CannotWrite",
    "NothingToReport",
    "ReportError",
    "attribution",
    "behaviours",
    "channels",
    "correspondence",
    "energy",
    "exchange",
    "exploration",
    "features",
    "gains",
    "motion_heads",
    "noise",
    "numbers",
    "probes",
    "propagation",
    "render",
    "similarity",
    "token_pca",
    "trajectory",
    "write",
]
