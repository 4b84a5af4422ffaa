"""The arrays of a batch in one buffer: shipped as one piece, and used again once nobody holds them."""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Layout", "Recycler", "allocate", "packed_bytes", "unpack"]

Layout = dict[str, tuple[tuple[int, ...], str]]
"""Shape and numpy type of each array of a batch."""

_ALIGNMENT = 64


def allocate(layout: Layout) -> dict[str, NDArray[Any]]:
    """New arrays, not yet filled."""
    return {name: np.empty(shape, dtype) for name, (shape, dtype) in layout.items()}


def packed_bytes(layout: Layout) -> int:
    return sum(_padded(shape, dtype) for shape, dtype in layout.values())


def unpack(buffer: NDArray[np.uint8], layout: Layout) -> dict[str, NDArray[Any]]:
    """The arrays of a layout as views of `buffer`, of `packed_bytes` or more."""
    out = {}
    offset = 0
    for name, (shape, dtype) in layout.items():
        count = math.prod(shape) * np.dtype(dtype).itemsize
        out[name] = buffer[offset : offset + count].view(dtype).reshape(shape)
        offset += _padded(shape, dtype)
    return out


def _padded(shape: tuple[int, ...], dtype: str) -> int:
    count = math.prod(shape) * np.dtype(dtype).itemsize
    return -(-count // _ALIGNMENT) * _ALIGNMENT


class Recycler:
    """Batches in buffers that serve again: fresh memory costs as much as the copy into it.

    A buffer returns when the last array or tensor over it is gone, so a batch may be kept for any time.

    Args:
        keep: buffers kept while unused.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._free: list[NDArray[np.uint8]] = []

    def batch(self, layout: Layout) -> dict[str, NDArray[Any]]:
        """Arrays of a layout, not yet filled."""
        size = packed_bytes(layout)
        memory = self._take(size)
        # Over a memoryview, numpy keeps this very object as the base of all views of it; of a plain view of
        # `memory` they would only keep `memory`, and the buffer would return too early.
        buffer: NDArray[np.uint8] = np.frombuffer(memoryview(memory), np.uint8)  # type: ignore[arg-type]
        weakref.finalize(buffer, self._give, memory).atexit = False
        return unpack(buffer, layout)

    def _take(self, size: int) -> NDArray[np.uint8]:
        try:
            memory = self._free.pop()
        except IndexError:  # another thread may take the last between a look and a pop
            return np.empty(max(1, size), np.uint8)
        return memory if len(memory) >= size else np.empty(size, np.uint8)

    def _give(self, memory: NDArray[np.uint8]) -> None:
        if len(self._free) < self._keep:
            self._free.append(memory)
