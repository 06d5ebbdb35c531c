"""The few channels that carry most of the norm."""

import torch

from interp.adapters import ModelAdapter
from interp.geometry import Geometry
from interp.reductions import Reduction, reductions
from interp.reductions._base import Tensor
from interp.sites import Site
from store.dims import CHANNEL, STAT

K = 16


class TopkChannels(Reduction):
    """The 16 channels with the greatest root mean square over all tokens, strongest first, in float32.

    `stat` is `number` (of the channel) and `rms`; along the `channel` axis stands the rank.
    """

    name = "topk_channels"
    dims = (STAT, CHANNEL)
    stats = ("number", "rms")

    def shape(self, site: Site, geometry: Geometry) -> tuple[int, ...]:
        """See `Reduction.shape`."""
        return (len(self.stats), min(K, site.channels(geometry)))

    def reduce(self, value_bfyxc: Tensor, adapter: ModelAdapter) -> Tensor:
        """See `Reduction.reduce`."""
        tokens_bnc = value_bfyxc.flatten(1, 3)
        norm = torch.linalg.vector_norm(tokens_bnc, dim=1, dtype=torch.float32)
        greatest, number = norm.topk(min(K, norm.shape[-1]))
        return torch.stack([number.float(), greatest / tokens_bnc.shape[1] ** 0.5], dim=1)


reductions.add(TopkChannels.name, TopkChannels())
