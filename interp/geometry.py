"""Sizes of everything that a run of a model can produce, known before it runs."""

from __future__ import annotations

from typing import NamedTuple


class Grid(NamedTuple):
    """Frames × rows × columns."""

    frames: int
    height: int
    width: int


class Geometry(NamedTuple):
    """Shapes of one run: what the adapter derives from the model and the sampler settings."""

    layers: int
    """Transformer blocks of each denoiser."""
    width: int
    """Channels of the residual stream."""
    experts: tuple[str, ...]
    """Names of the denoisers, in the order in which they run."""
    tokens: Grid
    """Tokens of the video inside the transformer."""
    latent: Grid
    """Cells of the latent video."""
    latent_channels: int
    video: Grid
    """Frames and pixels of the finished video."""
    heads: int
    """Heads of self-attention."""
