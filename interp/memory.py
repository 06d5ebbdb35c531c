"""Memory: how the C library keeps it, and what to say where a device has too little."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from interp.errors import OutOfMemory

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Names of the settings in glibc's `malloc.h`."""


def keep_pages() -> None:
    """Have glibc keep freed memory instead of giving it back to the system after every large tensor.

    A page that is touched for the first time is dear on virtual machines: without this, decoding with a
    small VAE took 1.2 times as long on an idle one, and many times as long on a busy one. Numbers do not
    change. Does nothing where the C library is another one.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except OSError:
        return
    mallopt(M_MMAP_THRESHOLD, 1 << 25)  # the largest value that glibc takes
    mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
    mallopt(M_TOP_PAD, 1 << 29)


@contextmanager
def explained(device: torch.device, run: str, *, runs: int = 1) -> Iterator[None]:
    """Turn running out of memory within the block into one line that says what to reduce.

    Args:
        device: Where the block runs.
        run: What it makes, for the message: `81 frames of 480×832 in bfloat16`.
        runs: How many runs it makes together.

    Raises:
        OutOfMemory: in the place of what torch raises.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _ran_out(error):
            raise
        fewer = f"ask for a smaller --batch than {runs}, for " if runs > 1 else "ask for "
        kept = f"of these {runs} runs" if runs > 1 else "of this run"
        raise OutOfMemory(
            f"{_where(device)} ran out of memory while it made {run}; {fewer}fewer or smaller frames, load with "
            f"--dtype bfloat16{', --offload model' if device.type == 'cuda' else ''} or --vae-tiling; "
            f"{kept} nothing is kept, earlier runs are"
        ) from error


def _ran_out(error: BaseException) -> bool:
    """Whether an error is torch's of an allocation that failed; on a CPU it has no class of its own."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def _where(device: torch.device) -> str:
    if device.type != "cuda":
        return "this machine"
    total = torch.cuda.get_device_properties(device).total_memory
    return f"{torch.cuda.get_device_name(device)} with {total / 1e9:.0f} GB"
