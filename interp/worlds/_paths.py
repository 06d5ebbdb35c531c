"""Ways that things take: through points at given times, and clear of what they must not touch.

Shapes: leading axes are free (`...`), n samples, K candidates, P places, W way points, L legs, F frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from interp.worlds._base import FRAMES
from interp.worlds._random import uniform

TRIES: Final = 128
"""Candidates that a sample is chosen from; the first good one is taken."""


def timed(points: Tensor, knots: Sequence[float]) -> Tensor:
    """Through way points, straight and steadily from each to the next.

    Args:
        points: float32 `[..., W, 2]`.
        knots: When each is reached, in frames, W of them in growing order, from 0 to the last frame.

    Returns:
        float32 `[..., F, 2]`.
    """
    when = torch.tensor(knots, dtype=torch.float32, device=points.device)
    frame = torch.arange(FRAMES, dtype=torch.float32, device=points.device)
    leg = (frame[:, None] >= when[1:-1]).sum(dim=1)
    share = ((frame - when[leg]) / (when[leg + 1] - when[leg]))[:, None]
    return points[..., leg, :] * (1 - share) + points[..., leg + 1, :] * share


def distance(places: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """From every place to the nearest point of every leg.

    Args:
        places: float32 `[..., P, 2]`.
        starts: float32 `[..., L, 2]`.
        ends: float32 `[..., L, 2]`.

    Returns:
        float32 `[..., P, L]`, in the unit of the places.
    """
    way, off = (ends - starts)[..., None, :, :], places[..., :, None, :] - starts[..., None, :, :]
    share = (off * way).sum(dim=-1) / (way * way).sum(dim=-1).clamp_min(1e-6)
    return (off - share.clamp(0, 1)[..., None] * way).norm(dim=-1)


def first(good: Tensor, candidates: Tensor) -> Tensor:
    """The first good candidate of each sample, or candidate 0 where none is good.

    Args:
        good: bool `[n, K]`.
        candidates: `[n, K, ...]`.

    Returns:
        `[n, ...]`.
    """
    return candidates[torch.arange(len(good), device=good.device), good.int().argmax(dim=1)]


def scatter_places(
    slots: Tensor, index: Tensor, legs: Sequence[tuple[int, int]], count: int, *, key: int, clear: float, reach: float
) -> Tensor:
    """Places at random, so that the ways between some of them pass no other one.

    Args:
        slots: float32 `[slot, 2]`, where places may be.
        index: int64 `[n]`.
        legs: The ways, as numbers of two of the places.
        count: Places P.
        key: The stream.
        clear: Least pixels between the middle of a way and a place that is not an end of it.
        reach: Least pixels along a way.

    Returns:
        float32 `[n, P, 2]`.
    """
    n, device, choices = len(index), index.device, len(slots)
    u = uniform(key, index, TRIES * choices).view(n, TRIES, choices)
    places = slots[u.argsort(dim=2)[..., :count]]
    ends = torch.tensor(legs, device=device)
    starts, stops = places[:, :, ends[:, 0]], places[:, :, ends[:, 1]]
    own = (torch.arange(count, device=device)[:, None, None] == ends).any(dim=-1)  # [P, L]
    apart = distance(places, starts, stops).masked_fill(own, torch.inf)
    good = (apart >= clear).all(dim=3).all(dim=2) & ((stops - starts).norm(dim=-1) >= reach).all(dim=2)
    return first(good, places)
