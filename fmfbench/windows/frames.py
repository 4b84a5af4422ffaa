"""Frames of an array by index: a few decoded chunks kept, or a chosen set read once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.store.shards import ArrayReader
from fmfbench.windows.ordered import in_order

__all__ = ["ChunkCache", "load_frames"]

_KEPT_CHUNKS = 32  # neighbouring windows share most of theirs
_CHUNKS_PER_TASK = 8  # handing a thread one at a time would cost a fifth of its decoding


class ChunkCache:
    """Frames from disk. The last decoded chunks are kept; pickled and forked copies start without any."""

    def __init__(self, reader: ArrayReader) -> None:
        self._reader = reader
        self._chunks: OrderedDict[int, NDArray[Any]] = OrderedDict()

    def gather(
        self, index: NDArray[np.int64], out: NDArray[Any], rows: NDArray[np.int64], threads: int = 0
    ) -> None:
        """out[rows[i], j] = frame index[i, j]."""
        size = self._reader.spec.chunk
        number = index // size
        # Sorted by chunk once: a mask over all positions for every chunk would cost more than the copies.
        order = np.argsort(number, axis=None, kind="stable")
        chunks, first = np.unique(number.reshape(-1)[order], return_index=True)
        parts = np.split(order, first[1:])
        decoded = self._decoded(chunks.tolist(), threads)
        for k, places, chunk in zip(chunks.tolist(), parts, decoded, strict=True):
            at, slot = np.divmod(places, index.shape[1])
            out[rows[at], slot] = chunk[index[at, slot] - k * size]
            self._keep(k, chunk)

    def _decoded(self, numbers: list[int], threads: int) -> Iterator[NDArray[Any]]:
        tasks = [numbers[i : i + _CHUNKS_PER_TASK] for i in range(0, len(numbers), _CHUNKS_PER_TASK)]
        for task in in_order(self._decode, tasks, threads if len(tasks) > 1 else 0):
            yield from task

    def _decode(self, numbers: list[int]) -> list[NDArray[Any]]:
        # Read from the threads, changed by none but the one that gathers.
        kept = [self._chunks.get(k) for k in numbers]
        return [self._reader.chunk(k) if c is None else c for k, c in zip(numbers, kept, strict=True)]

    def _keep(self, number: int, chunk: NDArray[Any]) -> None:
        self._chunks[number] = chunk
        self._chunks.move_to_end(number)
        if len(self._chunks) > _KEPT_CHUNKS:
            self._chunks.popitem(last=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_chunks": OrderedDict()}


def load_frames(
    reader: ArrayReader,
    frames: NDArray[np.int64],
    out: NDArray[Any],
    *,
    transposed: bool = False,
    threads: int = 0,
) -> None:
    """out[i] = frame frames[i], every chunk decoded once.

    Args:
        reader: a video or a mask array.
        frames: (n,) sorted.
        out: (n,H,W,...), or (n,W,H,...) with `transposed`.
        threads: that decode beside this one.
    """
    size = reader.spec.chunk
    chunks, first = np.unique(frames // size, return_index=True)
    stops = [*first[1:].tolist(), len(frames)]

    def load(task: list[tuple[int, int, int]]) -> None:
        for k, start, stop in task:
            chunk = reader.chunk(k)
            if transposed:
                chunk = chunk.swapaxes(1, 2)
            inside = frames[start:stop] - k * size
            # A whole run is a plain copy, which fancy indexing would make twice.
            whole = inside[-1] - inside[0] == stop - start - 1
            out[start:stop] = chunk[inside[0] : inside[-1] + 1] if whole else chunk[inside]

    parts = list(zip(chunks.tolist(), first.tolist(), stops, strict=True))
    tasks = [parts[i : i + _CHUNKS_PER_TASK] for i in range(0, len(parts), _CHUNKS_PER_TASK)]
    for _ in in_order(load, tasks, threads):
        pass
