"""Several devices by torchrun: `torchrun --nproc-per-node 4 -m training …`; one process is one device.

Every rank runs every stage. What must be equal on all of them (weights, when to stop) is agreed on here; without
torchrun there is one rank and nothing to agree on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@contextmanager
def ranks(device: str) -> Iterator[None]:
    """The process group that torchrun's environment describes, as long as the block runs."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    patience = timedelta(hours=1)  # one rank may write a card while the others wait
    if device == "cpu":
        dist.init_process_group("gloo", timeout=patience)
    else:
        own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(own)
        dist.init_process_group("nccl", timeout=patience, device_id=own)
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def first() -> bool:
    """Whether this process writes what is written once."""
    return rank() == 0


def barrier() -> None:
    """Wait until every rank is here."""
    if dist.is_initialized():
        dist.barrier()


def average(tensors: Sequence[Tensor]) -> None:
    """Replace `tensors` by their means over all ranks, in one all-reduce."""
    if size() == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= size()
    parts = flat.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(list(tensors), [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])


def agree(number: float, device: str) -> float:
    """The first rank's `number`, on every rank."""
    if size() == 1:
        return number
    box = torch.tensor([number], dtype=torch.float64, device=device)
    dist.broadcast(box, src=0)
    return float(box)


def own(items: Sequence[T]) -> Sequence[T]:
    """This rank's share of `items`."""
    return items[rank() :: size()]


def gather(items: list[T]) -> list[T]:
    """The items of all ranks, rank by rank, on every rank."""
    if size() == 1:
        return items
    everyone: list[list[T]] = [[] for _ in range(size())]
    dist.all_gather_object(everyone, items)
    return [item for part in everyone for item in part]
