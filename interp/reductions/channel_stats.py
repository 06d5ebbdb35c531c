"""What each channel does over all tokens."""

from importlib.util import find_spec

import torch

from interp.adapters import ModelAdapter
from interp.geometry import Geometry
from interp.reductions import Reduction, reductions
from interp.reductions._base import Tensor
from interp.sites import Site
from store.dims import CHANNEL, STAT

_TRITON = find_spec("triton") is not None  # comes with torch for CUDA on Linux


class ChannelStats(Reduction):
    """Mean, standard deviation and greatest magnitude of each channel over all tokens of the video, in float32.

    Massive channels show in `absmax`; `std` standardises energy (SCIENCE, "Controls that we add").
    """

    name = "channel_stats"
    dims = (STAT, CHANNEL)
    stats = ("mean", "std", "absmax")

    def shape(self, site: Site, geometry: Geometry) -> tuple[int, ...]:
        """See `Reduction.shape`."""
        return (len(self.stats), site.channels(geometry))

    def reduce(self, value_bfyxc: Tensor, adapter: ModelAdapter) -> Tensor:
        """See `Reduction.reduce`; sums in float32, and no float32 copy of the tokens."""
        tokens_bnc = value_bfyxc.flatten(1, 3)
        if tokens_bnc.is_cuda and _TRITON:
            from interp.reductions._channel_sums import channel_sums

            total, square, absmax = channel_sums(tokens_bnc)
            mean, square = total / tokens_bnc.shape[1], square / tokens_bnc.shape[1]
        else:
            mean = tokens_bnc.mean(dim=1, dtype=torch.float32)
            square = torch.linalg.vector_norm(tokens_bnc, dim=1, dtype=torch.float32).square() / tokens_bnc.shape[1]
            absmax = torch.maximum(-tokens_bnc.amin(dim=1), tokens_bnc.amax(dim=1)).float()
        return torch.stack([mean, (square - mean.square()).clamp_min(0).sqrt(), absmax], dim=1)


reductions.add(ChannelStats.name, ChannelStats())
