"""The smallest number (of frames, of steps) that does as well as any other, found by a rule."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from analyses.experiments._paired import Float, Interval, interval

MARGIN: Final = 0.05
"""Score that a sufficient number may lose against another one."""
RULE: Final = (
    "A number is sufficient if its score is lower than that of no other tested number by more than 0.05: upper end of "
    "each paired interval, for which one sample that loses all and one that gains all are added, so that few samples "
    "prove nothing. The smallest sufficient number is the last that passes when tested one after another from the best "
    "(highest mean) down, which needs no correction for how many there are."
)
"""In words."""


class Sufficient(NamedTuple):
    """What the rule finds."""

    best: int
    """Position of the number with the highest mean; of equals the last."""
    smallest: int | None
    """Position of the smallest sufficient one; None where nothing is proven sufficient."""
    lost: tuple[Interval, ...]
    """Of each number, what it loses against the one that it loses most against, see `guarded`."""

    @property
    def passes(self) -> tuple[bool, ...]:
        """Whether each number is sufficient, taken by itself."""
        return tuple(one.high <= MARGIN for one in self.lost)


def sufficient(score: Float) -> Sufficient:
    """Apply `RULE`.

    Args:
        score: `[number, sample]`, the numbers rising; NaN is a sample without a score.

    Example:
        >>> sufficient(np.concatenate([np.zeros((1, 200)), np.ones((3, 200))])).smallest
        1
        >>> sufficient(np.ones((3, 12))).smallest is None  # too few to prove it
        True
    """
    means = [float(np.nanmean(row)) if np.isfinite(row).any() else -np.inf for row in score]
    best = max(range(len(means)), key=lambda at: (means[at], at))
    found = Sufficient(best, None, tuple(_most(score, at) for at in range(len(score))))
    for at in range(best, -1, -1):
        if not found.passes[at]:
            break
        found = found._replace(smallest=at)
    return found


def _most(score: Float, at: int) -> Interval:
    """What one number loses against the one with the greatest upper end."""
    against = [guarded(row - score[at]) for other, row in enumerate(score) if other != at]
    return max(against, key=lambda one: one.high if np.isfinite(one.high) else np.inf)


def guarded(difference: Float) -> Interval:
    """Mean of differences of scores, and an interval to which the two greatest possible differences were added.

    The bootstrap alone is certain where no sample differs, however few they are; the added ones keep the share of
    false claims at the nominal one (after Agresti and Min 2005, matched proportions).

    Args:
        difference: Between -1 and 1, `[sample]`.
    """
    kept = difference[np.isfinite(difference)]
    if len(kept) == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    wide = interval(np.append(kept, [1.0, -1.0]))
    return Interval(float(kept.mean()), wide.low, wide.high, len(kept))
