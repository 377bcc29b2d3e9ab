"""Has the C library give large blocks back to the system as soon as they are freed.

glibc keeps them from the second one of a size on, up to 32 MB each, and zeroes all of what it hands
out again: with a table and a bank that double as series come, that is a kilobyte a series.
"""

from __future__ import annotations

import ctypes

LARGE_BYTES = 2**20
_M_MMAP_THRESHOLD = -3
"""From glibc's malloc.h. Setting it ends its being raised; see mallopt(3)."""


def give_back_large_blocks() -> None:
    """From now on, in this process; nothing is done where the C library has no such setting."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
