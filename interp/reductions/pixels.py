"""The decoded video."""

import torch

from interp.adapters import ModelAdapter
from interp.geometry import Geometry
from interp.reductions import Reduction, reductions
from interp.reductions._base import Tensor
from interp.sites import Site
from store.dims import CHANNEL, FRAME, X, Y


class Pixels(Reduction):
    """The latent video decoded by the VAE, red-green-blue, rounded to uint8."""

    name = "pixels"
    dims = (FRAME, Y, X, CHANNEL)
    compressible = True

    def refuses(self, site: Site) -> str | None:
        """See `Reduction.refuses`."""
        return None if site.decodable else "only latent videos can be decoded (latent, x0_hat)"

    def dtype(self, value: torch.dtype) -> torch.dtype:
        """uint8."""
        return torch.uint8

    def shape(self, site: Site, geometry: Geometry) -> tuple[int, ...]:
        """See `Reduction.shape`."""
        return (*geometry.video, 3)

    def reduce(self, value_bfyxc: Tensor, adapter: ModelAdapter) -> Tensor:
        """See `Reduction.reduce`."""
        return to_uint8(adapter.decode(value_bfyxc))


def to_uint8(video: Tensor) -> Tensor:
    """Pixels in 0-1 as uint8, rounded to the nearest."""
    return (video.float() * 255).round_().to(torch.uint8)


reductions.add(Pixels.name, Pixels())
