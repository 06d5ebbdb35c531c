"""The rule for a method that is said to raise the score: beyond chance, and not less than its cost buys elsewhere."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from analyses.experiments._paired import Float, Interval, interval, p_value

FEWEST: Final = 10
"""Samples below which nothing is decided."""
LEAST: Final = 0.015
"""Gain below which a method does not count as raising the score: half of the gain that the paper reports."""
ROOM: Final = 0.03
"""Possible gain below which there is nothing to be gained."""
LEVEL: Final = 0.05
"""Of the test."""
RULE: Final = (
    "Replicates: the gain is above 0 (lower end of its interval, and p < 0.05 by flipping signs), and at equal "
    "forwards the method is not lower than one longer run (upper end of the difference not below 0). Does not "
    "replicate: the gain is below 0.015 (upper end), or the method is lower than the longer run. Inconclusive "
    "otherwise, with fewer than 10 samples, or where less than 0.03 can be gained at all."
)
"""In words."""


def decide(gain: Float, equal: Float, *, room: float) -> Any:
    """The verdict, by `RULE`.

    Args:
        gain: Score of the method less that of the reference, `[sample]`.
        equal: Score of the method less that of one longer run of as many forwards, `[sample]`.
        room: What can be gained at all.
    """
    ours, theirs = interval(gain), interval(equal)
    if ours.n < FEWEST or not np.isfinite(theirs.low) or not room >= ROOM:
        return "inconclusive"
    if ours.high < LEAST or theirs.high < 0:
        return "does not replicate"
    if ours.low > 0 and p_value(gain) < LEVEL:
        return "replicates"
    return "inconclusive"


def words(one: Interval) -> str:
    """A signed mean with its interval."""
    text = f"{one.mean:+.3f}"
    return f"{text} ({one.low:+.3f} to {one.high:+.3f})" if np.isfinite(one.low) else text
