"""A seeded random projection to few dimensions."""

from functools import lru_cache

import torch

from interp.adapters import ModelAdapter
from interp.geometry import Geometry
from interp.reductions import Reduction, reductions
from interp.reductions._base import Tensor
from interp.sites import Site
from store.dims import CHANNEL, FRAME, X, Y

COMPONENTS = 64
SEED = 0


class Project(Reduction):
    """Every token on 64 orthonormal directions, the same for all models of one width; in the value's own dtype.

    Directions are the Q factor of a Gaussian matrix from the CPU generator with seed 0, so that distances and
    angles between tokens are kept up to a factor (Johnson and Lindenstrauss 1984) and runs compare.
    """

    name = "project"
    dims = (FRAME, Y, X, CHANNEL)

    def refuses(self, site: Site) -> str | None:
        """Latents have fewer channels than there are directions."""
        return "a latent has few channels already; keep it with full" if site.latent_grid else super().refuses(site)

    def dtype(self, value: torch.dtype) -> torch.dtype:
        """The value's own."""
        return value

    def shape(self, site: Site, geometry: Geometry) -> tuple[int, ...]:
        """See `Reduction.shape`."""
        return (*site.grid(geometry), min(COMPONENTS, site.channels(geometry)))

    def reduce(self, value_bfyxc: Tensor, adapter: ModelAdapter) -> Tensor:
        """See `Reduction.reduce`."""
        return value_bfyxc @ directions(value_bfyxc.shape[-1], value_bfyxc.device, value_bfyxc.dtype)


@lru_cache(maxsize=8)
def directions(width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The directions, `[channel, component]`, orthonormal columns up to the rounding of `dtype`."""
    generator = torch.Generator().manual_seed(SEED)
    gaussian = torch.randn(width, min(COMPONENTS, width), generator=generator, dtype=torch.float64)
    return torch.linalg.qr(gaussian).Q.to(device=device, dtype=dtype)


reductions.add(Project.name, Project())
