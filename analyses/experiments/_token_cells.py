"""Regions of tokens, from pixels to the record of a mask.

Shapes: F frames, H×W pixels of a video; f frames, y rows and x columns of tokens.
"""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

from store import Json


def token_cells(pixels: NDArray[np.bool_], tokens: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Tokens that hold any of some pixels.

    A causal video VAE makes the first latent frame of the first frame alone and each later one of as many frames; where
    the numbers do not fit that, frames are dealt out evenly.

    Args:
        pixels: bool `[F, H, W]`.
        tokens: Frames, rows and columns of the token grid.

    Returns:
        bool `[f, y, x]`.
    """
    frames, rows, columns = (
        _dealt(size, count, causal=axis == 0)
        for axis, (size, count) in enumerate(zip(pixels.shape, tokens, strict=True))
    )
    cells = np.zeros(tokens, bool)
    at = np.nonzero(pixels)
    cells[frames[at[0]], rows[at[1]], columns[at[2]]] = True
    return cells


def _dealt(size: int, count: int, *, causal: bool) -> NDArray[np.intp]:
    """For each of `size` places in a row the one of `count` cells that it lies in."""
    places = np.arange(size)
    if causal and count > 1 and (size - 1) % (count - 1) == 0:
        return -(-places // ((size - 1) // (count - 1)))
    return places * count // size


def mask(cells: NDArray[np.bool_]) -> Json:
    """A region of single tokens bool `[f, y, x]`, as `interp.interventions.Mask` reads it."""
    return {"size": list(cells.shape), "bits": base64.b64encode(np.packbits(cells).tobytes()).decode()}
