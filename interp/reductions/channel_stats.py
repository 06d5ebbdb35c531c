"""What each channel does over all tokens."""

import torch

from interp.adapters import ModelAdapter
from interp.geometry import Geometry
from interp.reductions import Reduction, reductions
from interp.reductions._base import Tensor
from interp.sites import Site
from store.dims import CHANNEL, STAT


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
        mean = tokens_bnc.mean(dim=1, dtype=torch.float32)
        square = torch.linalg.vector_norm(tokens_bnc, dim=1, dtype=torch.float32).square() / tokens_bnc.shape[1]
        # One reading of the tokens; but along their own axis, a CPU takes 2.7 times as long for it as for two.
        on_cpu = tokens_bnc.device.type == "cpu"
        low, high = (tokens_bnc.amin(dim=1), tokens_bnc.amax(dim=1)) if on_cpu else tokens_bnc.aminmax(dim=1)
        absmax = torch.maximum(-low, high).float()
        return torch.stack([mean, (square - mean.square()).clamp_min(0).sqrt(), absmax], dim=1)


reductions.add(ChannelStats.name, ChannelStats())
