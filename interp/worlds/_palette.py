"""The colours that worlds draw with, by the names that prompts use, and their way back from pixels.

A *class* of a pixel is the number of its colour in `NAMES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

RGB: Final[dict[str, tuple[int, int, int]]] = {
    "white": (242, 242, 238),
    "black": (38, 38, 46),
    "brown": (122, 78, 44),
    "grey": (140, 140, 146),
    "red": (214, 48, 49),
    "orange": (243, 130, 30),
    "yellow": (246, 214, 50),
    "green": (52, 168, 83),
    "blue": (44, 96, 220),
    "purple": (146, 62, 190),
    "pink": (246, 138, 190),
    "cyan": (58, 196, 214),
    "beige": (226, 200, 150),
}
"""Name → red, green, blue (0-255). Any two differ by at least 70 in some channel."""

NAMES: Final = tuple(RGB)
"""Colour names by class."""

THINGS: Final[dict[str, tuple[str, ...]]] = {
    "in_domain": ("red", "orange", "yellow", "green", "blue", "purple", "cyan"),
    "out_of_domain": ("pink", "brown", "grey"),
}
"""Colours of movable things by split; the bundled model was not trained on those of `out_of_domain`."""

OTHER = -1
"""Class of a colour that is near none of those asked about."""


def rgb(*names: str) -> NDArray[np.uint8]:
    """The colours called `names`, uint8 `[name, channel]`."""
    return np.array([RGB[name] for name in names], dtype=np.uint8)


def classes(names: Sequence[str], *, device: torch.device | str = "cpu") -> Tensor:
    """Classes of the colours called `names`, int64 `[name]`."""
    return torch.tensor([NAMES.index(name) for name in names], device=device)


def to_rgb(pixels: Tensor) -> Tensor:
    """Classes of pixels, any integer `[...]`, as colours, uint8 `[..., 3]`."""
    return torch.from_numpy(rgb(*NAMES)).to(pixels.device)[pixels.long()]


def cell_colours(video: NDArray[np.uint8], cell: int) -> NDArray[np.float32]:
    """Mean colour of the inner half of each cell.

    Args:
        video: uint8 `[frame, y, x, channel]`, height and width divisible by `cell`.
        cell: Cell size in pixels.

    Returns:
        float32 `[frame, row, column, channel]`, 0-255.
    """
    frames, height, width, channels = video.shape
    cells = video.reshape(frames, height // cell, cell, width // cell, cell, channels)
    edge = cell // 4
    return cells[:, :, edge : cell - edge, :, edge : cell - edge].mean(axis=(2, 4), dtype=np.float32)


def classify(colours: NDArray[np.float32], palette: NDArray[np.uint8], *, tolerance: float = 60.0) -> NDArray[np.int64]:
    """Index of the nearest palette colour, `OTHER` where none is within `tolerance` (RGB distance).

    Args:
        colours: float32 `[..., channel]`.
        palette: uint8 `[class, channel]`.
        tolerance: Largest Euclidean distance that still counts.

    Returns:
        int64 `[...]`.
    """
    distance = np.linalg.norm(colours[..., None, :] - palette.astype(np.float32), axis=-1)
    nearest = distance.argmin(axis=-1)
    return np.where(distance.min(axis=-1) <= tolerance, nearest, OTHER)
