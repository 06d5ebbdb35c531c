"""Everything."""

import torch

from interp.adapters import ModelAdapter
from interp.geometry import Geometry
from interp.reductions import Reduction, reductions
from interp.reductions._base import Tensor
from interp.sites import Site
from store.dims import CHANNEL, FRAME, X, Y


class Full(Reduction):
    """The value itself, bit for bit, in its own dtype."""

    name = "full"
    dims = (FRAME, Y, X, CHANNEL)
    by_cell = True

    def dtype(self, value: torch.dtype) -> torch.dtype:
        """The value's own."""
        return value

    def shape(self, site: Site, geometry: Geometry) -> tuple[int, ...]:
        """See `Reduction.shape`."""
        return (*site.grid(geometry), site.channels(geometry))

    def reduce(self, value_bfyxc: Tensor, adapter: ModelAdapter) -> Tensor:
        """See `Reduction.reduce`."""
        return value_bfyxc.clone(memory_format=torch.contiguous_format)


reductions.add(Full.name, Full())
