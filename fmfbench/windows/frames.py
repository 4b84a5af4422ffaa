"""Frames of an array by index: a few decoded chunks kept, or a chosen set read once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.files.remote import RemotePath
from fmfbench.store.ids import group_by
from fmfbench.store.shards import ArrayReader
from fmfbench.windows.ordered import in_order

__all__ = ["ChunkCache", "KeptChunks", "load_frames"]

_KEPT_CHUNKS = 32  # at least: neighbouring windows share most of theirs
_KEPT_BYTES = 64 << 20  # of chunks beyond those
_REQUESTS_AT_ONCE = 8
_CHUNKS_PER_TASK = 8  # handing a thread one at a time would cost a fifth of its decoding


class KeptChunks:
    """Decoded chunks of any arrays, the last used within a bound; pickled and forked copies start without any."""

    def __init__(self) -> None:
        self._chunks: OrderedDict[tuple[ArrayReader, int], NDArray[Any]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._chunks)

    def get(self, reader: ArrayReader, number: int) -> NDArray[Any] | None:
        return self._chunks.get((reader, number))

    def keep(self, reader: ArrayReader, number: int, chunk: NDArray[Any]) -> None:
        key = reader, number
        if key not in self._chunks:
            self._bytes += chunk.nbytes
        self._chunks[key] = chunk
        self._chunks.move_to_end(key)
        while len(self._chunks) > _KEPT_CHUNKS and self._bytes > _KEPT_BYTES:
            self._bytes -= self._chunks.popitem(last=False)[1].nbytes

    def __getstate__(self) -> dict[str, Any]:
        return {"_chunks": OrderedDict(), "_bytes": 0}


class ChunkCache:
    """Frames of one array from disk, through the chunks that are kept."""

    def __init__(self, reader: ArrayReader, kept: KeptChunks) -> None:
        self._reader = reader
        self._kept = kept

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
            self._kept.keep(self._reader, k, chunk)

    def _decoded(self, numbers: list[int], threads: int) -> Iterator[NDArray[Any]]:
        tasks = [numbers[i : i + _CHUNKS_PER_TASK] for i in range(0, len(numbers), _CHUNKS_PER_TASK)]
        # Of a disk a chunk is decoded sooner than a thread is told of it: threads cost a quarter of the speed there.
        far = isinstance(self._reader.path, RemotePath)
        for task in in_order(self._decode, tasks, threads if far and len(tasks) > 1 else 0):
            yield from task

    def _decode(self, numbers: list[int]) -> list[NDArray[Any]]:
        # Read from the threads, changed by none but the one that gathers.
        kept = [self._kept.get(self._reader, k) for k in numbers]
        return [self._reader.chunk(k) if c is None else c for k, c in zip(numbers, kept, strict=True)]


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
    size, far = reader.spec.chunk, isinstance(reader.path, RemotePath)
    chunks, first = np.unique(frames // size, return_index=True)
    stops = [*first[1:].tolist(), len(frames)]

    def load(task: list[tuple[int, int, int]]) -> None:
        found = reader.chunks([k for k, _, _ in task]) if far else (reader.chunk(k) for k, _, _ in task)
        for (k, start, stop), chunk in zip(task, found, strict=True):
            if transposed:
                chunk = chunk.swapaxes(1, 2)  # noqa: PLW2901 - the same chunk, seen otherwise
            inside = frames[start:stop] - k * size
            # A whole run is a plain copy, which fancy indexing would make twice.
            whole = inside[-1] - inside[0] == stop - start - 1
            out[start:stop] = chunk[inside[0] : inside[-1] + 1] if whole else chunk[inside]

    parts = list(zip(chunks.tolist(), first.tolist(), stops, strict=True))
    tasks = [parts[i : i + _CHUNKS_PER_TASK] for i in range(0, len(parts), _CHUNKS_PER_TASK)]
    if far:  # a task a shard, its chunks in as few requests as can be, and many requests at once
        shards = group_by(chunks * size // reader.spec.shard)
        tasks = [parts[places[0] : places[-1] + 1] for _, places in shards]
        threads = max(threads, _REQUESTS_AT_ONCE)
    for _ in in_order(load, tasks, threads):
        pass
