"""Writing into a value through the view of it that an adapter gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

Tensor = torch.Tensor


def written(raw: Tensor, view: Callable[[Tensor], Tensor], change: Callable[[Tensor], Tensor]) -> Tensor:
    """A copy of `raw` whose `view` is what `change` makes of it; everything else keeps its bits.

    Args:
        raw: As the model holds it.
        view: Some or all of its elements, in any order and each at most once: slices, permutations, reshapes.
        change: Gives values of the view's shape; where it gives the view itself back, nothing is copied.

    Example:
        >>> raw = torch.zeros(2, 3)
        >>> written(raw, lambda value: value.T[1:], lambda seen: seen + 1)
        tensor([[0., 1., 1.],
                [0., 1., 1.]])
    """
    seen = view(raw)
    new = change(seen)
    if new is seen:
        return raw
    copy = raw.clone()
    target = view(copy)
    if target.untyped_storage().data_ptr() == copy.untyped_storage().data_ptr():
        target.copy_(new)
        return copy
    # The adapter had to copy, too: an index of the elements, seen in the same way, says where each comes from.
    flat = raw.clone(memory_format=torch.contiguous_format).flatten()
    places = view(torch.arange(raw.numel(), device=raw.device).view(raw.shape))
    flat[places.flatten()] = new.to(flat.dtype).flatten()
    return flat.view(raw.shape)


def with_rows(grid: Tensor, rows: Sequence[Tensor]) -> Tensor:
    """Rows as one tensor; `grid` itself where each is still its own."""
    same = all(new.data_ptr() == old.data_ptr() for new, old in zip(rows, grid, strict=True))
    return grid if same else torch.stack(list(rows))
