"""The mean token of each frame."""

import torch

from interp.adapters import ModelAdapter
from interp.geometry import Geometry
from interp.reductions import Reduction, reductions
from interp.reductions._base import Tensor
from interp.sites import Site
from store.dims import CHANNEL, FRAME


class FrameMean(Reduction):
    """Mean over the rows and columns of each frame, accumulated and kept in float32."""

    name = "frame_mean"
    dims = (FRAME, CHANNEL)

    def shape(self, site: Site, geometry: Geometry) -> tuple[int, ...]:
        """See `Reduction.shape`."""
        return (site.grid(geometry).frames, site.channels(geometry))

    def reduce(self, value_bfyxc: Tensor, adapter: ModelAdapter) -> Tensor:
        """See `Reduction.reduce`."""
        return value_bfyxc.mean(dim=(2, 3), dtype=torch.float32)


reductions.add(FrameMean.name, FrameMean())
