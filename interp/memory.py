"""How the C library keeps memory: what makes a model on the CPU slow for no visible reason."""

from __future__ import annotations

import ctypes

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
