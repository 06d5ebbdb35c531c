"""Stateless random numbers: a hash of (seed, stream, index, draw), the same bits on every device.

A world draws sample `index` of `seed` from nothing but these numbers, so a sample does not depend on
how many others were asked for with it, on the batch size, or on CPU against GPU, and training can be
resumed at any step without a generator state. The mixer is SplitMix64 (Steele et al. 2014).
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_MIX_A = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_B = -7723592293110705685  # 0x94D049BB133111EB


def _shifted(x: Tensor, bits: int) -> Tensor:
    """`x >> bits` without the sign: torch shifts signed numbers arithmetically."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 `x` (wraps around, as integers do on CPU and GPU alike)."""
    x = (x ^ _shifted(x, 30)) * _MIX_A
    x = (x ^ _shifted(x, 27)) * _MIX_B
    return x ^ _shifted(x, 31)


def stream_key(*parts: object) -> int:
    """A signed 63-bit key for a named stream of random numbers, e.g. `("maze", "in_domain", seed)`."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def uniform(key: int, index: Tensor, draws: int) -> Tensor:
    """Uniform numbers in [0, 1).

    Args:
        key: Names the stream; see `stream_key`.
        index: int64 `[n]`, the number of each sample within the stream.
        draws: How many numbers each sample gets.

    Returns:
        float32 `[n, draws]` with 24 random bits, on the device of `index`.
    """
    lane = torch.arange(draws, device=index.device, dtype=torch.int64)
    state = mix(mix(index + key)[:, None] + (lane + 1) * _GAMMA)
    return _shifted(state, 40).to(torch.float32) * 2.0**-24


def pick(u: Tensor, choices: int) -> Tensor:
    """The integer in [0, choices) that uniform `u` falls on, as int64."""
    return (u * choices).long().clamp_(max=choices - 1)
