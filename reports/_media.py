"""Videos and maps as sheets: one picture that holds every frame of every step, cut up by the page.

A sheet has a row for each step (or layer) and a column for each frame. One file instead of hundreds
of small ones keeps the page small, and the page needs nothing but a background position to show a cell.
"""

from __future__ import annotations

import base64
import io
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_SIDE: Final = 160
"""Longest side of a shown cell in pixels; a larger video is averaged in whole blocks."""
MAX_ROWS: Final = 32
"""Steps of a video that a sheet holds at most."""
MAX_COLUMNS: Final = 25
"""Frames of a video that a sheet holds at most."""
BLOCK: Final = 16
"""Side of WebP's own blocks in pixels."""
MARGIN: Final = 4
"""Pixels round each cell of a lossy sheet, at least."""
QUALITY: Final = 75
"""WebP quality of videos, of 100. Lossy WebP halves the resolution of colours, which bleed over a pixel or two at any
quality: at 92 a noisy video weighs three times as much, and the bleeding stays."""


class Sheet(NamedTuple):
    """A grid of equally large cells in one picture."""

    uri: str
    """`data:` URI."""
    rows: int
    columns: int
    height: int
    """Pixels of what is shown of a cell."""
    width: int
    pitch_y: int
    """Pixels from a cell to the one below; more than `height` where cells are padded, half of it on each side."""
    pitch_x: int
    """Pixels from a cell to its right neighbour."""
    lossy: bool

    @property
    def nbytes(self) -> int:
        """What the sheet adds to a page."""
        return len(self.uri)

    @property
    def image(self) -> str:
        """The declaration that shows it: nothing is decoded before it is in force."""
        return f"background-image:url({self.uri})"

    @property
    def css(self) -> str:
        """Declarations that cut the cell (`--r`, `--c`) out of it, once it is the background of an element."""
        # A position of 100 % puts the sheet's end at the element's end: so many pitches lie between 0 and there.
        down, right = self.rows - self.height / self.pitch_y, self.columns - self.width / self.pitch_x
        wide, high = self.columns * self.pitch_x / self.width, self.rows * self.pitch_y / self.height
        above, before = (
            (self.pitch_y - self.height) // 2 / self.pitch_y,
            (self.pitch_x - self.width) // 2 / self.pitch_x,
        )
        return (
            f"background-size:{100 * wide:.6g}% {100 * high:.6g}%;"
            f"--rn:{down or 1:.6g};--cn:{right or 1:.6g};"
            f"--ro:{above:.6g};--co:{before:.6g};"
            f"aspect-ratio:{self.width}/{self.height}"
        )


def evenly(count: int, most: int) -> NDArray[np.intp]:
    """At most `most` of `count` positions, evenly spread, first and last included."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))


def shrunk(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames whose longer side fits into `MAX_SIDE`, each pixel the mean of a whole block.

    Args:
        frames: uint8 `[frame, y, x, channel]`; rows and columns beyond the last whole block are cut.
    """
    count, height, width, channels = frames.shape
    block = -(-max(height, width) // MAX_SIDE)
    if block == 1:
        return frames
    height, width = height // block, width // block
    blocks = frames[:, : height * block, : width * block].reshape(count, height, block, width, block, channels)
    return blocks.mean(axis=(2, 4), dtype=np.float32).round().astype(np.uint8)


def video_sheet(video: NDArray[np.uint8], *, lossless: bool) -> Sheet:
    """A video by step as a WebP sheet, steps down, frames across.

    Args:
        video: uint8 `[step, frame, y, x, channel]`.
        lossless: Keep every pixel as it is; several times as large.
    """
    rows, columns, height, width, channels = video.shape
    # Lossy WebP works in blocks of 16 and smooths across them: without a margin a frame would show in its neighbour.
    margin, block = (0, 1) if lossless else (MARGIN, BLOCK)
    tall, wide = (-(-(side + 2 * margin) // block) * block for side in (height, width))
    pad = [((whole - side) // 2, -(-(whole - side) // 2)) for whole, side in ((tall, height), (wide, width))]
    padded = np.pad(video, ((0, 0), (0, 0), *pad, (0, 0)), mode="edge").transpose(0, 2, 1, 3, 4)
    image = Image.fromarray(np.ascontiguousarray(padded).reshape(rows * tall, columns * wide, channels))
    options = {"lossless": True, "method": 2} if lossless else {"quality": QUALITY, "method": 4}
    uri = _encoded(image, kind="WEBP", **options)
    return Sheet(uri, rows, columns, height, width, pitch_y=tall, pitch_x=wide, lossy=not lossless)


def map_sheet(cells: NDArray[np.uint8], palette: NDArray[np.uint8]) -> Sheet:
    """Maps as a PNG sheet with a palette, without loss.

    Args:
        cells: Palette positions, uint8 `[row, column, y, x]`.
        palette: uint8 `[256, channel]`, red-green-blue.
    """
    rows, columns, height, width = cells.shape
    image = Image.fromarray(np.ascontiguousarray(cells.transpose(0, 2, 1, 3)).reshape(rows * height, columns * width))
    image.putpalette(palette.tobytes())
    uri = _encoded(image, kind="PNG", optimize=True)
    return Sheet(uri, rows, columns, height, width, pitch_y=height, pitch_x=width, lossy=False)


def picture(pixels: NDArray[np.uint8]) -> Sheet:
    """One picture, uint8 `[y, x, channel]`, as a PNG sheet of one cell."""
    image = Image.fromarray(shrunk(pixels[None])[0])
    uri = _encoded(image, kind="PNG", optimize=True)
    return Sheet(uri, 1, 1, image.height, image.width, pitch_y=image.height, pitch_x=image.width, lossy=False)


def _encoded(image: Image.Image, *, kind: Literal["WEBP", "PNG"], **options: Any) -> str:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"
