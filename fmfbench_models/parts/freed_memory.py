"""Freed memory stays with the process: a training step on the CPU asks for the same buffers again and again."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

# malloc.h of glibc
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT = 2**31 - 1  # bytes: the most that mallopt's int takes
_FROM_THE_SYSTEM = 2**30  # bytes: a buffer as large as this is still mapped on its own, and given back


def keep_freed_memory() -> bool:
    """Let glibc keep freed buffers of up to 1 GiB for the next ones; False where there is no glibc.

    By itself glibc maps each large buffer anew and gives it back at once, so that the system clears its pages every
    time they are touched: a sixth to a fifth of the processor time of a training step of a small model. The most
    memory that the process needs stays the same; it is given back at its end.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _FROM_THE_SYSTEM)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEPT))
