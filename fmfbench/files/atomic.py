"""Two names changing places in one step, so that a store is replaced without a moment in which there is none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["exchange"]

_HERE = -100  # AT_FDCWD: paths are as the process sees them
_EXCHANGE = 2  # RENAME_EXCHANGE (renameat2(2), Linux 3.15)


def exchange(first: Path, second: Path) -> bool:
    """Let what two names of one file system stand for change places; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # an older C library
        return False
    done: int = rename(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _EXCHANGE)
    return done == 0
