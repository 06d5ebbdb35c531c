"""How things move over the frames: along polylines, by turns, at a steady speed.

Shapes: leading axes are free (`...`), W way points, F frames.
"""

from __future__ import annotations

import torch
from torch import Tensor

from interp.worlds._base import FRAMES


def ramp(start: Tensor | float, end: Tensor | float, *, device: torch.device | str = "cpu") -> Tensor:
    """Share of a movement that is done in each frame: 0 up to frame `start`, 1 from frame `end` on.

    Args:
        start: Frame number, float, or a tensor `[...]`.
        end: Frame number after `start`, float, or a tensor `[...]`.
        device: Where the result is made if neither is a tensor.

    Returns:
        float32 `[..., F]`, 0 to 1.
    """
    first, last = (torch.as_tensor(value, dtype=torch.float32) for value in (start, end))
    for value in (start, end):
        if isinstance(value, Tensor):
            device = value.device
    frame = torch.arange(FRAMES, device=device, dtype=torch.float32)
    first, last = first.to(device)[..., None], last.to(device)[..., None]
    return ((frame - first) / (last - first).clamp_min(1e-6)).clamp(0, 1)


def between(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """Straight from `start` to `end`, float32 `[..., 2]` each, by `share` `[..., F]`: `[..., F, 2]`."""
    return start[..., None, :] + (end - start)[..., None, :] * share[..., None]


def along(points: Tensor, share: Tensor) -> Tensor:
    """Along a polyline at a steady speed.

    Args:
        points: float32 `[..., W, 2]`, way points in pixels; repeat the last one where there are fewer.
        share: float32 `[..., F]`, share of the whole length that is done in each frame, see `ramp`.

    Returns:
        float32 `[..., F, 2]`.
    """
    legs = points.diff(dim=-2)
    lengths = legs.norm(dim=-1)
    ends = lengths.cumsum(dim=-1)
    done = share * ends[..., -1:]
    begins = (ends - lengths)[..., None, :]  # [..., 1, W-1]
    part = ((done[..., None] - begins) / lengths[..., None, :].clamp_min(1e-6)).clamp(0, 1)  # [..., F, W-1]
    part = torch.where(lengths[..., None, :] > 0, part, torch.zeros_like(part))
    return points[..., :1, :] + (part[..., None] * legs[..., None, :, :]).sum(dim=-2)
