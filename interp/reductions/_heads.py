"""Which heads an item of a capture spec asks for."""

from interp.errors import BadSpec
from interp.geometry import Geometry
from store.records import CaptureItem


def numbers_of(item: CaptureItem, geometry: Geometry) -> tuple[int, ...]:
    """Numbers of the heads that `item` keeps by themselves.

    Raises:
        BadSpec: if it asks for their mean, or for one that is not there.
    """
    name = f"{item.site}/{item.reduction}"
    if item.heads is None:
        return tuple(range(geometry.heads))
    if isinstance(item.heads, str):
        raise BadSpec(f"{name} has no mean over heads; leave heads out, or name some")
    if item.heads[-1] >= geometry.heads:
        raise BadSpec(
            f"{name} asks for head {item.heads[-1]}, but there are {geometry.heads}: 0 to {geometry.heads - 1}"
        )
    return item.heads
