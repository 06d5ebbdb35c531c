"""What a reduction is: the part of a site's value that is kept, computed on the device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from interp.adapters import ModelAdapter
from interp.errors import BadSpec
from interp.geometry import Geometry
from interp.sites import Site
from store.dims import STAT
from store.records import CaptureItem

Tensor = torch.Tensor


class Reduction(ABC):
    """A function of one value `[f, y, x, c]` (one step, branch and layer), made for all runs of a batch at once."""

    name: ClassVar[str]
    dims: tuple[str, ...]
    """Axes of the result, in the order of `store.dims.ORDER`."""
    by_cell: ClassVar[bool] = False
    """Whether each (step, branch, layer) is written by itself, because it is large."""
    stats: ClassVar[tuple[str, ...]] = ()
    """Labels of the `stat` axis, where `dims` has one."""
    compressible: ClassVar[bool] = False
    """Whether the store should compress it."""

    def bound(self, item: CaptureItem, geometry: Geometry) -> Reduction:
        """This reduction with what `item` asks of it, itself where there is nothing to ask.

        Raises:
            BadSpec: if it cannot give that.
        """
        if item.heads is not None:
            raise BadSpec(f"{item.site}/{item.reduction} has no heads; leave heads out, or keep head_energy")
        no_queries(item)
        return self

    def beside(self, adapter: ModelAdapter) -> tuple[Reduction, ...]:
        """What is kept of the same site along with this, bound: what would be lost without it."""
        return ()

    def labels(self) -> dict[str, object]:
        """Labels of the axes that are neither places nor channels, as `store.RunWriter.add_array` takes them."""
        return {STAT: list(self.stats)} if self.stats else {}

    def refuses(self, site: Site) -> str | None:
        """Why `site` has no such reduction, or None where it has."""
        return "its values are no tensors, but attention; keep map" if site.attention else None

    def dtype(self, value: torch.dtype) -> torch.dtype:
        """Dtype of the result for a site whose values have dtype `value`."""
        return torch.float32

    @abstractmethod
    def shape(self, site: Site, geometry: Geometry) -> tuple[int, ...]:
        """Sizes of `dims`."""

    @abstractmethod
    def reduce(self, value_bfyxc: Tensor, adapter: ModelAdapter) -> Tensor:
        """The results `[b, …]` of b runs, on the device of the values, never views that the model could change.

        Each run's result follows from its own values alone. Of a site with `attention`, the value is a tuple of one
        `interp.attention.Attended` a run.
        """


def no_queries(item: CaptureItem) -> None:
    """Refuse queries for what has none.

    Raises:
        BadSpec: if `item` has some.
    """
    if item.queries is not None:
        raise BadSpec(f"{item.site}/{item.reduction} has no queries; they are for pattern/map")
