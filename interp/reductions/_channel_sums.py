"""Sum, sum of squares and greatest magnitude of each channel in one reading of the tokens, on a GPU.

Three kernels of torch read the tokens three times, and reading is all that takes time here: a layer of 14 billion
parameters has 335 MB of them at every step.

Shape legend: b runs of the batch, n tokens, c channels, p parts of the tokens.
"""

# Triton comes with torch for CUDA alone, and compiles a kernel whose parameters carry no types of Python's.
# pyright: basic, reportMissingImports=false, reportIndexIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl

PARTS = 64
"""The tokens are divided among so many programs, whose results are added in one order: the same bits each time."""
ROWS, COLUMNS = 16, 128
"""Tokens and channels that a program holds at a time."""


def channel_sums(tokens_bnc: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums, sums of squares and greatest magnitudes over tokens, each `[b, c]` float32; NaN where a channel has one.

    Args:
        tokens_bnc: On a GPU, of any floating dtype and strides.
    """
    b, n, c = tokens_bnc.shape
    found_bpsc = torch.empty((b, PARTS, 3, c), dtype=torch.float32, device=tokens_bnc.device)
    each = triton.cdiv(n, PARTS)
    grid = (triton.cdiv(c, COLUMNS), PARTS, b)
    with torch.cuda.device(tokens_bnc.device):
        _parts[grid](tokens_bnc, found_bpsc, n, c, each, PARTS, *tokens_bnc.stride(), ROWS=ROWS, COLUMNS=COLUMNS)
    square = found_bpsc[:, :, 1].sum(dim=1)
    largest = found_bpsc[:, :, 2].amax(dim=1)
    return found_bpsc[:, :, 0].sum(dim=1), square, torch.where(square.isnan(), square, largest)


@triton.jit
def _parts(
    tokens, found, n, c, each, parts, along_b, along_n, along_c,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    part = tl.program_id(1)
    run = tl.program_id(2).to(tl.int64)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    square = tl.zeros((ROWS, COLUMNS), tl.float32)
    largest = tl.zeros((ROWS, COLUMNS), tl.float32)
    end = tl.minimum((part + 1) * each, n)
    for first in range(part * each, end, ROWS):
        row = first + tl.arange(0, ROWS)
        there = (row[:, None] < end) & (column[None, :] < c)
        # A place in a large tensor does not fit 32 bits.
        place = run * along_b + row[:, None].to(tl.int64) * along_n + column[None, :] * along_c
        value = tl.load(tokens + place, mask=there, other=0.0).to(tl.float32)
        total += value
        square += value * value
        largest = tl.maximum(largest, tl.abs(value))
    out = found + (run * parts + part) * 3 * c + column
    tl.store(out, tl.sum(total, axis=0), mask=column < c)
    tl.store(out + c, tl.sum(square, axis=0), mask=column < c)
    tl.store(out + 2 * c, tl.max(largest, axis=0), mask=column < c)
