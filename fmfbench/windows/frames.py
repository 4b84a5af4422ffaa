"""Frames of an array by index: a few decoded chunks kept, or a chosen set read once."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.shards import ArrayReader

__all__ = ["ChunkCache", "load_frames"]

_KEPT_CHUNKS = 32  # neighbouring windows share most of theirs


class ChunkCache:
    """Frames from disk. The last decoded chunks are kept; pickled and forked copies start without any."""

    def __init__(self, reader: ArrayReader) -> None:
        self._reader = reader
        self._chunks: OrderedDict[int, NDArray[Any]] = OrderedDict()

    def gather(self, index: NDArray[np.int64], out: NDArray[Any], rows: NDArray[np.int64]) -> None:
        """out[rows[i], j] = frame index[i, j]."""
        size = self._reader.spec.chunk
        number = index // size
        # Sorted by chunk once: a mask over all positions for every chunk would cost more than the copies.
        order = np.argsort(number, axis=None, kind="stable")
        chunks, first = np.unique(number.reshape(-1)[order], return_index=True)
        for k, places in zip(chunks.tolist(), np.split(order, first[1:]), strict=True):
            at, slot = np.divmod(places, index.shape[1])
            out[rows[at], slot] = self._chunk(k)[index[at, slot] - k * size]

    def _chunk(self, number: int) -> NDArray[Any]:
        chunk = self._chunks.get(number)
        if chunk is None:
            chunk = self._chunks[number] = self._reader.chunk(number)
            if len(self._chunks) > _KEPT_CHUNKS:
                self._chunks.popitem(last=False)
        else:
            self._chunks.move_to_end(number)
        return chunk

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_chunks": OrderedDict()}


def load_frames(
    reader: ArrayReader, frames: NDArray[np.int64], out: NDArray[Any], *, transposed: bool = False
) -> None:
    """out[i] = frame frames[i], every chunk decoded once.

    Args:
        reader: a video or a mask array.
        frames: (n,) sorted.
        out: (n,H,W,...), or (n,W,H,...) with `transposed`.
    """
    size = reader.spec.chunk
    chunks, first = np.unique(frames // size, return_index=True)
    for k, start, stop in zip(
        chunks.tolist(), first.tolist(), [*first[1:].tolist(), len(frames)], strict=True
    ):
        chunk = reader.chunk(k)
        if transposed:
            chunk = chunk.swapaxes(1, 2)
        inside = frames[start:stop] - k * size
        # A whole run is a plain copy, which fancy indexing would make twice.
        whole = inside[-1] - inside[0] == stop - start - 1
        out[start:stop] = chunk[inside[0] : inside[-1] + 1] if whole else chunk[inside]
