"""Chunks of a v7.3 dataset: read as bytes and inflated on several threads.

HDF5 hands out one chunk at a time from under one lock. Here the library is asked only where the chunks lie;
the bytes are read and inflated side by side. Filters other than those of the MAT files' writers
(shuffle, deflate, fletcher32) are left to h5py, chunk by chunk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fmfbench.sources.matlab.file_bytes import FileBytes
from fmfbench.sources.matlab.inflate import PIECE, InflateError, inflate, inflate_whole

__all__ = ["ChunkTable", "Pipeline", "ThreadTeam", "unshuffle"]

GAP_BYTES = 1 << 12  # between two chunks that are read in one piece
Item = TypeVar("Item")


class ThreadTeam:
    """Threads that start when they are first needed, shared by the variables of a file."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: ThreadPoolExecutor | None = None

    def each(self, work: Callable[[Item], None], items: Iterable[Item], lanes: int) -> None:
        """work(item) for every item, at most `lanes` at a time; the first error stops the rest."""
        if lanes <= 1:
            for item in items:
                work(item)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.workers, "fmfbench-chunks")
        todo, lock, failed = iter(items), threading.Lock(), threading.Event()

        def lane() -> None:
            try:
                while not failed.is_set():
                    with lock:
                        item = next(todo, None)
                    if item is None:
                        return
                    work(item)
            except BaseException:
                failed.set()
                raise

        futures: list[Future[None]] = [self._pool.submit(lane) for _ in range(lanes)]
        for error in [future.exception() for future in futures]:
            if error is not None:
                raise error

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The filters of a dataset, each by its place in the pipeline (its bit in a chunk's mask), or None."""

    shuffle: int | None = None
    deflate: int | None = None
    fletcher32: int | None = None


class ChunkTable:
    """The chunks of one dataset, by their place in the grid (C order), as inflated bytes.

    `offsets`, `sizes` and `masks` say where each lies and which filters it skipped; `fetch`, where given,
    gets a chunk's bytes instead (from h5py), whole, edge chunks padded.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        dtype: np.dtype[Any],
        file: FileBytes,
        pipeline: Pipeline,
        offsets: NDArray[np.int64],
        sizes: NDArray[np.int64],
        masks: NDArray[np.uint32],
        fetch: Callable[[int], bytes] | None,
    ) -> None:
        self.shape = shape
        self.chunks = chunks
        self.dtype = dtype
        self.chunk_bytes = prod(chunks) * dtype.itemsize
        self._file = file
        self._pipeline = pipeline
        self._offsets = offsets
        self._sizes = sizes
        self._masks = masks
        self._fetch = fetch
        self._special = fetch is not None or pipeline.deflate is None or pipeline.fletcher32 is not None

    def pieces(self, number: int) -> Iterator[bytes]:
        """The bytes of a chunk, in pieces; still shuffled where `shuffled`. Raises InflateError, OSError."""
        if self._fetch is not None:
            yield self._fetch(number)
            return
        offset, size = int(self._offsets[number]), int(self._sizes[number])
        if self._uses(self._pipeline.fletcher32, number):
            size -= 4
            stored = int.from_bytes(self._file.read_at(offset + size, 4), "little")
            if size < 0 or not same_fletcher32(fletcher32(self._stored(offset, size)), stored):
                raise InflateError(f"chunk {number} does not match its checksum")
        pieces: Iterable[bytes] = self._stored(offset, size)
        if self._uses(self._pipeline.deflate, number):
            yield from inflate(pieces, self.chunk_bytes)
        elif size != self.chunk_bytes:
            raise InflateError(f"chunk {number}: expected {self.chunk_bytes} bytes, got {size}")
        else:
            yield from pieces

    def shuffled(self, number: int) -> bool:
        """The bytes lie in planes: all first bytes of the values, all second bytes, ..."""
        return self._fetch is None and self.dtype.itemsize > 1 and self._uses(self._pipeline.shuffle, number)

    def values(self, number: int) -> NDArray[Any]:
        """A chunk of shape `chunks`, in the type stored, read-only. Raises InflateError, OSError."""
        return np.frombuffer(self._whole(number, None), self.dtype).reshape(self.chunks)

    def values_of(self, first: int, count: int) -> NDArray[Any]:
        """Chunks `first`, `first` + 1, ...: (count, *chunks), in the type stored. Raises InflateError, OSError.

        Chunks that lie side by side are read from the file in one piece.
        """
        out = np.empty((count, self.chunk_bytes), np.uint8)
        flat, size = out.reshape(-1).data, self.chunk_bytes
        for place, number, stored in self._side_by_side(first, count):
            flat[place * size : (place + 1) * size] = self._whole(number, stored)
        return out.view(self.dtype).reshape(count, *self.chunks)

    def _side_by_side(self, first: int, count: int) -> Iterator[tuple[int, int, memoryview | None]]:
        """(0, first), ..., in the order of the file, with the bytes stored where neighbours were read together."""
        if self._special or self._masks[first : first + count].any():
            yield from ((place, first + place, None) for place in range(count))
            return
        offsets, sizes = self._offsets[first : first + count], self._sizes[first : first + count]
        order = np.argsort(offsets, kind="stable")
        starts, ends = offsets[order], (offsets + sizes)[order]
        apart = np.flatnonzero((starts[1:] < ends[:-1]) | (starts[1:] > ends[:-1] + GAP_BYTES)) + 1
        for run in np.split(order, apart):
            low, length = int(offsets[run[0]]), int(offsets[run[-1]] + sizes[run[-1]] - offsets[run[0]])
            if length > PIECE + len(run) * self.chunk_bytes:  # more than such chunks need: one at a time
                yield from ((place, first + place, None) for place in run.tolist())
                continue
            stored = memoryview(self._file.read_at(low, length))
            for place, at, size in zip(
                run.tolist(), (offsets[run] - low).tolist(), sizes[run].tolist(), strict=True
            ):
                yield place, first + place, stored[at : at + size]

    def _whole(self, number: int, stored: memoryview | None) -> bytes:
        """The values of a chunk as bytes; `stored`: its bytes in the file, where they were read already."""
        data = self._in_one_step(number, stored) or b"".join(self.pieces(number))
        return unshuffle(data, self.dtype.itemsize) if self.shuffled(number) else data

    def _in_one_step(self, number: int, stored: memoryview | None) -> bytes | None:
        """A chunk that is merely deflated, and small; None for the others and for damaged ones."""
        if self._special or self._masks[number]:
            return None
        if stored is None:
            size = int(self._sizes[number])
            if size > PIECE:
                return None
            return inflate_whole(self._file.read_at(int(self._offsets[number]), size), self.chunk_bytes)
        return inflate_whole(stored, self.chunk_bytes)

    def _stored(self, offset: int, size: int) -> Iterator[bytes]:
        for at in range(offset, offset + size, PIECE):
            wanted = min(PIECE, offset + size - at)
            piece = self._file.read_at(at, wanted)
            if len(piece) < wanted:
                raise InflateError(f"a chunk lies beyond byte {at + len(piece)}, where the file ends")
            yield piece

    def _uses(self, place: int | None, number: int) -> bool:
        return place is not None and not int(self._masks[number]) >> place & 1


def unshuffle(data: bytes, itemsize: int) -> bytes:
    """Values from planes of their bytes (HDF5's shuffle filter, undone)."""
    return np.frombuffer(data, np.uint8).reshape(itemsize, -1).T.tobytes()


def fletcher32(pieces: Iterable[bytes]) -> int:
    """HDF5's checksum of pieces of even length (the last may be odd): big-endian words, sums modulo 65535."""
    low = high = 0
    for piece in pieces:
        words = np.frombuffer(piece + b"\0" * (len(piece) % 2), ">u2").astype(np.int64)
        for first in range(0, len(words), 1 << 16):
            part = words[first : first + (1 << 16)]
            weighted = int(part @ np.arange(len(part), 0, -1))
            low, high = (low + int(part.sum())) % 65535, (high + len(part) * low + weighted) % 65535
    return high << 16 | low


def same_fletcher32(made: int, stored: int) -> bool:
    """Equal sums; HDF5 writes 65535 where the remainder is 0."""
    return made >> 16 == (stored >> 16) % 65535 and made & 0xFFFF == (stored & 0xFFFF) % 65535
