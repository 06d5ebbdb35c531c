"""Attention of chosen queries over all keys, in blocks, from what the model's own softmax is computed from.

Shape legend: r rows of the batch, h heads, n tokens (text and video), d channels of a head, q queries, f frames,
y rows, x columns, b keys of a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch.overrides import TorchFunctionMode

Tensor = torch.Tensor

TOKENS: Final = 256
"""Query tokens that are worked on at once."""
BLOCK: Final = 1 << 24
"""Numbers that a block of keys, or its scores (head × query × key), has at most: 64 MB in float32. A few such are held
at once beside the result."""


class Watch(TorchFunctionMode):
    """While it is entered, `show` is told the arguments of every scaled dot-product attention of this thread.

    The call itself goes on with the same arguments.
    """

    def __init__(self, show: Callable[..., None]) -> None:
        super().__init__()
        self._show = show

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            self._show(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


class Maps(NamedTuple):
    """Attention of some queries, float32; heads are a first axis, or averaged."""

    video: Tensor
    """`[h, q, f, y, x]` or `[q, f, y, x]`."""
    text: Tensor
    """What goes to keys that are no video tokens: `[h, q]` or `[q]`. With `video` it adds up to 1."""


class Attended:
    """What one video's self-attention was computed from.

    Args:
        query_rhnd: Queries as the softmax got them.
        key_rhnd: Keys; there may be fewer heads, each shared by as many queries' heads in a row.
        mask: What was added to the scores, or False where they are left out; of four axes that fit `[r, h, n, n]`.
        scale: What scores are multiplied by.
        at_fyx: Place of each video token, row × n + token, int64 on the CPU.
    """

    def __init__(self, query_rhnd: Tensor, key_rhnd: Tensor, mask: Tensor | None, scale: float, at_fyx: Tensor) -> None:
        self._query, self._key, self._mask, self._scale = query_rhnd, key_rhnd, mask, scale
        self._at = at_fyx
        rows, _, tokens, _ = query_rhnd.shape
        cells = torch.full((rows * tokens,), -1, dtype=torch.int64)
        cells[at_fyx.flatten()] = torch.arange(at_fyx.numel())
        self._cells = cells.view(rows, tokens)
        self._last: tuple[object, object, Maps] | None = None

    def maps(self, queries: Sequence[Sequence[int]], heads: Sequence[int] | None) -> Maps:
        """Attention of `queries` over all keys.

        Args:
            queries: Tokens of each query, numbers in the flattened grid `f, y, x`; their attention is averaged.
            heads: Heads that are kept; None for the mean over all.
        """
        if self._last is None or self._last[0] is not queries or self._last[1] is not heads:
            self._last = (queries, heads, self._compute(queries, heads))  # the share of text asks for the same next
        return self._last[2]

    def _compute(self, queries: Sequence[Sequence[int]], heads: Sequence[int] | None) -> Maps:
        chosen = list(range(self._query.shape[1])) if heads is None else list(heads)
        kept = 1 if heads is None else len(chosen)
        device = self._query.device
        video = torch.zeros(kept, len(queries), self._at.numel(), device=device)
        text = torch.zeros(kept, len(queries), device=device)
        for row, tokens, owners, weights in self._parts(queries):
            low, size = owners[0], owners[-1] - owners[0] + 1
            weight_q = torch.tensor(weights, device=device)
            owner_q = torch.tensor(owners, device=device) - low
            for start, softmax_hqb in self._softmax(row, tokens, chosen):
                if heads is None:
                    softmax_hqb = softmax_hqb.mean(dim=0, keepdim=True)
                block = softmax_hqb.shape[-1]
                part = softmax_hqb.new_zeros(kept, size, block)
                part.index_add_(1, owner_q, softmax_hqb * weight_q[:, None])
                cells = self._cells[row, start : start + block]
                seen = (cells >= 0).nonzero().flatten()
                found = part if len(seen) == block else part[..., seen.to(device)]
                video[:, low : low + size].index_add_(2, cells[seen].to(device), found)
                if len(seen) < block:
                    text[:, low : low + size] += part[..., (cells < 0).to(device)].sum(-1)
        video = video.unflatten(-1, self._at.shape)
        return Maps(video[0], text[0]) if heads is None else Maps(video, text)

    def _parts(
        self, queries: Sequence[Sequence[int]]
    ) -> Iterator[tuple[int, list[int], tuple[int, ...], tuple[float, ...]]]:
        """Query tokens of one row, few at a time: row, tokens in it, the query that each belongs to and its weight."""
        places, count = self._at.flatten(), self._cells.shape[1]
        by_row: dict[int, list[tuple[int, int, float]]] = {}
        for number, cells in enumerate(queries):
            for place in places[list(cells)].tolist():
                row, token = divmod(place, count)
                by_row.setdefault(row, []).append((token, number, 1 / len(cells)))
        for row, found in by_row.items():
            for start in range(0, len(found), TOKENS):
                tokens, owners, weights = zip(*found[start : start + TOKENS], strict=True)
                yield row, list(tokens), owners, weights

    def _softmax(self, row: int, tokens: list[int], heads: list[int]) -> Iterator[tuple[int, Tensor]]:
        """The softmax of some queries, key block by key block: number of the first key, `[h, q, b]`.

        Two passes over the keys: the first keeps the running maximum and sum, the second divides by them.
        """
        step = max(1, BLOCK // (len(heads) * max(len(tokens), self._key.shape[-1])))
        starts = range(0, self._cells.shape[1], step)
        query_hqd = self._query[row][:, tokens][heads].float() * self._scale
        greatest = query_hqd.new_full((*query_hqd.shape[:2], 1), -math.inf)
        total = torch.zeros_like(greatest)
        for start in starts:
            scores = self._scores(query_hqd, row, tokens, heads, start, step)
            higher = torch.maximum(greatest, scores.amax(dim=-1, keepdim=True))
            base = higher.masked_fill(higher == -math.inf, 0)  # as long as every key is masked
            total = total * (greatest - base).exp() + (scores - base).exp_().sum(dim=-1, keepdim=True)
            greatest = higher
        base = greatest.masked_fill(greatest == -math.inf, 0)
        total = total.clamp_min(torch.finfo(torch.float32).tiny)
        for start in starts:
            scores = self._scores(query_hqd, row, tokens, heads, start, step)
            yield start, scores.sub_(base).exp_().div_(total)

    def _scores(
        self, query_hqd: Tensor, row: int, tokens: list[int], heads: list[int], start: int, step: int
    ) -> Tensor:
        """Scores of a block of keys, `[h, q, b]`."""
        key_hbd = self._key[row, :, start : start + step]
        own = [head * len(key_hbd) // self._query.shape[1] for head in heads]
        if own != list(range(len(key_hbd))):
            key_hbd = key_hbd[own]
        scores = query_hqd @ key_hbd.float().mT
        if self._mask is None:
            return scores
        mask = self._mask[row if len(self._mask) > 1 else 0]
        mask = mask[heads] if len(mask) > 1 else mask
        mask = mask[:, tokens] if mask.shape[1] > 1 else mask
        mask = mask[..., start : start + step] if mask.shape[2] > 1 else mask
        return scores.masked_fill_(~mask, -math.inf) if mask.dtype is torch.bool else scores.add_(mask.float())
