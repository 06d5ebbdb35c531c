"""An HTML page about results, in one file or with its videos beside it: it opens from a disk, without a network.

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
from reports._comparison import group_name
from reports._index_page import pages_beside, render_index, write_index
from reports._page import QUERIES, Mode, render, write
from reports.errors import CannotWrite, NothingToReport, ReportError

__all__ = [
    "QUERIES",
    "CannotWrite",
    "Mode",
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
    "group_name",
    "motion_heads",
    "noise",
    "numbers",
    "pages_beside",
    "probes",
    "propagation",
    "render",
    "render_index",
    "similarity",
    "token_pca",
    "trajectory",
    "write",
    "write_index",
]
