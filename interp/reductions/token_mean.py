"""The mean token."""

import torch

from interp.adapters import ModelAdapter
from interp.geometry import Geometry
from interp.reductions import Reduction, reductions
from interp.reductions._base import Tensor
from interp.sites import Site
from store.dims import CHANNEL


class TokenMean(Reduction):
    """Mean over all tokens of the video, accumulated and kept in float32."""

    name = "token_mean"
    dims = (CHANNEL,)

    def shape(self, site: Site, geometry: Geometry) -> tuple[int, ...]:
        """See `Reduction.shape`."""
        return (site.channels(geometry),)

    def reduce(self, value_bfyxc: Tensor, adapter: ModelAdapter) -> Tensor:
        """See `Reduction.reduce`."""
        return value_bfyxc.mean(dim=(1, 2, 3), dtype=torch.float32)


reductions.add(TokenMean.name, TokenMean())
