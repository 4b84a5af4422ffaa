"""Frames put together from the chunks that tile them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.sources.matlab.variable import place

__all__ = ["FrameGrid"]

CHANNELS = 4  # axes up to this long are gone through one by one, so that numpy's inner loop is a longer one
SWAPPED_BYTES = (1, 2, 4, 8)  # runs that OpenCV swaps, four or more times as fast as numpy


@dataclass(frozen=True)
class FrameGrid:
    """How chunks tile a frame. `dims` and `part`: the frame's and a chunk's extents in the file's order (C, W, H)."""

    dims: tuple[int, ...]
    part: tuple[int, ...]

    @property
    def grid(self) -> tuple[int, ...]:
        """Chunks along each axis."""
        return tuple(-(-extent // step) for extent, step in zip(self.dims, self.part, strict=True))

    @property
    def boxes(self) -> int:
        """Chunks of a frame."""
        return prod(self.grid)

    def lay(self, out: NDArray[Any], values: NDArray[Any]) -> None:
        """Puts chunks `values` (rows, boxes, frames each, values a frame) upright into `out` (n, H, W, C).

        `out` is C-contiguous and may be shorter than rows x frames each: the last row of chunks is padded.
        """
        rows, _, each, _ = values.shape
        padded = tuple(count * step for count, step in zip(self.grid, self.part, strict=True))
        even = padded == self.dims and len(out) == rows * each
        frames = out if even else np.empty((rows * each, *padded[::-1]), out.dtype)
        source, rank = self._by_frame(values), len(self.dims)
        axes = [axis for i in reversed(range(rank)) for axis in (2 + i, 2 + rank + i)]
        source = source.transpose(0, 1, *axes)
        target = frames.reshape(source.shape)
        if rank > 2 and padded[0] <= CHANNELS:
            for channel in np.ndindex(source.shape[-2:]):
                target[(..., *channel)] = source[(..., *channel)]
        else:
            target[...] = source
        if not even:
            out[...] = frames[(slice(len(out)), *map(slice, self.dims[::-1]))]

    def lay_box(self, out: NDArray[Any], box: int, values: NDArray[Any]) -> None:
        """Puts one chunk, number `box` of its row, (frames, *part) upright to its place in `out` (n, H, W, C)."""
        index = np.unravel_index(box, self.grid)
        lows = [int(i) * step for i, step in zip(index, self.part, strict=True)]
        highs = [min(low + step, end) for low, step, end in zip(lows, self.part, self.dims, strict=True)]
        spot = map(slice, lows[::-1], highs[::-1])
        crop = (slice(high - low) for low, high in zip(lows, highs, strict=True))
        place(out[(slice(None), *spot)], values[(slice(len(out)), *crop)])

    def _by_frame(self, values: NDArray[Any]) -> NDArray[Any]:
        """(rows, frames each, *grid, *part) of (rows, boxes, frames each, values a frame)."""
        rows, boxes, each, run = values.shape
        if boxes == 1 or each == 1 or (size := run * values.itemsize) not in SWAPPED_BYTES:
            return np.moveaxis(values.reshape(rows, *self.grid, each, *self.part), len(self.grid) + 1, 1)
        import cv2

        # short runs far apart: a transposition of numpy's would wait for memory at every one of them
        runs = values.view(f"u{size}").reshape(rows, boxes, each)
        kind = runs.dtype if size < 4 else np.dtype(f"f{size}")  # of OpenCV's types, the one of this size
        turned = np.empty((rows, each, boxes), kind)
        for row in range(rows):
            cv2.transpose(runs[row].view(kind), turned[row])
        return turned.view(values.dtype).reshape(rows, each, *self.grid, *self.part)
