"""Names of the axes, in the order in which every array of the store uses them.

One word for one thing: code spells an axis through this module, never as a literal and never
by position.
"""

from typing import Final

RUN: Final = "run"
"""Stacked generations; exists only on what is loaded from several runs, never on disk."""
STEP: Final = "step"
"""Denoising step, 0 = pure noise. Steps of a captured subset keep their original numbers."""
BRANCH: Final = "branch"
"""`cond`, `uncond`, or (velocity only) `guided`, the combination that the scheduler is given."""
LAYER: Final = "layer"
"""Transformer block, 0 = first. A captured subset keeps its original numbers."""
HEAD: Final = "head"
"""Attention head, 0 = first. A captured subset keeps its original numbers."""
QUERY: Final = "query"
"""Token, or box of tokens, whose attention is kept: `frame:y:x` of the token grid, or `mean(…)` of a box."""
STAT: Final = "stat"
"""Name of a statistic, where a reduction keeps several of them: `mean`, `std`, `absmax`, …"""
FRAME: Final = "frame"
"""Latent frame for sites inside the model, video frame for pixels."""
Y: Final = "y"
"""Row of the grid of the site: tokens inside the transformer, latent cells, or pixels."""
X: Final = "x"
"""Column of the grid of the site."""
CHANNEL: Final = "channel"
"""Feature (model width), latent channel, or red-green-blue."""

ORDER: Final[tuple[str, ...]] = (RUN, STEP, BRANCH, LAYER, HEAD, QUERY, STAT, FRAME, Y, X, CHANNEL)
"""Every array's dimensions are a subsequence of this tuple."""
