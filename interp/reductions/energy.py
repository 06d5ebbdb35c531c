"""Token energy."""

import torch

from interp.adapters import ModelAdapter
from interp.geometry import Geometry
from interp.reductions import Reduction, reductions
from interp.reductions._base import Tensor
from interp.sites import Site
from store.dims import FRAME, X, Y


class Energy(Reduction):
    """Raw L2 norm over channels (SCIENCE, E6), accumulated and kept in float32."""

    name = "energy"
    dims = (FRAME, Y, X)

    def shape(self, site: Site, geometry: Geometry) -> tuple[int, ...]:
        """See `Reduction.shape`."""
        return tuple(site.grid(geometry))

    def reduce(self, value_bfyxc: Tensor, adapter: ModelAdapter) -> Tensor:
        """See `Reduction.reduce`."""
        return torch.linalg.vector_norm(value_bfyxc, dim=-1, dtype=torch.float32)


reductions.add(Energy.name, Energy())
