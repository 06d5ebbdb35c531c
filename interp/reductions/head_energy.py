"""Token energy of each attention head."""

from __future__ import annotations

import torch

from interp.adapters import ModelAdapter
from interp.geometry import Geometry
from interp.reductions import Reduction, reductions
from interp.reductions._base import Tensor, no_queries
from interp.reductions._heads import numbers_of
from interp.sites import Site
from store.dims import FRAME, HEAD, X, Y
from store.records import CaptureItem


class HeadEnergy(Reduction):
    """Raw L2 norm over the channels of each head, accumulated and kept in float32.

    Over all heads, the squares add up to the square of `energy`.

    Args:
        heads: Numbers of the heads that are kept.
        total: Heads that there are.
    """

    name = "head_energy"
    dims = (HEAD, FRAME, Y, X)

    def __init__(self, heads: tuple[int, ...] = (), total: int = 0) -> None:
        self._heads, self._total = heads, total

    def refuses(self, site: Site) -> str | None:
        """See `Reduction.refuses`."""
        return None if site.by_head else "only q, k, v and z are made of heads"

    def bound(self, item: CaptureItem, geometry: Geometry) -> HeadEnergy:
        """See `Reduction.bound`."""
        no_queries(item)
        return HeadEnergy(numbers_of(item, geometry), geometry.heads)

    def labels(self) -> dict[str, object]:
        """See `Reduction.labels`."""
        return {HEAD: list(self._heads)}

    def shape(self, site: Site, geometry: Geometry) -> tuple[int, ...]:
        """See `Reduction.shape`."""
        return (len(self._heads), *site.grid(geometry))

    def reduce(self, value_bfyxc: Tensor, adapter: ModelAdapter) -> Tensor:
        """See `Reduction.reduce`."""
        value_bfyxhd = value_bfyxc.unflatten(-1, (self._total, -1))
        if len(self._heads) < self._total:
            value_bfyxhd = value_bfyxhd[..., list(self._heads), :]
        return torch.linalg.vector_norm(value_bfyxhd, dim=-1, dtype=torch.float32).movedim(-1, 1).contiguous()


reductions.add(HeadEnergy.name, HeadEnergy())
